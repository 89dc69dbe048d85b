"""Small models that say one thing in many ways, each way an output of its own, so that none hides another."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


class Padded(nn.Module):
    """Padding in words: even kernels, dilation, one and two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.even = nn.Conv2d(3, 4, (2, 3), padding="same", dilation=(1, 2))
        self.line = nn.Conv1d(3, 5, 4, padding="same")
        self.valid = nn.Conv1d(3, 5, 3, padding="valid", stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.even(x[..., None].expand(-1, -1, -1, 3)), self.line(x), self.valid(x)


class Factored(nn.Module):
    """Factors beside operands."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.weight, self.bias = nn.Linear(7, 7), nn.Parameter(torch.randn(7, 5)), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.layer(x)
        flat = x.flatten(0, 1)
        return (
            torch.sub(4 * y, x, alpha=0.7),
            torch.add(y, x, alpha=-3),
            torch.rsub(y, x, alpha=2),
            torch.addmm(self.bias(flat), flat, self.weight, beta=0.5, alpha=2),
            torch.addcmul(y, x, x, value=0.3),
        )


class Products(nn.Module):
    """Weights that no layer holds, and weights that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.right, self.left = nn.Parameter(torch.randn(7, 6)), nn.Parameter(torch.randn(4, 3))
        self.letters = nn.Parameter(torch.randn(3, 7, 5))
        self.normed = weight_norm(nn.Conv1d(3, 4, 3, padding="same"))
        nn.init.normal_(self.normed.parametrizations.weight.original0)
        self.halves = nn.Parameter(torch.randn(7, 8))
        self.low, self.high = nn.Parameter(torch.randn(7, 2)), nn.Parameter(torch.randn(2, 9))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first, second = self.halves.chunk(2, 1)
        return (
            x @ self.right,
            self.left @ x,
            torch.einsum("...cl,clk->...k", x, self.letters),
            self.normed(x),
            torch.tanh(x @ first) + x @ second,
            x @ (self.low @ self.high),
        )


class Hidden(nn.Module):
    """Attention whose mask hides rows whole: of an input, of bools, of -inf; scores beyond any mask's constant."""

    def __init__(self) -> None:
        super().__init__()
        shown = torch.ones(5, 5).tril(-1).bool()  # the first row sees nothing
        self.register_buffer("bools", shown)
        self.register_buffer("floats", torch.zeros(5, 5).masked_fill(~shown, -torch.inf))
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, shown: Tensor) -> tuple[Tensor, ...]:
        q = self.layer(x)[:, None]
        attend = functional.scaled_dot_product_attention
        mask = (shown[:, None, :, None] * shown[:, None, None, :]) > 0.5
        return (
            attend(q, q, q, self.bools),
            attend(q, q, q, self.floats),
            attend(q, q, q, mask),
            attend(q, q, q, torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -torch.inf)),
            attend(1e3 * q, -1e3 * q.abs(), q, self.bools),
            attend(1e3 * x[:, None], -1e3 * x[:, None].abs(), q, is_causal=True),  # int8 moves no key to the front
        )


class Named(nn.Module):
    """Outputs with names, without tensors, of an input, and twice the same."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 7)

    def forward(self, x: Tensor) -> dict[str, object]:
        y = self.layer(x)
        return {"best": torch.topk(x, 2), "rest": (y, None, 3, y), "given": x, "most": x.max(-1)}


class Parts(nn.Module):
    """Weights that are parts of others or lie transposed, and a buffer that is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.both = nn.Parameter(torch.randn(14, 8))
        self.bias = nn.Parameter(torch.randn(5, 7, 2))
        self.register_buffer("part", torch.randn(9, 8)[2:7])

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        first, second = self.both.chunk(2)
        scores = (x[:, :, None] * memory[:, None]).unflatten(-1, (2, 4)).sum(-1).permute(0, 3, 1, 2)
        attended = self.attention(x + self.part, memory, memory, need_weights=False)[0]
        return attended, memory * first, memory * second, scores * self.bias.permute(2, 0, 1)[None]


class Spectra(nn.Module):
    """Transforms, filters, rotations and short-time transforms, in complex numbers on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(3, 4, 2))
        self.register_buffer("turns", torch.polar(torch.ones(4), torch.randn(4)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        whole = torch.fft.rfft2(x, norm="ortho")
        filtered = whole * torch.view_as_complex(self.filter)
        modes = torch.zeros(1, 3, 4, dtype=torch.cfloat)
        modes[:, :2, :2] = whole[:, :2, :3] @ torch.view_as_complex(self.filter)[0, :3, None]
        mixed = torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2)
        pairs = torch.view_as_complex(functional.pad(x, (0, 1)).unflatten(-1, (-1, 2)))
        rows, window = functional.pad(x, (16, 16)), torch.hann_window(16)
        short = torch.stft(rows[0], 16, 5, window=window, return_complex=True)
        return (
            torch.fft.irfft2(filtered, s=x.shape[-2:], norm="ortho"),
            torch.fft.irfftn(modes, s=(3, 7), dim=(-2, -1)),
            mixed.real,
            (mixed / (2j + whole.abs().sum())).imag,
            torch.view_as_real(pairs * self.turns).flatten(-2),
            torch.fft.fftshift(whole, dim=-2).abs(),
            torch.stack([short.real, short.imag, (short * short.conj()).real, torch.exp(short / 8).imag]),
            torch.istft(short * torch.sigmoid(short.abs()), 16, 5, window=window, length=39),
        )


def inputs(model: nn.Module) -> tuple[Tensor, ...]:
    """Example arguments of one of these models, drawn anew at each call."""
    match model:
        case Padded() | Factored() | Products() | Named() | Spectra():
            return (torch.randn(1, 3, 7),)
        case Hidden():
            return torch.randn(1, 5, 4), (torch.rand(1, 5) > 0.4).float()
        case _:
            return torch.randn(1, 5, 8), torch.randn(1, 7, 8)


MODELS = (Padded, Factored, Products, Hidden, Named, Parts)
