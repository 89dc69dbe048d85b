"""Half as many tokens: along time, or along rows and columns, by a map of three neighbours at every second of them.

Variates and frames are never merged. An axis of n tokens becomes one of ceil(n / 2).

Shapes: B batch, N tokens of D channels come in, M of E go out; S sequences or frames of R rows and C columns.
"""

from abc import ABC, abstractmethod

import msgspec
from torch import Tensor, nn

from edgepass.models.cells import on, plane
from edgepass.models.parts import Tokens


class Halving(nn.Module, ABC):
    """x_BND -> x_BME, as `tokens` tell. A subclass says in `halved` what becomes of pictures, with these sizes of it.

    `kernel`, `stride` and `padding` are of a convolution or a pool over [S, D, R, C]; a series has one row.
    """

    def __init__(self, tokens: Tokens, dim: int) -> None:
        super().__init__()
        axes = plane(tokens)
        self.tokens = msgspec.structs.replace(on(tokens, tuple(-(-n // 2) for n in axes)), dim=dim)
        self.plane = (1, *axes)[-2:]
        row = self.plane[0] == 1
        self.kernel, self.stride, self.padding = ((1, 3), (1, 2), (0, 1)) if row else ((3, 3), (2, 2), (1, 1))

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BME."""
        y_SERC = self.halved(x_BND.reshape(-1, *self.plane, x_BND.shape[-1]).permute(0, 3, 1, 2))
        return y_SERC.permute(0, 2, 3, 1).reshape(-1, self.tokens.count, self.tokens.dim)

    @abstractmethod
    def halved(self, x_SDRC: Tensor) -> Tensor:
        """[S, D, R, C] -> [S, E, ceil(R / 2), ceil(C / 2)]."""
