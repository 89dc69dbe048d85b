"""Transposed convolutions: those without strides are convolutions at capture, and all reach every target."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import edgepass
from edgepass import rewrites
from edgepass.exporters._capture import capture
from edgepass.quantize import audit, recipe
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters.small import TARGETS, pictures, slow

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree
LAYERS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Transposed(nn.Module):
    """One transposed convolution, of any sizes."""

    def __init__(self, dims: int, inputs: int, outputs: int, kernel: int, **how: int) -> None:
        super().__init__()
        self.up = LAYERS[dims - 1](inputs, outputs, kernel, **how)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(x)
        return y


def operations(program: torch.export.ExportedProgram) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


@st.composite
def cases(draw: st.DrawFn, *, strides: int) -> tuple[nn.Module, Tensor]:
    """A layer with strides up to that, and an input."""
    dims, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3]))
    stride, dilation = draw(st.integers(min(strides, 2), strides)), draw(st.integers(1, 3))
    kernel, size = draw(st.integers(1, 4)), draw(st.sampled_from([2, 3, 7]))
    more = draw(st.integers(0, max(stride, dilation) - 1))
    cut = draw(st.integers(0, 4))
    assume((size - 1) * stride - 2 * cut + dilation * (kernel - 1) + more + 1 > 0)
    inputs, outputs = (groups * draw(st.integers(1, 3)) for _ in range(2))
    model = Transposed(
        dims, inputs, outputs, kernel, stride=stride, padding=cut, output_padding=more, groups=groups,
        dilation=dilation, bias=draw(st.booleans()),
    )  # fmt: skip
    return model.eval(), torch.randn(draw(st.sampled_from([1, 2])), inputs, *[size] * dims)


@settings(max_examples=25)
@given(cases(strides=1))
def test_without_strides_it_is_a_convolution(case: tuple[nn.Module, Tensor]) -> None:
    model, x = case
    program = capture(model, (x,)).exported
    assert not [name for name in operations(program) if "transpose" in name or "flip" in name]
    assert "up.weight" in program.state_dict
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)


@settings(max_examples=25)
@given(cases(strides=3))
def test_what_it_pads_is_a_cut_or_it_is_stuffed(case: tuple[nn.Module, Tensor]) -> None:
    model, x = case
    program = rewrites.apply(capture(model, (x,)).exported, ["transposed"])
    (convolution,) = [n for n in program.graph.nodes if "conv" in str(n.target)]
    layer: Any = model.up
    is_stuffed = layer.groups > 1 or max(layer.dilation) > 1 or len(layer.stride) == 3  # litert-torch has no form of it
    assert ("transpose" in str(convolution.target)) != is_stuffed
    assert is_stuffed or not any(any(n) for n in convolution.args[4:6])
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [2, (1, 3)])
def test_of_one_place_strides_step_over_nothing(stride: int) -> None:
    model, x = nn.ConvTranspose2d(5, 3, 4, stride).eval(), torch.randn(1, 5, 1, 1)
    program = capture(model, (x,)).exported
    assert operations(program) == {"aten.conv2d.default"}
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)


class Fixed(nn.Module):
    """A kernel that is a buffer, one that two layers share, and one that a call brings."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("blur", torch.randn(3, 1, 3))
        self.register_buffer("given", torch.randn(3, 2, 3))
        self.both = nn.Conv1d(3, 4, 3)

    def forward(self, x: Tensor, kernel: Tensor) -> tuple[Tensor, ...]:
        y = functional.conv_transpose1d(self.both(x), self.both.weight)
        y = functional.conv_transpose1d(y, self.blur, padding=1, groups=3)
        return y, functional.conv_transpose1d(y, kernel)


def test_a_kernel_may_be_a_buffer_or_shared_but_not_an_input() -> None:
    model, args = Fixed().eval(), (torch.randn(1, 3, 7), torch.randn(3, 2, 3))
    program = capture(model, args).exported
    assert operations(program) == {"aten.conv1d.default", "aten.conv_transpose1d.default"}
    asked = {want.name: want.shape for want in audit.requested(program, recipe.read("static_wi8_ai8"))}
    assert asked == {"both.weight": (4, 3, 3), "both.weight_0": (3, 4, 3), "blur": (3, 1, 3)}
    for y, wanted in zip(program.module()(*args), model(*args), strict=True):
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)


class Still(nn.Module):
    """Without strides: in groups, dilated, padded, of one axis, of one place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(4, 6, 3, padding=1)
        self.groups = nn.ConvTranspose2d(6, 4, (3, 2), dilation=(1, 2), output_padding=(0, 1), groups=2)
        self.line = nn.ConvTranspose1d(4, 5, 3, padding=1)
        self.place = nn.ConvTranspose2d(4, 3, 4, stride=4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.first(x).relu()
        return self.groups(y), self.line(x[..., 0]), self.place(x[..., :1, :1])


class Strided(nn.Module):
    """With strides: what U-Nets and decoders have, and what rounds up a size."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.ConvTranspose2d(4, 6, 2, stride=2)
        self.even = nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1)
        self.odd = nn.ConvTranspose2d(6, 3, 3, stride=2, padding=1, output_padding=1)
        self.line = nn.ConvTranspose1d(4, 5, 3, stride=2, output_padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.twice(x).relu()
        return self.even(y), self.odd(y), self.line(x[..., 0])


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("name", [slow("fp32"), "static_wi8_ai8"])
@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        (Still, [t for t in TARGETS if ":" not in t]),
        pytest.param(Still, ["executorch:coreml"], marks=pytest.mark.slow),  # Vulkan: each alone, not all at once
        (Strided, ["tflite"]),
    ],
)
def test_they_reach_every_target(kind: type[nn.Module], targets: list[str], name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, data = kind().eval(), [(x,) for x in pictures(24, 1, 4, 7, 5)]
    done = edgepass.build(
        model, data[0], out=tmp_path / "o", targets=targets, recipe=name, calibration=data, evaluate=data
    )
    assert done.verdict == "pass", [(record.target, record.reasons) for record in done.artifacts]
    for record in done.artifacts:
        assert record.audit
        said = {row.name: row.reason for row in record.audit.weights if row.requested or row.reason}
        assert said.keys() == {f"{layer}.weight" for layer, _ in model.named_children()}
        left = {layer for layer, why in said.items() if why}
        in_float = (kind, name, record.target) == (Strided, "static_wi8_ai8", "tflite")
        assert left == ({"twice.weight", "even.weight", "odd.weight"} if in_float else set()), record.target
