"""Inputs of every kind that a model takes, in every format: pictures, masks, tokens, single numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepass import catalog, exporters
from edgepass.exporters import Job, _integers
from edgepass.exporters._capture import capture
from edgepass.judging import interface, parity
from edgepass.quantize import recipe
from edgepass.quantize.float16 import to_float16
from edgepass.runtimes import Array, _child
from edgepass.samples import Samples, collect
from runtime_tests.conftest import CONVERTERS_WARN

TARGETS = [name for name in catalog.names("targets") if ":" not in name]


class Pictured(nn.Module):
    """A picture of bytes that the model scales, a mask, tokens, a single number, and an input that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.words, self.layer = nn.Conv2d(3, 6, 3, padding=1), nn.Embedding(11, 6), nn.Linear(6, 6)

    def forward(
        self, picture: Tensor, state: Tensor, mask: Tensor, tokens: Tensor, gain: Tensor, unread: Tensor
    ) -> tuple[Tensor, ...]:
        seen = torch.relu(self.look((picture.permute(0, 3, 1, 2) / 255 - 0.45) / 0.22)).mean((2, 3))
        words = self.words(tokens) + seen[:, None] + state
        told = self.layer(words).masked_fill(~mask[..., None], 0.0) * gain
        shown = mask & (state[..., 0] > 0)
        return told, self.layer(state), state, picture, mask, tokens + 1, torch.cat([shown, mask], 1), picture + 200


def example() -> tuple[Tensor, ...]:
    return (
        torch.randint(0, 256, (1, 7, 5, 3), dtype=torch.uint8),
        torch.randn(1, 5, 6),
        torch.rand(1, 5) > 0.4,
        torch.randint(0, 11, (1, 5), dtype=torch.int32),
        torch.rand(()) + 0.5,
        torch.randn(1, 3),
    )


def wanted(model: nn.Module, samples: Samples) -> list[Array]:
    with torch.no_grad():
        rows = [model(*arguments) for arguments in samples.arguments()]
    return [torch.stack(column).numpy() for column in zip(*rows, strict=True)]


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("target", TARGETS)
def test_bytes_masks_tokens_and_single_numbers_reach_every_target(target: str, tmp_path: Path) -> None:
    model, module = Pictured().eval(), exporters.target(target)
    samples = collect([example() for _ in range(16)], example(), "here")
    program, reference = capture(model, example()), wanted(model, samples)
    for name, least in (("fp32", 100), ("fp16", 50), ("static_wi8_ai8", 25)):
        exporters.export(
            target, Job(program, recipe.read(name), samples.arguments), path := tmp_path / f"a{module.suffix}"
        )
        found = _child.run(module.runtime, path, samples.inputs, warmup=0, latency_runs=1, contents=True)
        outputs = interface.aligned(found.outputs, reference, path)
        for number, (y, r) in enumerate(zip(outputs, reference, strict=True)):
            if r.dtype.kind == "f":
                assert parity.of([r], [y]).sqnr_db > (100 if number == 2 and name != "fp16" else least), (name, number)
            else:
                np.testing.assert_array_equal(y, r, f"{name}, output {number}")
        assert found.contents
        kinds = [spec.dtype for spec in found.contents.inputs]
        assert kinds == {
            "coreml": ["int32", "float32", "int32", "int32", "float32", "float32"],
        }.get(target, ["uint8", "float32", "bool", "int32", "float32", "float32"])


class Narrow(nn.Module):
    """Arithmetic that goes beyond the range of its integers, and comes round."""

    def forward(self, u: Tensor, i: Tensor) -> tuple[Tensor, ...]:
        return (
            *(u + 200, i - u, (u * 3).sum(1), torch.cat([u, u], 1) // 7, i * i, (u > 100) & (i < 0), u.float().mean(1)),
            *((~u).to(torch.int8), u.to(torch.int16) * 300, torch.where(u > 9, u, 7), i.abs() % 5, u.amax(1), -u),
        )


@given(seed=st.integers(0, 999))
def test_integers_in_the_place_of_narrow_ones_come_round_as_these_do(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    u, i = torch.randint(0, 256, (2, 9), generator=generator), torch.randint(-128, 128, (2, 9), generator=generator)
    narrow = u.to(torch.uint8), i.to(torch.int8)
    program = capture(Narrow(), narrow)
    wide = _integers.wide(program, program.exported).module()(u.to(torch.int32), i.to(torch.int32))
    for got, want in zip(wide, Narrow()(*narrow), strict=True):
        torch.testing.assert_close(got, want, check_dtype=False)


def test_fractions_of_integers_are_cast_to_halves_where_a_layer_reads_them() -> None:
    args = example()
    program = capture(Pictured().eval(), args)
    graph = program.exported.module()
    halves = to_float16(graph, recipe.read("fp16"))(*args)
    for got, want in zip(halves, program.exported.module()(*args), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2)


class Called(nn.Module):
    """Outputs that are called as converters call what they make on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.layer(x)
        return {"linear": y + 1, "add": torch.tanh(y), "x": x}


@pytest.mark.export
@CONVERTERS_WARN
def test_an_output_may_be_called_as_an_operation(tmp_path: Path) -> None:
    samples = collect([(torch.randn(1, 6),) for _ in range(8)], (torch.randn(1, 6),), "here")
    model = Called().eval()
    job = Job(capture(model, samples.arguments()[0]), recipe.read("static_wi8_ai8"), samples.arguments)
    exporters.export("onnx", job, path := tmp_path / "a.onnx")
    found = _child.run("onnx", path, samples.inputs, warmup=0, latency_runs=1, contents=True)
    with torch.no_grad():
        rows = [list(model(*arguments).values()) for arguments in samples.arguments()]
    reference = [torch.stack(column).numpy() for column in zip(*rows, strict=True)]
    assert min(parity.of([r], [y]).sqnr_db for y, r in zip(found.outputs, reference, strict=True)) > 20
    assert found.contents
    assert [spec.name for spec in found.contents.outputs] == ["linear", "add", "x_output"]
