"""Complex tensors and Fourier transforms reach every target as real numbers and products."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepass.errors import CaptureError
from edgepass.exporters._canonical import _fourier
from edgepass.exporters._capture import capture
from runtime_tests.exporters.canonical_models import Spectra

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree

LENGTHS = st.sampled_from([1, 2, 7, 12, 63, 513, 600])
"""Odd, even, prime, and taken as products of two."""
NORMS = st.sampled_from([None, "backward", "ortho", "forward"])


@given(length=LENGTHS, have=st.sampled_from([1, 5, 64]), norm=NORMS, dim=st.sampled_from([-1, 0]), real=st.booleans())
def test_transforms_are_torch_s(length: int, have: int, norm: str | None, dim: int, real: bool) -> None:
    x = torch.randn(have, have) if real else torch.randn(have, have, dtype=torch.complex64)
    given_ = x if real else _fourier.Pair(x.real, x.imag)
    for inverse, right in ((False, torch.fft.fft), (True, torch.fft.ifft)):
        made = _fourier.transform(given_, length, dim, norm, inverse=inverse)
        torch.testing.assert_close(torch.complex(*made), right(x, length, dim, norm), rtol=1e-4, atol=1e-4)
    whole = _fourier.whole(given_, length, dim, norm)
    right_whole = torch.fft.irfft(x.to(torch.complex64), length, dim, norm)
    torch.testing.assert_close(whole, right_whole, rtol=1e-4, atol=1e-4)
    if real:
        half = _fourier.half(x, length, dim, norm)
        torch.testing.assert_close(torch.complex(*half), torch.fft.rfft(x, length, dim, norm), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:A window was not provided")
@given(
    length=st.sampled_from([5, 8, 16]),
    hop=st.sampled_from([1, 2, 3, 4]),
    shorter=st.integers(0, 3),
    windowed=st.booleans(),
    normalized=st.booleans(),
    onesided=st.booleans(),
)
def test_short_transforms_and_back_are_torch_s(
    length: int, hop: int, shorter: int, windowed: bool, normalized: bool, onesided: bool
) -> None:
    x, size = torch.randn(2, 63), length - shorter
    window = torch.rand(size) + 0.5 if windowed else None
    options = (length, hop, size, window)
    right = torch.stft(x, *options, center=False, normalized=normalized, onesided=onesided, return_complex=True)
    made = _fourier.frames(x, *options, normalized, onesided)
    torch.testing.assert_close(torch.complex(*made), right, rtol=1e-4, atol=1e-4)
    if shorter:
        return  # without a centre torch refuses zeros at the ends
    for center, samples in ((True, None), (True, 40), (False, None)):
        back = torch.istft(right, *options, center, normalized, onesided, samples)
        given_ = _fourier.Pair(right.real, right.imag)
        torch.testing.assert_close(_fourier.joined(given_, *options, center, normalized, onesided, samples), back)


class Calls(nn.Module):
    """A function of the input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "powers": lambda x: (torch.fft.fft(x) ** 2).real + torch.fft.fft(x)[..., 1:2].pow(0.5).imag.sum(),
    "exponential": lambda x: torch.fft.ifftn(x, norm="forward").exp().imag,
    "polar": lambda x: torch.polar(x.abs(), x).square().real,
    "a product of matrices": lambda x: (torch.fft.fft(x) @ torch.fft.ifft(x).transpose(-1, -2)).imag,
    "joined": lambda x: torch.stack([torch.fft.rfft(x), torch.fft.rfft(x).roll(1, -1)]).mean(0).real,
    "with real": lambda x: torch.cat([torch.fft.fft(x), x.to(torch.cfloat)]).angle().cos(),
    "chosen": lambda x: torch.where(x > 0, torch.fft.fft2(x), 2j).imag,
    "parts": lambda x: sum(each.abs() for each in torch.fft.rfft(x).split(2, 1)),
    "filled": lambda x: (torch.full((3,), 1 + 2j)[:, None, None] + torch.fft.rfft(x)).imag,
    "padded": lambda x: torch.nn.functional.pad(torch.fft.rfft(x), (1, 2)).real,
    "back": lambda x: torch.fft.irfft(torch.fft.fft(x), 9) + torch.fft.irfftn(torch.fft.rfftn(x)).sum(),
    "reciprocal": lambda x: (torch.fft.fft(x) + 9).reciprocal().real,
    "of real numbers": lambda x: (
        torch.fft.irfft(x, 8, 1, "ortho").sum(1) + torch.fft.irfft2(x, (3, 7)) + torch.fft.hfft(x, 7)
    ),
    "hermitian": lambda x: (
        torch.fft.hfft(torch.fft.ihfft(x, 12, norm="ortho")) + torch.fft.hfft2(x + 2j * x, norm="forward")
    ),
    "half of a hermitian": lambda x: torch.fft.ihfft2(x, (5, 6)).imag + torch.fft.ihfftn(x, (5, 6), (1, 0)).real.sum(),
    "as it lies in memory": lambda x: torch.view_as_real(
        x[None].to(torch.complex64, memory_format=torch.channels_last) * torch.fft.fft(x).to("cpu", torch.complex64)
    ),
}


@pytest.mark.parametrize("model", [*map(Calls, FUNCTIONS.values()), Spectra()], ids=[*FUNCTIONS, "all"])
def test_what_is_complex_on_the_way_is_captured_as_real_numbers(model: nn.Module) -> None:
    x = torch.randn(1, 3, 7)
    program = capture(model, (x,))
    assert not program.notes
    values = [node.meta["val"] for node in program.exported.graph.nodes if isinstance(node.meta.get("val"), Tensor)]
    assert not any(value.is_complex() for value in values)
    torch.testing.assert_close(program.exported.module()(x), model(x), rtol=1e-4, atol=1e-4)


def test_what_has_no_formula_on_pairs_stays() -> None:
    program = capture(Calls(lambda x: torch.fft.fft(x).tan().imag), (torch.randn(3, 5),))
    assert not program.notes


@pytest.mark.parametrize("word", ["input", "output"])
def test_complex_numbers_that_go_in_or_out_are_refused(word: str) -> None:
    x = torch.randn(3, 5)
    call = (lambda x: x.real) if word == "input" else torch.fft.fft
    with pytest.raises(CaptureError, match=rf"{word} 0 of the model is complex.*view_as_real"):
        capture(Calls(call), (torch.complex(x, x) if word == "input" else x,))


def test_nameless_constants_of_a_model_and_of_its_forms_are_told_apart() -> None:
    model, x = (
        Calls(lambda x: (torch.fft.rfft(x * torch.tensor([1.0, 2.0, 3.0, 4.0])) * torch.tensor(2.0)).real),
        torch.ones(2, 4),
    )
    program = capture(model, (x,))
    assert not program.notes
    torch.testing.assert_close(program.exported.module()(x), model(x))
