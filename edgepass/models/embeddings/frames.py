"""Square patches of every frame of a video as a grid of tokens; a single frame is an image.

    t_frc = W z_(f, rP ... rP + P - 1, cP ... cP + P - 1) + b

A band of P rows is cut on its own, with the frames and the bands in the batch, so that no tensor has more than four
axes. A convolution of stride P would give the same, but XNNPACK keeps the weights of one in float32 beside fp16.

Shapes: B batch, F frames, R rows, C columns, P patch, K = F R / P bands of a video, N = K C / P tokens, D width;
W is [D, P * P].
Source: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", 2021; frame by
frame as in Arnab et al., "ViViT: A Video Vision Transformer", 2021.
"""

from typing import Any

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Count, Tokens

GRADE = 0
SHAPE = ("frames", "rows", "columns")
EXAMPLE: dict[str, Any] = {"head": {"name": "classify"}}
"""A video and its class."""


class Settings(parts.Settings, frozen=True):
    """`size` is the side of a patch in pixels; it must divide rows and columns."""

    size: Count = 4


class Embedding(nn.Module):
    """z_BFRC -> x_BND, frame by frame."""

    def __init__(self, shape: tuple[int, ...], dim: int, settings: Settings) -> None:
        super().__init__()
        frames, rows, columns = shape
        self.size = settings.size
        parts.must(
            rows % self.size == 0 and columns % self.size == 0,
            f"patches of {self.size} do not divide frames of {rows} by {columns}; "
            "take a size that divides both, or pad the frames",
        )
        self.tokens = Tokens((frames, rows // self.size, columns // self.size), dim)
        self.project = nn.Linear(self.size * self.size, dim)

    def forward(self, z_BFRC: Tensor) -> Tensor:
        """z_BFRC -> x_BND."""
        columns = self.tokens.grid[2]
        band_KPCP = z_BFRC.reshape(-1, self.size, columns, self.size)
        patch_BNP = band_KPCP.transpose(1, 2).reshape(-1, self.tokens.count, self.project.in_features)
        x_BND: Tensor = self.project(patch_BNP)
        return x_BND
