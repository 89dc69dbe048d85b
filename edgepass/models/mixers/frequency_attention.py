"""Attention among the low frequencies of the tokens, beside a convolution that sees the high ones.

    F = C X,    Y = C^T attention(F),    c_kn = sqrt((2 - [k = 0]) / N) cos(pi k (2n + 1) / 2N) for k < keep * N
    z = W [Y | mobile(X)],    mobile(x) = W_2 relu(depthwise(relu(W_1 x)))

C is the orthonormal discrete cosine transform (DCT-II) with the rows of high frequencies left out, a constant matrix;
on a grid there is one for each axis. The sequence that attends is shorter by as much. That the two paths are parallel
is the paper's; its abstract does not say how they are merged: here one projection takes both.

Shapes: B batch, N tokens, D channels, K = keep * N frequencies; C is [K, N], attention is over [B, K, D].
Source: Ranjbar et al., "DCT-HistoTransformer: Efficient Lightweight Vision Transformer with DCT Integration for
histopathological image analysis", 2024; DCT: Ahmed et al., "Discrete Cosine Transform", 1974.
"""

import math
from typing import Annotated

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import folds, parts
from edgepass.models.mixers import _pictures
from edgepass.models.mixers._pictures import Depthwise
from edgepass.models.parts import Count, Positive, Tokens

GRADE = 0


class Settings(parts.Settings, frozen=True):
    """`keep` is the share of frequencies that attend, along each axis; the odd `window` is in tokens."""

    keep: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    heads: Count = 4
    window: Count = 3
    ratio: Positive = 2.0


class Mixer(nn.Module):
    """Frequency attention beside a mobile convolution, x_BND -> x_BND. `heads` must divide the channels."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim, hidden = tokens.dim, parts.hidden(tokens.dim, settings.ratio)
        self.frequencies = Frequencies(tokens, settings)
        self.widen = nn.Linear(dim, hidden)
        self.near = Depthwise(tokens, hidden, settings.window)
        self.narrow = nn.Linear(hidden, dim)
        self.merge = nn.Linear(2 * dim, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        mobile_BND = self.narrow(self.near(self.widen(x_BND).relu()).relu())
        y_BND: Tensor = self.merge(torch.cat([self.frequencies(x_BND), mobile_BND], dim=-1))
        return y_BND


class Frequencies(nn.Module):
    """Cosine transform, attention, and back: x_BND -> x_BND."""

    rows_UR: Tensor
    columns_VC: Tensor

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim, self.heads = tokens.dim, settings.heads
        parts.head_dim(dim, self.heads)
        self.size, self.count = _pictures.size(tokens), tokens.count
        for name, length in zip(("rows_UR", "columns_VC"), self.size, strict=True):
            kept = max(1, round(settings.keep * length))
            self.register_buffer(name, cosines(length)[:kept].float(), persistent=False)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        f_SDUV = _along(_pictures.pictures(x_BND, self.size), self.rows_UR, self.columns_VC)
        high, wide = f_SDUV.shape[2:]
        f_SKD = _pictures.tokens_of(f_SDUV, high * wide)
        q_SHKE, k_SHKE, v_SHKE = (folds.split(f(f_SKD), self.heads) for f in (self.query, self.key, self.value))
        y_SHKE = functional.scaled_dot_product_attention(q_SHKE, k_SHKE, v_SHKE)
        y_SDUV = _pictures.pictures(folds.join(y_SHKE), (high, wide))
        return _pictures.tokens_of(_along(y_SDUV, self.rows_UR.T, self.columns_VC.T), self.count)


def cosines(length: int) -> Tensor:
    """The orthonormal DCT-II as a matrix c_KN, float64; its rows are frequencies, lowest first."""
    n = torch.arange(length, dtype=torch.float64)
    c_KN = torch.cos(math.pi / (2 * length) * n[:, None] * (2 * n + 1)) * math.sqrt(2 / length)
    c_KN[0] /= math.sqrt(2)
    return c_KN


def _along(x_SDRC: Tensor, rows_UR: Tensor, columns_VC: Tensor) -> Tensor:
    """rows_UR x columns_VC^T of every channel."""
    y_SDRV = functional.linear(x_SDRC, columns_VC)
    if rows_UR.shape == (1, 1):
        return y_SDRV
    return functional.linear(y_SDRV.transpose(2, 3), rows_UR).transpose(2, 3)
