"""Some channels look closely, through a max pool and a convolution; the others attend to coarse averages.

    x = [l | c | p];    h_c = gelu(depthwise(W_c c)),    h_p = gelu(W_p maxpool(p) + b_p)
    h_l = upsample(attention(avgpool(l))),    z = [h_c | h_p | h_l],    y = W (z + depthwise(z)) + b

Both close paths double their channels. Each path has its own rows of the last convolution and columns of W, and they
are summed: TFLite's int8 converter cannot concatenate what has different scales. Blocks at the end that are shorter
than `pool` are averaged on their own, and every token of a block gets what the block attended to. All blocks attend,
also across pictures. A frequency ramp, more `low` in later passes, is the configuration's.

Shapes: B batch, N tokens, D channels, L = low * D rounded to heads, H = D - L; z is [B, N, 2H + L].
Source: Si et al., "Inception Transformer", 2022.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import folds, parts
from edgepass.models.mixers import _pictures
from edgepass.models.mixers._pictures import Depthwise, Size
from edgepass.models.parts import Count, Share, Tokens

GRADE = 1


class Settings(parts.Settings, frozen=True):
    """`low` is the share of channels that attend; `pool` and the odd `window` are in tokens along each axis."""

    low: Share = 0.5
    heads: Count = 4
    pool: Count = 2
    window: Count = 3


class Mixer(nn.Module):
    """Inception mixer: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        share = round(tokens.dim * settings.low / settings.heads)
        low = max(1, share) * settings.heads if settings.low else 0
        high = tokens.dim - low
        parts.must(
            high >= 2,
            f"low {settings.low} of {tokens.dim} channels leaves {high} for the convolution and the max pool; leave 2",
        )
        self.conv_in, self.pool_in = high // 2, high - high // 2
        self.conv = nn.Linear(self.conv_in, 2 * self.conv_in, bias=False)
        self.near = Depthwise(tokens, 2 * self.conv_in, settings.window)
        self.max = Peaks(tokens, settings.window)
        self.peaks = nn.Linear(self.pool_in, 2 * self.pool_in)
        self.coarse = Coarse(tokens, low, settings) if low else None
        widths = [n for n in (2 * self.conv_in, 2 * self.pool_in, low) if n]
        self.blends = nn.ModuleList(Depthwise(tokens, n, settings.window) for n in widths)
        self.fuses = nn.ModuleList(nn.Linear(n, tokens.dim, bias=not i) for i, n in enumerate(widths))

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        high = self.conv_in + self.pool_in
        c_BNC, p_BNP = x_BND[..., -high : -self.pool_in], x_BND[..., -self.pool_in :]
        paths = [
            functional.gelu(self.near(self.conv(c_BNC))),
            functional.gelu(self.peaks(self.max(p_BNP))),
        ]
        if self.coarse is not None:
            paths.append(self.coarse(x_BND[..., :-high]))
        fused: list[Tensor] = [f(z_BNZ + b(z_BNZ)) for z_BNZ, b, f in zip(paths, self.blends, self.fuses, strict=True)]
        y_BND = fused[0]
        for more_BND in fused[1:]:
            y_BND = y_BND + more_BND
        return y_BND


class Peaks(nn.Module):
    """The greatest value of each channel around a token: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, width: int) -> None:
        super().__init__()
        self.size, self.count = _pictures.size(tokens), tokens.count
        self.window = _pictures.kernel(self.size, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        x_SDRC = _pictures.pictures(x_BND, self.size)
        return _pictures.tokens_of(
            functional.max_pool2d(x_SDRC, self.window, 1, _pictures.padding(self.window)), self.count
        )


class Coarse(nn.Module):
    """Attention over averaged blocks, given back to each token of a block: l_BNL -> l_BNL."""

    tall_T1: Tensor
    wide_T1: Tensor

    def __init__(self, tokens: Tokens, channels: int, settings: Settings) -> None:
        super().__init__()
        self.size, self.count, self.heads = _pictures.size(tokens), tokens.count, settings.heads
        self.block: Size = min(settings.pool, self.size[0]), min(settings.pool, self.size[1])
        self.coarse: Size = -(-self.size[0] // self.block[0]), -(-self.size[1] // self.block[1])
        self.blocks = self.count // (self.size[0] * self.size[1]) * self.coarse[0] * self.coarse[1]
        for name, times in zip(("tall_T1", "wide_T1"), self.block, strict=True):
            self.register_buffer(name, torch.ones(times, 1), persistent=False)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)

    def forward(self, l_BNL: Tensor) -> Tensor:
        """l_BNL -> l_BNL."""
        x_SLRC = _pictures.pictures(l_BNL, self.size)
        for axis in (0, 1):
            x_SLRC = _shrunk(x_SLRC, axis, self.block[axis])
        x_BKL = _pictures.tokens_of(x_SLRC, self.blocks)
        q_BHKE, k_BHKE, v_BHKE = (folds.split(f(x_BKL), self.heads) for f in (self.query, self.key, self.value))
        y_BHKE = functional.scaled_dot_product_attention(q_BHKE, k_BHKE, v_BHKE)
        return self._grown(folds.join(y_BHKE))

    def _grown(self, y_BKL: Tensor) -> Tensor:
        """Each block's values for each of its tokens."""
        width = y_BKL.shape[-1]
        rows, columns = self.size
        y_PCL = _copied(y_BKL.reshape(-1, self.coarse[1], width), self.wide_T1, columns)
        y_SRX = _copied(y_PCL.reshape(-1, self.coarse[0], columns * width), self.tall_T1, rows)
        return y_SRX.reshape(-1, self.count, width)


def _copied(y_SKX: Tensor, ones_T1: Tensor, length: int) -> Tensor:
    """Every y_X T times over, `length` in all."""
    _, count, width = y_SKX.shape
    times = ones_T1.shape[0]
    if times == 1:
        return y_SKX
    # A product, since a tensor that is concatenated with itself leaves ExecuTorch's delegate and is wrong in int8.
    y_SKTX = y_SKX.reshape(-1, count, 1, width) * ones_T1
    return y_SKTX.reshape(-1, count * times, width)[:, :length]


def _shrunk(x_SDRC: Tensor, axis: int, block: int) -> Tensor:
    """Means of blocks of `block` along rows (0) or columns (1), the last block of what remains."""
    dim = 2 + axis
    length = x_SDRC.shape[dim]
    whole = length - length % block
    pieces = []
    for start, stop, width in ((0, whole, block), (whole, length, length - whole)):
        if start < stop:
            window = (width, 1) if axis == 0 else (1, width)
            pieces.append(functional.avg_pool2d(x_SDRC.narrow(dim, start, stop - start), window))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=dim)
