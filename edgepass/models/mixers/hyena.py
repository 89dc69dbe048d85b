"""Long convolutions whose filters a small network draws from positions, with gates of the tokens' own between them.

    z_1 = v,    z_(i+1) = g_i * (h_i conv z_i) for i = 1 ... order,    y = W z_(order+1) + b
    h_i(t) = W_3 sin(f W_2 sin(f W_1 p(t))) exp(-a t / K) + d_i [t = 0],    t = 0 ... K - 1

v and the gates g_i are linear maps of the tokens, each then convolved with a few causal taps; p(t) is t / K and some
of its waves. The filters depend on weights alone, so an exported graph holds them as constants, without the network.
They cost 2 D N K operations each, for no edge runtime has an FFT.

Shapes: B batch, N tokens, D channels, K = min(taps, N) taps, F features of a position, W width; h_i is
[D, K], v, g_i and z_i are [B, D, N].
Source: Poli et al., "Hyena Hierarchy: Towards Larger Convolutional Language Models", 2023.
"""

import math

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.baking import Baked
from edgepass.models.mixers import _causal
from edgepass.models.parts import Count, Positive, Tokens

GRADE = 1
FLOOR, SLOW, FAST = 1e-2, 1.5, 0.3
"""The first channel's window is down to FLOOR after SLOW lengths of the filter, the last one's after FAST."""


class Settings(parts.Settings, frozen=True):
    """`taps` bounds the filters, `short` the convolutions before; `width`, `bands`, `frequency` are the network's."""

    order: Count = 2
    taps: Count = 512
    short: Count = 3
    width: Count = 16
    bands: Count = 4
    frequency: Positive = 10.0


class Mixer(nn.Module):
    """Causal: x_BND -> x_BND."""

    def __init__(self, tokens: Tokens, settings: Settings) -> None:
        super().__init__()
        dim, taps, short = tokens.dim, min(settings.taps, tokens.count), min(settings.short, tokens.count)
        self.streams = nn.ModuleList(Stream(dim, short) for _ in range(settings.order + 1))
        self.filters = nn.ModuleList(Baked(Filter(dim, taps, settings)) for _ in range(settings.order))
        self.out = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Each token is given what its gates let through of the tokens up to it."""
        z_BDN, *gates_BDN = (stream(x_BND) for stream in self.streams)
        for gate_BDN, table in zip(gates_BDN, self.filters, strict=True):
            z_BDN = gate_BDN * _causal.conv(z_BDN, table())
        y_BND: Tensor = self.out(z_BDN.transpose(1, 2))
        return y_BND


class Stream(nn.Module):
    """A linear map, then a short convolution of each channel: x_BND -> z_BDN."""

    def __init__(self, dim: int, taps: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, dim)
        self.short = nn.Conv2d(dim, dim, (1, taps), groups=dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> z_BDN."""
        return _causal.conv(self.project(x_BND).transpose(1, 2), self.short.weight, self.short.bias)


class Filter(nn.Module):
    """Draws a depthwise kernel [D, 1, 1, K], the tap of the token itself last."""

    features_KF: Tensor
    window_D11K: Tensor
    here_K: Tensor

    def __init__(self, dim: int, taps: int, settings: Settings) -> None:
        super().__init__()
        t_K = torch.arange(taps - 1, -1, -1, dtype=torch.float64) / taps
        angle_KF = 2 * math.pi * t_K[:, None] * torch.arange(1, settings.bands + 1)
        features_KF = torch.cat([t_K[:, None], angle_KF.cos(), angle_KF.sin()], dim=1)
        rate_D111 = -math.log(FLOOR) * torch.linspace(1 / SLOW, 1 / FAST, dim, dtype=torch.float64)[:, None, None, None]
        for name, constant in (
            ("features_KF", features_KF),
            ("window_D11K", torch.exp(-rate_D111 * t_K)),
            ("here_K", t_K == 0),
        ):
            self.register_buffer(name, constant.to(torch.get_default_dtype()), persistent=False)
        self.first = nn.Linear(features_KF.shape[1], settings.width)
        self.second = nn.Linear(settings.width, settings.width)
        self.third = nn.Linear(settings.width, dim, bias=False)
        self.frequency = nn.Parameter(torch.full((settings.width,), settings.frequency))
        self.direct_D111 = nn.Parameter(torch.ones(dim, 1, 1, 1))

    def forward(self) -> Tensor:
        """The kernel."""
        hidden_KW = torch.sin(self.frequency * self.first(self.features_KF))
        hidden_KW = torch.sin(self.frequency * self.second(hidden_KW))
        h_D11K = self.third(hidden_KW).T[:, None, None] * self.window_D11K
        kernel_D11K: Tensor = (h_D11K + self.direct_D111 * self.here_K).contiguous()
        return kernel_D11K
