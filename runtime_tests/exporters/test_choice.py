"""Branches that a value decides, and attention that padding is hidden from, in every format."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepass import catalog, exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import BOTH, capture
from edgepass.judging import interface, parity
from edgepass.quantize import recipe
from edgepass.quantize.audit import audit
from edgepass.runtimes import _child
from edgepass.samples import collect
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters.small import sampled
from runtime_tests.exporters.test_inputs import wanted

TARGETS = [name for name in catalog.names("targets") if ":" not in name]


class Deciding(nn.Module):
    """Two choices that are added, one of them within another, with layers inside; the branch not taken gives NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.third = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor, way: Tensor) -> tuple[Tensor, ...]:
        def inner(y: Tensor) -> Tensor:
            return torch.cond(y.max() > 2, lambda z: torch.tanh(self.other(z)), lambda z: self.third(z) / 2, (y,))

        def first(y: Tensor) -> tuple[Tensor, Tensor]:
            return self.one(y), y.argmax(-1)

        def second(y: Tensor) -> tuple[Tensor, Tensor]:
            return inner(y) / (y.min() - y.min().clamp(max=9)), torch.zeros_like(y[..., 0], dtype=torch.int64)

        y, number = torch.cond(way > 3, first, second, (x,))
        y = torch.cond(way < 3, lambda a, b: b, lambda a, b: a, (y, x))
        return y + torch.cond(x.sum() > 0, self.one, lambda z: z, (x,)), number


class Attending(nn.Module):
    """An encoder that must not see what is padding, and masks that are made in the shape of another."""

    def __init__(self) -> None:
        super().__init__()
        self.decide = Deciding()
        layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x: Tensor, padding: Tensor, way: Tensor) -> tuple[Tensor, ...]:
        seen = self.encoder(x, src_key_padding_mask=padding)
        floats = torch.zeros_like(padding, dtype=torch.float32).masked_fill(padding, -1e4)
        pooled = torch.softmax(floats, -1)[:, None] @ seen
        ones = torch.ones_like(padding, dtype=torch.float32) - torch.full_like(padding, 0.5, dtype=torch.float32)
        return seen.masked_fill(padding[..., None], 0.0), pooled, ones, *self.decide(x, way)


def example(number: int) -> tuple[Tensor, ...]:
    """Sentences of two to seven words, and all ways."""
    padding = torch.arange(7)[None] >= 2 + number % 6
    return torch.randn(1, 7, 6).masked_fill(padding[..., None], 4.0), padding, torch.tensor([number % 7])


@CONVERTERS_WARN  # torch runs a condition by compiling it
@torch.no_grad()
@pytest.mark.parametrize("number", range(7))
def test_both_branches_and_a_choice_are_the_choice(number: int) -> None:
    model = Deciding().eval()
    args = example(number)[::2]
    program = capture(model, args)
    assert program.notes == (BOTH,)
    assert not [n for n in program.exported.graph.nodes if "cond" in str(n.target)]
    for got, want in zip(program.exported.module()(*args), model(*args), strict=True):
        torch.testing.assert_close(got, want, equal_nan=True)


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize(
    ("target", "name"),
    sampled(product(TARGETS, ("fp32", "static_wi8_ai8")), {*product(TARGETS, ["fp32"]), ("onnx", "static_wi8_ai8")}),
)
def test_choices_and_padding_are_right_in_every_format(target: str, name: str, tmp_path: Path) -> None:
    model, module = Attending().eval(), exporters.target(target)
    samples = collect([example(number) for number in range(3, 42) if number % 7 > 3 or number % 7 < 3], example(0), "")
    program, reference = capture(model, example(0)), wanted(model, samples)
    job = Job(program, recipe.read(name), samples.arguments)
    exporters.export(target, job, path := tmp_path / f"a{module.suffix}")
    found = _child.run(module.runtime, path, samples.inputs, warmup=0, latency_runs=1, contents=True)
    outputs = interface.aligned(found.outputs, reference, path)
    assert min(parity.of([r], [y]).sqnr_db for y, r in zip(outputs[:4], reference[:4], strict=True)) > (
        100 if name == "fp32" else 20
    )
    np.testing.assert_array_equal(outputs[4], reference[4])
    assert found.contents
    if name == "static_wi8_ai8":
        assert audit(name, exporters.requested(target, job), found.contents.weights).coverage == 1.0
