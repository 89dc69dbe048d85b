"""Dimensions that vary besides the batch, a length of tokens above all: read, captured, judged at every size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import edgepass
from edgepass import catalog, exporters, pipeline, ranges
from edgepass.errors import CaptureError, InputError, RefusedError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import batches
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import Varying
from edgepass.plan import Plan
from edgepass.quantize import recipe
from edgepass.samples import Samples
from edgepass.task import Task
from edgepass.validation import validate
from runtime_tests.conftest import CONVERTERS_WARN

TARGETS = [t for t in catalog.names("targets") if catalog.load("targets", t).dynamic_batch is None and t != "tflite"]
LONGEST = 22


class Reading(nn.Module):
    """Tokens that attend to those that a mask shows: a word for each, and one for all."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 8), nn.Parameter(torch.randn(LONGEST, 8))
        self.norm, self.all, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        x_BTC = self.words(tokens) + self.places[: tokens.shape[1]]
        q_BTC, k_BTC, v_BTC = self.all(self.norm(x_BTC)).chunk(3, -1)
        scores_BTT = (q_BTC @ k_BTC.mT / 3).masked_fill(~mask[:, None], -1e4)
        x_BTC = x_BTC + torch.softmax(scores_BTT, -1) @ v_BTC
        return {"each": self.out(x_BTC), "all": (x_BTC * mask[..., None]).sum(1)}


def sentence(length: int = 7) -> tuple[Tensor, Tensor]:
    return torch.randint(0, 11, (1, length)), torch.arange(length)[None] < torch.randint(2, length + 1, (1, 1))


@given(low=st.integers(1, 60), more=st.integers(1, 500))
def test_lengths_are_the_ends_and_a_prime_between(low: int, more: int) -> None:
    found = batches.lengths(low, low + more)
    assert (found[0], found[-1]) == (low, low + more)
    assert found == sorted(set(found))
    assert len(found) <= 3
    assert all(n % m for n in found[1:-1] for m in range(2, n))
    assert more < 20 or len(found) == 3


@given(own=st.integers(1, 9), low=st.integers(1, 9), more=st.integers(1, 30))
def test_samples_are_cut_off_or_go_on_from_their_beginning(own: int, low: int, more: int) -> None:
    """A model that gives its inputs back, one of which has another length."""
    tokens, other = np.arange(3 * own).reshape(3, 1, own), np.arange(12).reshape(3, 4)
    samples = Samples(inputs=[tokens, other])
    varying = [(Varying(axis=1, low=low, high=low + more), (0,))]
    made = batches.of(samples, samples.inputs, None, lambda s: s.inputs, dynamic=varying)
    assert [b.size for b in made] == [n for n in batches.lengths(low, low + more) if n != own]
    for batch in made:
        assert [x.shape[1:] for x in batch.rows] == [(1, batch.size), (4,)]
        assert batch.rows[0][2, 0].tolist() == [2 * own + n % own for n in range(batch.size)]
        assert batch.rows[1].tolist() == other.tolist()
        right = batches.compare(batch, batch.reference, [], [], None, Path("file"), "float32")
        assert (right.axis, right.at) == (1, f"at {batch.size} along dimension 1: ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1", "'1' is not of the form 1=1..512"),
        ("1=1-512", "is not of the form 1=1..512, a dimension with its least and largest size, or tokens:1=1..512"),
        ("1=9..9", "--dynamic 1=9..9 is no range of sizes; let the first be 1 or more, and the second larger"),
        ("1=0..9", "is no range of sizes"),
        ("0=1..9", "--dynamic 0=1..9 is of the batch; give its largest size by --max-batch"),
    ],
)
def test_what_is_no_range_is_told(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("..", r"\.\.")):
        ranges.read(text)


@given(st.integers(1, 5), st.integers(1, 99), st.integers(1, 99), st.sampled_from(["", "tokens", "_a1"]))
def test_a_range_is_read_as_it_is_written(axis: int, low: int, more: int, name: str) -> None:
    made = Varying(axis=axis, low=low, high=low + more, input=name)
    assert ranges.read(str(made)) == made


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "4=1..9",
            r"--dynamic 4=1..9 names a dimension that no input has; the inputs are tokens\[1, 7\], mask\[1, 7\]",
        ),
        ("words:1=1..9", "names a dimension that no input has"),
        ("1=8..9", "--dynamic 1=8..9 leaves out 7, the size in the example arguments; take it in"),
        ("1=1..23", "dimension 1 cannot vary from 1 to 23 .*; leave out --dynamic, or do not fix such a size"),
    ],
)
def test_a_dimension_that_cannot_vary_is_told(text: str, told: str) -> None:
    with pytest.raises(CaptureError, match=told):
        capture(Reading().eval(), sentence(), dynamic=[ranges.read(text)])


