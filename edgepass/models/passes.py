"""A pass: one lightweight unit of a Passformer.

    x' = x + s_1 g m(norm(x)),    y = x' + s_2 g c(norm(x'))

with a token mixer m (its values times a sigmoid gate, or the gate alone), a channel mixer c, learned scales s of each
channel, and g = sigmoid(w mean(x)), one factor for the whole pass. A part that is left out costs nothing, and without
skip the terms `x +` and `x' +` are gone.

Shapes: B batch, N tokens, D channels; s is [D], g [B, 1, 1].
Sources: Vaswani et al., "Attention Is All You Need", 2017; scales: Touvron et al., "Going deeper with Image
Transformers", 2021, and Bachlechner et al., "ReZero is All You Need", 2020, where they start at 0.
"""

from typing import cast

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Choice, Tokens


class Pass(nn.Module):
    """Token mixer and gate, then channel mixer: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, config: PassConfig) -> None:
        super().__init__()
        self.tokens, self.skip, dim = tokens, config.skip, tokens.dim
        self.mixer = _part("mixers", config.mixer, tokens)
        self.channel_mixer = _part("channel_mixers", config.channel_mixer, tokens)
        self.gate = nn.Linear(dim, dim) if config.gate == "values" else None
        self.whole_gate = nn.Linear(dim, 1) if config.gate == "pass" else None
        mixes = self.mixer is not None or self.gate is not None
        self.norm_mix = nn.LayerNorm(dim) if config.norm and mixes else None
        self.norm_feed = nn.LayerNorm(dim) if config.norm and self.channel_mixer is not None else None
        start = None if config.scale is None else torch.full((dim,), config.scale)
        self.scale_mix = nn.Parameter(start.clone()) if start is not None and mixes else None
        self.scale_feed = nn.Parameter(start.clone()) if start is not None and self.channel_mixer is not None else None

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        gate_B11 = None
        if self.whole_gate is not None:
            gate_B11 = torch.sigmoid(self.whole_gate(x_BND.mean(dim=1, keepdim=True)))
        if self.mixer is not None or self.gate is not None:
            n_BND = x_BND if self.norm_mix is None else self.norm_mix(x_BND)
            y_BND = n_BND if self.mixer is None else self.mixer(n_BND)
            if self.gate is not None:
                y_BND = y_BND * torch.sigmoid(self.gate(n_BND))
            x_BND = self._joined(x_BND, y_BND, self.scale_mix, gate_B11)
        if self.channel_mixer is not None:
            y_BND = self.channel_mixer(x_BND if self.norm_feed is None else self.norm_feed(x_BND))
            x_BND = self._joined(x_BND, y_BND, self.scale_feed, gate_B11)
        return x_BND

    def _joined(self, x_BND: Tensor, y_BND: Tensor, scale_D: Tensor | None, gate_B11: Tensor | None) -> Tensor:
        if scale_D is not None:
            y_BND = y_BND * scale_D
        if gate_B11 is not None:
            y_BND = y_BND * gate_B11
        return x_BND + y_BND if self.skip else y_BND


def _part(kind: str, choice: Choice | None, tokens: Tokens) -> nn.Module | None:
    return None if choice is None else cast(nn.Module, parts.make(kind, choice, tokens))
