"""One gated head: exact attention inside chunks, linearised attention over all tokens, from one shared projection.

    [u | v], s = near(silu(W x)), near(silu(W_s x));    near(x) = x + depthwise(x)
    q, k, q', k' = s with a learned scale and shift each
    A = [same chunk] relu(q k^T / W)^2 + q' k'^T / N
    y = near(silu(W_o norm((A u) v sigmoid((A v) u))))

A is never made: its first term is a product inside each chunk, its second q' (k'^T [u | v] / N). There is no softmax.
A shorter chunk at the end attends on its own. The published code also turns queries and keys by rotary positions and
shifts half of the channels by a token; positions are the encoding's here, and the convolutions reach further. Scales
start at 1, not near 0, where float16 would lose what the norm of the product makes large again.

Shapes: B batch, N tokens, D channels, F = ratio * D, E keys, W chunk; u and v are [B, N, F], q and k [B, N, E].
Source: Zhao and Ma, "MossFormer: Pushing the Performance Limit of Monaural Speech Separation using Gated Single-Head
Transformer with Convolution-Augmented Joint Self-Attentions", 2023, and the code published with it; Hua et al.,
"Transformer Quality in Linear Time", 2022.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import parts
from edgepass.models.mixers import _linear
from edgepass.models.mixers._pictures import Depthwise
from edgepass.models.parts import Count, Positive, Tokens

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`chunk` and the odd `window` of the convolutions are in tokens; `keys` is the width of queries and keys."""

    chunk: Count = 16
    keys: Count = 16
    ratio: Positive = 2.0
    window: Count = 17


class Mixer(nn.Module):
    """Gated joint attention: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        hidden, keys = parts.hidden(tokens.dim, settings.ratio), settings.keys
        self.count, self.chunk = tokens.count, min(settings.chunk, tokens.count)
        self.values = Near(tokens, tokens.dim, 2 * hidden, settings.window)
        self.shared = Near(tokens, tokens.dim, keys, settings.window)
        self.scale_4E = nn.Parameter(torch.ones(4, keys))
        self.shift_4E = nn.Parameter(torch.zeros(4, keys))
        self.norm = nn.LayerNorm(hidden)
        self.out = Near(tokens, hidden, tokens.dim, settings.window)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        uv_BNG, s_BNE = self.values(x_BND), self.shared(x_BND)
        q_BNE, k_BNE, far_q_BNE, far_k_BNE = (s_BNE * self.scale_4E[i] + self.shift_4E[i] for i in range(4))
        mixed_BNG = self._near(q_BNE, k_BNE, uv_BNG)
        mixed_BNG = mixed_BNG + torch.bmm(far_q_BNE, _linear.summary(far_k_BNE.transpose(1, 2), uv_BNG))
        (u_BNF, v_BNF), (mixed_u_BNF, mixed_v_BNF) = _halves(uv_BNG), _halves(mixed_BNG)
        gated_BNF = mixed_u_BNF * v_BNF * torch.sigmoid(mixed_v_BNF * u_BNF)
        y_BND: Tensor = self.out(self.norm(gated_BNF))
        return y_BND

    def _near(self, q_BNE: Tensor, k_BNE: Tensor, v_BNG: Tensor) -> Tensor:
        """Attention of each chunk, of the shorter last one on its own."""
        whole = self.count - self.count % self.chunk
        chunks = []
        for start, stop, width in ((0, whole, self.chunk), (whole, self.count, self.count - whole)):
            if start < stop:
                q_KWE, k_KWE, v_KWG = (x[:, start:stop].reshape(-1, width, x.shape[-1]) for x in (q_BNE, k_BNE, v_BNG))
                scores_KWW = torch.bmm(q_KWE * (1.0 / self.chunk), k_KWE.transpose(1, 2)).relu()
                y_KWG = torch.bmm(scores_KWW * scores_KWW, v_KWG)
                chunks.append(y_KWG.reshape(-1, stop - start, v_BNG.shape[-1]))
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=1)


class Near(nn.Module):
    """A projection with SiLU, and the neighbours of what it gives: x_BND -> y_BNF."""

    def __init__(self, tokens: Tokens, into: int, out: int, window: int) -> None:
        super().__init__()
        self.project = nn.Linear(into, out)
        self.near = Depthwise(tokens, out, window)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> y_BNF."""
        h_BNF = functional.silu(self.project(x_BND))
        y_BNF: Tensor = h_BNF + self.near(h_BNF)
        return y_BNF


def _halves(x_BNG: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last half of the channels."""
    half = x_BNG.shape[-1] // 2
    return x_BNG[..., :half], x_BNG[..., half:]
