"""Attention whose weights fall off with the distance on the grid, faster in some heads, and a local detail beside it.

    Y = W_o ((softmax(Q K^T / sqrt(E)) * G) V + L(V)),    G_nm = gamma^|n - m|,    gamma = 1 - 2^-(near + span h / H)

|n - m| is the Manhattan distance, h the head, 0 the most short-sighted, and L a depthwise convolution over the last two
axes. G is the product of a decay for each axis, so the axes may also be attended apart, last axis first: V becomes
(softmax(Q K^T / sqrt(E)) * G_a) V along one axis a after another, at the cost of axial attention. G multiplies weights
that are no more than 1; added to the scores instead, its logarithm would stretch their int8 range.

Shapes: B batch, N tokens over the grid, D channels, H heads, E = D / H; Q, K and V are [B, H, N, E], G is [H, N, N], or
[H, A, A] along an axis of A tokens; R rows, the batch times what is folded into it, S = R * H.
Source: Fan et al., "RMT: Retentive Networks Meet Vision Transformers", 2023.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from edgepass.models import folds, parts
from edgepass.models.parts import Count, Positive, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`axes` are attended `together` or `apart`; `near` and `span` set the decays; `kernel` is the convolution's."""

    heads: Count = 4
    axes: Literal["together", "apart"] = "together"
    near: Positive = 2.0
    span: Positive = 4.0
    kernel: Count = 5


class Mixer(nn.Module):
    """Decaying attention and local enhancement, x_BND -> x_BND. `heads` must divide the channels."""

    scale_1: Tensor

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim, self.grid, self.heads = tokens.dim, tokens.grid, settings.heads
        width = parts.head_dim(dim, self.heads)
        parts.must(settings.kernel % 2 == 1, f"kernel is {settings.kernel}; it must be odd, to be centred on a token")
        self.folds = self.grid if settings.axes == "apart" else (tokens.count,)
        for axis, decay_HAA in enumerate(decays(self.grid, settings)):
            self.register_buffer(f"decay_{axis}", decay_HAA.float(), persistent=False)
        # A tensor, because a bare number would stay float32 in a float16 graph.
        self.register_buffer("scale_1", torch.tensor([width**-0.5]), persistent=False)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        conv = nn.Conv1d if len(self.grid) == 1 else nn.Conv2d
        self.local = conv(dim, dim, settings.kernel, padding=settings.kernel // 2, groups=dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Each token becomes a mixture of the tokens around it."""
        q_BND, k_BND, v_BND = self.query(x_BND) * self.scale_1, self.key(x_BND), self.value(x_BND)
        y_BND = v_BND
        for axis in reversed(range(len(self.folds))):
            y_BND = self._attend(q_BND, k_BND, y_BND, axis)
        mixed_BND: Tensor = self.out(y_BND + self._enhance(v_BND))
        return mixed_BND

    def _attend(self, q_BND: Tensor, k_BND: Tensor, v_BND: Tensor, axis: int) -> Tensor:
        size, width = self.folds[axis], v_BND.shape[-1] // self.heads
        # Heads beside the batch: a product of four dimensions would be expanded first, outside the delegates.
        q_SAE, k_SAE, v_SAE = (
            folds.split(folds.along(x_BND, self.folds, axis), self.heads).reshape(-1, size, width)
            for x_BND in (q_BND, k_BND, v_BND)
        )
        weights_SAA = torch.softmax(torch.bmm(q_SAE, k_SAE.transpose(1, 2)), dim=-1)
        weights_RHAA = weights_SAA.reshape(-1, self.heads, size, size) * self.get_buffer(f"decay_{axis}")
        y_SAE = torch.bmm(weights_RHAA.reshape(-1, size, size), v_SAE)
        return folds.back(folds.join(y_SAE.reshape(-1, self.heads, size, width)), self.folds, axis)

    def _enhance(self, v_BND: Tensor) -> Tensor:
        """The convolution of the values, over the last two axes where there are more."""
        _, tokens, dim = v_BND.shape
        if len(self.grid) == 1:
            y_BDN: Tensor = self.local(v_BND.transpose(1, 2))
            return y_BDN.transpose(1, 2)
        y_RDAA: Tensor = self.local(v_BND.reshape(-1, *self.grid[-2:], dim).permute(0, 3, 1, 2))
        return y_RDAA.permute(0, 2, 3, 1).reshape(-1, tokens, dim)


def decays(grid: tuple[int, ...], settings: Settings) -> list[Tensor]:
    """G of each axis as float64 [H, A, A], or of all tokens at once as the one [H, N, N]."""
    h_H11 = torch.arange(settings.heads, dtype=torch.float64)[:, None, None]
    gamma_H11 = 1 - 2 ** -(settings.near + settings.span * h_H11 / settings.heads)
    apart = []
    for size in grid:
        n_A = torch.arange(size)
        apart.append(gamma_H11 ** (n_A[:, None] - n_A).abs())
    if settings.axes == "apart":
        return apart
    whole_HNN = apart[0]
    for next_HAA in apart[1:]:
        whole_HNN = torch.stack([torch.kron(a, b) for a, b in zip(whole_HNN, next_HAA, strict=True)])
    return [whole_HNN]
