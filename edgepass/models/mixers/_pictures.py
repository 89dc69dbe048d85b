"""Tokens of a grid as pictures, the layout that convolutions and pools take.

A sequence is a picture of one row. A series of several variates is a sequence for each of them: their order means
nothing, so nothing is local across it. A video is a picture for each frame.

Shapes: B batch, N tokens, D channels, R rows, C columns; S = B * N / (R * C) pictures.
"""

from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.parts import Tokens

Size = tuple[int, int]
"""Along rows and columns: (R, C) of a picture, or what a kernel covers of it."""


def size(tokens: Tokens) -> Size:
    """R and C of the pictures that the tokens make."""
    first = 1 if tokens.variates > 1 and len(tokens.grid) > 1 else 0
    rows, columns = (1, *tokens.grid[first:])[-2:]
    return rows, columns


def pictures(x_BND: Tensor, of: Size) -> Tensor:
    """x_BND -> x_SDRC."""
    return x_BND.reshape(-1, *of, x_BND.shape[-1]).permute(0, 3, 1, 2)


def tokens_of(x_SDRC: Tensor, count: int) -> Tensor:
    """x_SDRC -> x_BND, `count` tokens of each sequence."""
    return x_SDRC.permute(0, 2, 3, 1).reshape(-1, count, x_SDRC.shape[1])


def kernel(of: Size, width: int) -> Size:
    """A window of `width` along each axis, cut to what of it can meet a token. Raises InputError for an even width."""
    parts.must(width % 2 == 1, f"a window of {width} tokens has no middle; give an odd number, such as {width + 1}")
    return min(width, 2 * of[0] - 1), min(width, 2 * of[1] - 1)


def padding(window: Size) -> Size:
    """What a window needs around a picture to be centred on each of its tokens."""
    return window[0] // 2, window[1] // 2


class Depthwise(nn.Module):
    """One filter for each channel, over the neighbours of a token in its picture: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, channels: int, width: int) -> None:
        super().__init__()
        self.size, self.count = size(tokens), tokens.count
        window = kernel(self.size, width)
        self.conv = nn.Conv2d(channels, channels, window, padding=padding(window), groups=channels)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        return tokens_of(self.conv(pictures(x_BND, self.size)), self.count)
