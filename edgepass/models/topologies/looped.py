"""Passes at the beginning and the end, and between them passes that come over and over with the same weights.

    S_1 ... S_n = x                             each of n residual streams starts as what the beginning gives
    u = sum_j r_lj S_j                          what loop l reads from them
    f = middle(u) - u                           what the middle passes add to it
    S_i = sum_j A_lij S_j + b_li f              after each loop, a small matrix mixes the streams: hyper-connections
    y = end(sum_j r_j S_j)

The start is a plain loop, x -> middle(x): A_l = I, b_l = 1, loop l reads stream l mod n and the end the mean. A loop
has its own r, A and b, n (n + 2) values; the middle's weights are there once. The streams are mixed by multiplying and
adding, not by a linear layer: quantisers make 8 bits of what goes into one, and a residual stream should keep more; and
a matrix product of so few columns takes longer on a CPU.

Shapes: B batch, N tokens, D channels, n streams; x, u, f, y and every S_i are [B, N, D], A_l is [n, n], r_l and b_l are
[n].
Sources: Zeitoun et al., "Hyperloop Transformers", 2026; the connections in their static form, Zhu et al.,
"Hyper-Connections", 2025; with 1 stream Gao et al., "On the Expressive Power of a Variant of the Looped Transformer",
2024.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Count, Tokens
from edgepass.models.passes import Pass

GRADE = 1
EXAMPLE = {
    "passes": [
        {"channel_mixer": {"name": "feed_forward"}},
        {"mixer": {"name": "local_attention"}, "channel_mixer": {"name": "feed_forward"}},
        {"channel_mixer": {"name": "feed_forward"}},
    ]
}
"""A pass to begin with, one that loops, one to end with."""


class Settings(parts.Settings, frozen=True):
    """How many passes `begin` and `end`; those between come `loops` times. 1 of the `streams` is a plain loop."""

    loops: Count = 2
    streams: Count = 2
    begin: Annotated[int, msgspec.Meta(ge=0)] = 1
    end: Annotated[int, msgspec.Meta(ge=0)] = 1


class Topology(nn.Module):
    """x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, passes: Sequence[PassConfig], settings: Settings) -> None:
        super().__init__()
        begin, end = settings.begin, len(passes) - settings.end
        parts.must(
            begin < end,
            f"begin = {settings.begin} and end = {settings.end} leave none of {len(passes)} passes to loop; "
            "give it more passes, or begin = 0 and end = 0 to loop all",
        )
        self.tokens, self.loops, self.streams = tokens, settings.loops, settings.streams
        self.begin = nn.Sequential(*(Pass(tokens, p) for p in passes[:begin]))
        self.middle = nn.Sequential(*(Pass(tokens, p) for p in passes[begin:end]))
        self.end = nn.Sequential(*(Pass(tokens, p) for p in passes[end:]))
        if self.streams > 1:
            loops, eye_nn = range(self.loops), torch.eye(self.streams)
            self.reads = nn.ParameterList(eye_nn[loop % self.streams].clone() for loop in loops)
            self.mixes = nn.ParameterList(torch.cat([eye_nn, torch.ones(1, self.streams)]) for _ in loops)
            self.last = nn.Parameter(torch.full((self.streams,), 1 / self.streams))

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        x_BND = self.begin(x_BND)
        x_BND = self._plain(x_BND) if self.streams == 1 else self._connected(x_BND)
        y_BND: Tensor = self.end(x_BND)
        return y_BND

    def _plain(self, x_BND: Tensor) -> Tensor:
        for _ in range(self.loops):
            x_BND = self.middle(x_BND)
        return x_BND

    def _connected(self, x_BND: Tensor) -> Tensor:
        streams = [x_BND] * self.streams
        for read_n, mix_mn in zip(self.reads, self.mixes, strict=True):
            u_BND = blend(streams, read_n)
            parts_BND = [*streams, self.middle(u_BND) - u_BND]
            streams = [blend(parts_BND, mix_mn[:, i]) for i in range(self.streams)]
        return blend(streams, self.last)


def blend(streams: Sequence[Tensor], weight_n: Tensor) -> Tensor:
    """The sum of streams, each times its weight."""
    total_BND = streams[0] * weight_n[:1]
    for index, stream_BND in enumerate(streams[1:], start=1):
        total_BND = total_BND + stream_BND * weight_n[index : index + 1]
    return total_BND