def test_one_input_alone_may_vary() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x.sum(1) + y.sum(1)

    args = torch.ones(1, 3), torch.ones(1, 3)
    program = capture(Two(), args, dynamic=[ranges.read("y:1=1..9")])
    assert program.lengths == [(Varying(axis=1, high=9, input="y"), (1,))]
    assert program.exported.module()(args[0], torch.ones(1, 8)).item() == 11


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("target", TARGETS)
def test_a_file_is_right_at_every_length(target: str, tmp_path: Path) -> None:
    task = Task(
        name="reading",
        source="reading",
        model=Reading().eval(),
        args=sentence(),
        calibration=samples(32),
        evaluation=samples(16),
    )
    plan = Plan.of((target,), ("static_wi8_ai8",), dynamic=[ranges.read(f"1=2..{LONGEST}")])
    made = pipeline.export(task, plan, tmp_path / "o", Gates())
    (record,) = made.artifacts
    assert record.verdict == "pass", record.reasons
    assert [(b.axis, b.size) for b in record.batches] == [(1, 2), (1, 11), (1, LONGEST)]
    assert all(b.parity and b.conversion and b.conversion.float32 and b.conversion.excess for b in record.batches)
    assert all(b.parity.centred_db > 15 for b in record.batches if b.parity and b.parity.centred_db)
    assert [spec.shape for spec in made.model.inputs] == [(1, None), (1, None)]
    assert [(spec.name, spec.shape) for spec in made.model.outputs] == [("each", (1, None, 5)), ("all", (1, 8))]
    if target != "onnx":
        return
    page = (tmp_path / "o" / "report.html").read_text()
    assert "Sizes 2, 11, 22 of dimension 1 were judged: all hold." in page
    assert f"--dynamic 1=2..{LONGEST}" in page
    again = validate(tmp_path / "o", load=lambda model, before: task, reference="reading", recipe=None, bounds=Gates())
    assert [*again.reasons, *again.artifacts[0].reasons] == []


class Weighing(nn.Module):
    """Attention without places: no constant of it is of the length."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.all, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x_BTC: Tensor) -> Tensor:
        q_BTC, k_BTC, v_BTC = self.all(self.norm(x_BTC)).chunk(3, -1)
        return self.out(x_BTC + torch.softmax(q_BTC @ k_BTC.mT / 3, -1) @ v_BTC)


@pytest.mark.export
@CONVERTERS_WARN
def test_a_tflite_file_takes_any_size_where_no_constant_of_it_is_of_one(tmp_path: Path) -> None:
    """Of a file that is made of two, at two sizes."""
    made = edgepass.build(
        Weighing(),
        (torch.randn(2, 7, 8),),
        out=tmp_path / "o",
        targets=["tflite"],
        recipe="static_wi8_ai8",
        calibration=[(torch.randn(2, 7, 8),) for _ in range(16)],
        dynamic="1=2..22",
    )
    (record,) = made.artifacts
    assert record.verdict == "pass", record.reasons
    assert [(b.axis, b.size) for b in record.batches] == [(1, 2), (1, 11), (1, 22)]
    assert record.inputs[0].shape == (2, None, 8)
    assert record.outputs[0].shape == made.model.outputs[0].shape == (2, None, 5)


@pytest.mark.export
@CONVERTERS_WARN
def test_a_tflite_file_that_would_hold_a_size_is_refused(tmp_path: Path) -> None:
    told = (
        "tflite cannot hold a size that varies in this model: of its .tflite, .* holds a size in a constant; leave out"
    )
    job = Job(capture(Reading().eval(), sentence(), dynamic=[ranges.read("1=2..22")]), recipe.read("fp32"))
    with pytest.raises(RefusedError, match=told):
        exporters.export("tflite", job, tmp_path / "a.tflite")


def samples(count: int) -> Samples:
    rows = [sentence() for _ in range(count)]
    return Samples(inputs=[torch.stack(column).numpy() for column in zip(*rows, strict=True)])


def test_targets_of_fixed_shapes_say_so(tmp_path: Path) -> None:
    told = r"executorch:vulkan cannot hold a dimension that varies: .*; leave out --dynamic, or name the other targets"
    with pytest.raises(InputError, match=told):
        edgepass.build(
            Reading(), sentence(), out=tmp_path / "o", targets=["executorch:vulkan"], recipe="fp32", dynamic="1=1..9"
        )
