"""Attention among the tokens that lie a multiple of `stride` apart, and no others.

    y_n = sum over m of softmax_m(q_n . k_m / sqrt(E)) v_m,    m = n modulo stride

The residue classes are rows of a reshaped sequence, so that nothing is computed only to be masked. Where the stride
does not divide the tokens, the classes that have one token more are attended on their own. After a pass of local
attention with a window as wide as the stride, every token has met every other.

Shapes: B batch, N tokens, D channels, H heads, E = D / H; S classes of A tokens each, [B, A, S, D].
Source: Child et al., "Generating Long Sequences with Sparse Transformers", 2019, without the causal mask.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import folds, parts
from edgepass.models.parts import Count, Tokens

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`stride` is in tokens; 1 is full attention, and one as long as the sequence leaves each token alone."""

    heads: Count = 4
    stride: Count = 4


class Mixer(nn.Module):
    """Multi-head attention inside residue classes, x_BND -> x_BND. `heads` must divide the channels."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim, self.heads = tokens.dim, settings.heads
        parts.head_dim(dim, self.heads)
        self.stride = min(settings.stride, tokens.count)
        self.rows, self.more = divmod(tokens.count, self.stride)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Each token becomes a mixture of the tokens of its own class."""
        classes = (self._classes(f(x_BND)) for f in (self.query, self.key, self.value))
        mixed = [self._attend(*qkv) for qkv in zip(*classes, strict=True)]
        y_BND: Tensor = self.out(self._sequence(mixed))
        return y_BND

    def _classes(self, x_BND: Tensor) -> list[Tensor]:
        """x_BND -> x_BASD: all classes, or those of one token more and those of one less."""
        whole, dim = self.rows * self.stride, x_BND.shape[-1]
        x_BASD = x_BND[:, :whole].reshape(-1, self.rows, self.stride, dim)
        if not self.more:
            return [x_BASD]
        last_B1SD = x_BND[:, whole:].reshape(-1, 1, self.more, dim)
        return [torch.cat([x_BASD[:, :, : self.more], last_B1SD], dim=1), x_BASD[:, :, self.more :]]

    def _sequence(self, classes: list[Tensor]) -> Tensor:
        """The inverse of _classes."""
        whole, dim = self.rows * self.stride, classes[0].shape[-1]
        if not self.more:
            return classes[0].reshape(-1, whole, dim)
        more_BASD, less_BASD = classes
        x_BASD = torch.cat([more_BASD[:, : self.rows], less_BASD], dim=2)
        last_BSD = more_BASD[:, self.rows :].reshape(-1, self.more, dim)
        return torch.cat([x_BASD.reshape(-1, whole, dim), last_BSD], dim=1)

    def _attend(self, q_BASD: Tensor, k_BASD: Tensor, v_BASD: Tensor) -> Tensor:
        _, size, count, dim = q_BASD.shape
        grid = (size, count)

        def rows(x_BASD: Tensor) -> Tensor:
            return folds.split(folds.along(x_BASD.reshape(-1, size * count, dim), grid, 0), self.heads)

        y_RHAE = functional.scaled_dot_product_attention(rows(q_BASD), rows(k_BASD), rows(v_BASD))
        return folds.back(folds.join(y_RHAE), grid, 0).reshape(-1, size, count, dim)
