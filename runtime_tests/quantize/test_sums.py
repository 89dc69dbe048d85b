"""Products of float16 that are summed in float16: as noisy as sums of one term after another, and of no other kind."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepass.judging import parity
from edgepass.quantize.sums import SumsInHalves

ROWS = 32


def term_by_term(x: Tensor, w: Tensor) -> Tensor:
    """x [rows, k] times w [k, out]: y = half(y + x w), once for every term."""
    total = torch.zeros(len(x), w.shape[1], dtype=torch.float16)
    for k in range(x.shape[1]):
        total = (total.float() + x[:, k, None].float() * w[k].float()).half()
    return total


def kept_db(module: nn.Module, x: Tensor, made: Tensor) -> float:
    """SQNR of `made` beside the same halves in float64."""
    exact = copy.deepcopy(module).double()(x.double())
    exact = exact[0] if isinstance(exact, tuple) else exact
    return parity.compare(exact.numpy(), made.double().numpy()).sqnr_db


def layer(k: int, outputs: int = 16) -> nn.Linear:
    torch.manual_seed(k)
    return nn.Linear(k, outputs, bias=False).half().eval()


@pytest.mark.parametrize("k", [2, 7, 31, 64, 257, 1024])
@pytest.mark.parametrize("level", [0.0, 1.0])
@torch.no_grad()
def test_the_noise_is_that_of_one_term_after_another(k: int, level: float) -> None:
    linear = layer(k)
    x = (torch.randn(ROWS, k) + level).half()
    turns = kept_db(linear, x, term_by_term(x, linear.weight.T))
    assert kept_db(linear, x, SumsInHalves(linear)(x)) == pytest.approx(turns, abs=2)
    assert kept_db(linear, x, linear(x)) > 71


class Product(nn.Module):
    """Of a matrix with itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ x.transpose(-1, -2)


class Attention(nn.Module):
    """Of a sequence to itself."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


NOISY: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv1d": (lambda: nn.Conv1d(32, 8, 3), (32, 20)),
    "grouped": (lambda: nn.Conv2d(32, 8, 3, groups=4), (32, 9, 9)),
    "depthwise": (lambda: nn.Conv2d(7, 7, 5, groups=7, padding=2), (7, 9, 9)),
    "conv3d": (lambda: nn.Conv3d(8, 8, 3), (8, 5, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(32, 8, 4, 2), (32, 5, 5)),
    "transposed, grouped": (lambda: nn.ConvTranspose1d(32, 8, 3, groups=2), (32, 11)),
    "linear of a vector each": (lambda: nn.Linear(64, 8), (5, 64)),
    "product": (Product, (6, 128)),
    "attention": (Attention, (2, 200, 64)),
    "lstm": (lambda: nn.LSTM(256, 64, batch_first=True), (7, 256)),
    "gru": (lambda: nn.GRU(256, 64, batch_first=True), (7, 256)),
}


@pytest.mark.parametrize("name", NOISY)
@torch.no_grad()
def test_every_kind_of_product_is_summed_so(name: str) -> None:
    torch.manual_seed(0)
    make, shape = NOISY[name]
    module = make().half().eval()
    x = torch.randn(4, *shape).half()
    own, halves = module(x), SumsInHalves(module)(x)
    own, halves = (made[0] if isinstance(made, tuple) else made for made in (own, halves))
    assert halves.shape == own.shape
    assert halves.dtype == own.dtype == torch.float16
    assert 40 < kept_db(module, x, halves) < kept_db(module, x, own) - 3


@given(k=st.integers(1, 40), channels=st.sampled_from([1, 2, 63, 37]), groups=st.booleans(), transposed=st.booleans())
@torch.no_grad()
def test_any_convolution_is_itself_but_for_the_noise(k: int, channels: int, groups: bool, transposed: bool) -> None:
    torch.manual_seed(0)
    kind = nn.ConvTranspose1d if transposed else nn.Conv1d
    module = kind(channels, 2 * channels, k, stride=2, padding=k // 2, groups=channels if groups else 1).half().eval()
    x = torch.randn(2, channels, 41).half()
    assert kept_db(module, x, SumsInHalves(module)(x)) > 35


@torch.no_grad()
def test_float32_and_settings_of_torch_are_left_as_they_were() -> None:
    linear, x = nn.Linear(64, 8).eval(), torch.randn(ROWS, 64)
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    assert torch.equal(SumsInHalves(linear)(x), linear(x))
    with pytest.raises(RuntimeError):
        SumsInHalves(linear)(x[:, 1:])
    assert torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed() == allowed
    assert torch.backends.mkldnn.enabled


@torch.no_grad()
def test_what_float16_cannot_hold_is_infinite_as_it_is_there() -> None:
    linear = nn.Linear(4, 1, bias=False).half().eval()
    linear.weight.fill_(1.0)
    made = SumsInHalves(linear)(torch.full((1, 4), 3e4).half())
    assert np.isinf(made.numpy()).all()
