"""A model that changes its buffers becomes files that take and give them, judged over one sequence of calls."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgepass
from edgepass import exporters, pipeline, runtimes, subject, validation
from edgepass.errors import CaptureError, InputError, RefusedError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import verdict
from edgepass.judging.candidate import Standard
from edgepass.judging.gates import Gates
from edgepass.quantize import recipe
from edgepass.report import page
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters.small import sampled
from runtime_tests.exporters.stateful import CALLS, MODELS, calls, made

ATEN = torch.ops.aten
pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Keeping(nn.Module):
    """Keeps `kept` by whatever `change` does to it."""

    def __init__(self, kept: Tensor, change: Callable[["Keeping", Tensor], Tensor]) -> None:
        super().__init__()
        self.register_buffer("kept", kept)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        """[1, 3] to anything."""
        return self.change(self, x)


def _rolled(m: Keeping, x: Tensor) -> Tensor:
    m.kept = m.kept.roll(-1, 0)
    m.kept[-1] = x[0]
    return m.kept * 2


def _sliced(m: Keeping, x: Tensor) -> Tensor:
    m.kept[1:] = m.kept[:-1].clone()
    m.kept[0] = x[0]
    return m.kept.sum(0)


def _viewed(m: Keeping, x: Tensor) -> Tensor:
    return m.kept.view(-1)[3:6].add_(x[0]) + 1


def _returned(m: Keeping, x: Tensor) -> Tensor:
    m.kept.copy_(x.expand(4, 3))
    return m.kept


def _counted(m: Keeping, x: Tensor) -> Tensor:
    m.kept += 1
    return x * m.kept


def _rounded(m: Keeping, x: Tensor) -> Tensor:
    m.kept = torch.cat([m.kept[1:], (x * 32).round().clamp(-128, 127).to(torch.int8)])
    return m.kept.float().mean(0) / 32


def _switched(m: Keeping, x: Tensor) -> Tensor:
    m.kept.logical_or_((x > 0.5).any())
    return torch.where(m.kept, x, -x)


WAYS = {
    "rolled": (_rolled, torch.randn(4, 3)),
    "sliced": (_sliced, torch.zeros(4, 3)),
    "through a view": (_viewed, torch.zeros(4, 3)),
    "returned": (_returned, torch.ones(4, 3)),
    "a single number": (_counted, torch.tensor(2)),
    "int8": (_rounded, torch.zeros(4, 3, dtype=torch.int8)),
    "a truth value": (_switched, torch.tensor(False)),
}


@pytest.mark.parametrize("way", WAYS)
def test_state_goes_in_and_comes_out_however_it_is_written(way: str) -> None:
    change, kept = WAYS[way]
    model, before = Keeping(kept.clone(), change), kept.clone()
    data = [(torch.randn(1, 3),) for _ in range(9)]
    program = capture(model, data[0])
    assert program.state == ("kept",)
    assert program.exported.state_dict == {}
    assert not any(
        getattr(node.target, "_schema", None) and node.target._schema.is_mutable
        for node in program.exported.graph.nodes
    )
    state, exported = program.args[-1], program.exported.module()
    assert state.shape == (kept.shape or (1,))
    for (x,) in data:
        wanted = model(x).clone()
        y, state = exported(x, state)
        torch.testing.assert_close(y, wanted)
        torch.testing.assert_close(state.reshape(kept.shape), model.get_buffer("kept"))
    torch.testing.assert_close(kept, before)


class Delay(nn.Module):
    """Gives what it was given in the call before; by assignment, which torch.export does not see in all places."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        """[1, 3] to the same."""
        before = self.last
        self.last = x
        return before


@pytest.mark.parametrize("model", [Delay(), nn.Sequential(Delay(), nn.Tanh(), nn.Sequential(Delay()))])
def test_what_is_assigned_anywhere_is_state(model: nn.Module) -> None:
    data = [(torch.randn(1, 3),) for _ in range(5)]
    samples = Samples(inputs=[torch.stack([x for (x,) in data]).numpy()])
    task = Task(name="delay", source="test", model=model, args=data[0], evaluation=samples)
    task, program = subject.captured(task, None)
    assert program.state == tuple(name for name, _ in model.named_buffers())
    assert task.evaluation
    wanted = [model(x) for (x,) in data]
    given = [outputs[0] for _, outputs in task.evaluation.run(program.exported.module())]
    torch.testing.assert_close(torch.from_numpy(np.stack(given)), torch.stack(wanted))


def test_a_captured_program_has_state_too() -> None:
    data = calls("streaming")
    task = Task(name="p", source="p.pt2", model=torch.export.export(made("streaming"), data[0]), args=data[0])
    samples = Samples(inputs=[torch.stack([x for (x,) in data]).numpy()])
    task, program = subject.captured(replace(task, evaluation=samples), None)
    assert task.evaluation
    _, program, reference = subject.settle(task, program, task.evaluation)
    assert not program.changed
    assert np.abs(reference[0][-1] - reference[0][0]).max() > 0.1


def _grown(m: Keeping, x: Tensor) -> Tensor:
    m.kept = torch.cat([m.kept, x])
    return m.kept.sum(0)


@pytest.mark.parametrize(
    ("kept", "change", "told"),
    [
        (torch.zeros(1, 3), _grown, r"makes its buffer kept, which is \[1, 3\], \[2, 3\] in forward, and a file has"),
        (torch.zeros(4, 3, dtype=torch.bfloat16), _sliced, "keeps bfloat16 in its buffer kept from call to call"),
    ],
)
def test_state_that_no_file_can_be_fed_with_is_refused(
    kept: Tensor, change: Callable[[Keeping, Tensor], Tensor], told: str
) -> None:
    with pytest.raises(CaptureError, match=told):
        capture(Keeping(kept, change), (torch.randn(1, 3),))


def test_a_plain_tensor_that_is_changed_is_refused() -> None:
    model = Keeping(torch.zeros(4, 3), lambda m, x: m.plain.add_(x) * 2)
    model.plain = torch.zeros(1, 3)
    with pytest.raises(CaptureError, match=r"the model changes plain in forward, a plain tensor, .* make it a buffer"):
        capture(model, (torch.randn(1, 3),))


def test_state_has_one_size_whatever_the_batch() -> None:
    with pytest.raises(CaptureError, match="keeps state from call to call, of a size that cannot vary"):
        capture(made("streaming"), calls("streaming")[0], max_batch=4)


def test_a_cache_that_is_full_is_told_with_the_call(tmp_path: Path) -> None:
    given = calls("cached")
    with pytest.raises(InputError, match=rf"on evaluation sample {CALLS}: .*its state may hold no more calls than"):
        edgepass.build(
            made("cached"), given[0], out=tmp_path / "o", targets=("onnx",), recipe="fp32", evaluate=given * 2
        )


def test_state_that_is_much_over_all_samples_is_told(tmp_path: Path) -> None:
    samples = Samples(inputs=[np.zeros((300, 1, 3), np.float32)])
    task = Task(name="m", source="m.py:f", model=nn.Linear(3, 3), args=(torch.zeros(1, 3),), evaluation=samples)
    with pytest.raises(InputError, match=r"m.py:f keeps 4 MiB of state, of which 300 .* 1\.17 GiB; give 256 or fewer"):
        task.stateful(["keys"], [torch.zeros(1 << 20)])


def test_a_sequence_begins_anew_where_it_is_said() -> None:
    samples = Samples(inputs=[np.ones((7, 1))]).sequence([np.zeros(1)], 3)
    counted = [outputs[0].item() for _, outputs in samples.run(lambda x, sum: x + sum)]
    assert counted == [1, 2, 3, 1, 2, 3, 1]


def test_what_keeps_nothing_has_no_sequences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keeps no state from call to call; leave out --sequence"):
        edgepass.build(
            nn.Linear(3, 3), (torch.zeros(1, 3),), out=tmp_path / "o", targets=("onnx",), recipe="fp32", sequence=4
        )


def test_samples_of_a_sequence_are_its_first() -> None:
    every = Samples(inputs=[np.arange(90)[:, None]], targets=np.arange(90))
    chosen = every.spread(8)
    assert chosen.inputs[0][-1] == 89
    found = chosen.sequence([np.zeros(1)])
    assert found.inputs[0].ravel().tolist() == list(range(8)) == found.targets.tolist()
    assert found.rows(4).tolist() == [0, 1, 2, 3]


class Sum(nn.Module):
    """A layer of the sum of all that came: larger by far than any of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.register_buffer("sum", torch.zeros(1, 6))

    def forward(self, x: Tensor) -> Tensor:
        """[1, 6] to the same."""
        self.sum += x
        y: Tensor = self.layer(self.sum)
        return y


def test_calibration_sees_the_state_that_calls_come_to() -> None:
    torch.manual_seed(0)
    model, data = Sum().eval(), [(torch.rand(1, 6) + 1,) for _ in range(20)]
    samples = Samples(inputs=[torch.stack([x for (x,) in data]).numpy()])
    task = Task(name="sum", source="test", model=model, args=data[0], calibration=samples, evaluation=samples)
    task, program = subject.captured(task, None)
    wanted = task.reference(task.evaluation)[0]
    job = Job(program, recipe.read("static_wi8_ai8"), subject.calibration(task, program))
    given = np.stack([outputs[0] for _, outputs in task.evaluation.run(job.realised())])
    assert np.abs(given - wanted).max() < 0.02 * np.abs(wanted).max()


RECIPES = ("fp32", "fp16", "static_wi8_ai8")
CELLS = product(MODELS, ("executorch", "coreml", "tflite", "onnx"), RECIPES)
QUICK = {
    ("streaming", "tflite", "static_wi8_ai8"),
    ("cached", "onnx", "static_wi8_ai8"),
    ("cached", "coreml", "fp16"),
    ("average", "executorch", "fp32"),
}


@pytest.mark.parametrize(("name", "target", "of"), sampled(CELLS, QUICK))
def test_every_file_of_a_stateful_model_passes(name: str, target: str, of: str, tmp_path: Path) -> None:
    model, data = made(name), calls(name, 0, 2)
    before = {key: value.clone() for key, value in model.named_buffers()}
    done = edgepass.build(
        model, data[0], out=tmp_path / "o", targets=(target,), recipe=of,
        calibration=calls(name, 1, 6), evaluate=data, sequence=CALLS,
    )  # fmt: skip
    (record,) = done.artifacts
    assert record.verdict == "pass", record.reasons
    assert [s.name for s in done.model.state] == list(before)
    if target != "executorch":  # which has places, no names
        assert [s.input for s in done.model.state] == [i.name for i in record.inputs][-len(before) :]
        assert [s.output for s in done.model.state] == [o.name for o in record.outputs][-len(before) :]
    assert record.parity
    assert record.parity.samples == 2 * CALLS
    assert len(record.parity.outputs) == len(done.model.outputs)
    assert all(o.agreement is None or o.agreement.share == 1.0 for o in record.parity.outputs)
    assert of != "fp32" or record.parity.sqnr_db > 100
    assert target not in ("executorch", "onnx") or all(o.dtype == o.model_dtype for o in record.outputs)
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers()), "the model is as it was"


KEEPING = [
    *product(MODELS, ["executorch"], RECIPES),
    ("streaming", "coreml", "fp16"),
    ("streaming", "coreml", "static_wi8_ai8"),
]


@pytest.mark.parametrize(
    ("name", "target", "of"),
    sampled(KEEPING, {("average", "executorch", "static_wi8_ai8"), ("streaming", "coreml", "static_wi8_ai8")}),
)
def test_a_file_may_keep_its_state_itself(name: str, target: str, of: str, tmp_path: Path) -> None:
    model, data = made(name), calls(name, 0, 2)
    done = edgepass.build(
        model, data[0], out=tmp_path / "o", targets=(target,), recipe=of,
        calibration=calls(name, 1, 6), evaluate=data, sequence=CALLS, keep_state=True,
    )  # fmt: skip
    (record,) = done.artifacts
    assert record.verdict == "pass", record.reasons
    assert record.keeps_state
    assert record.parity
    assert len(record.inputs) == 1
    assert len(record.outputs) == len(record.parity.outputs) == len(done.model.outputs) - len(done.model.state)
    assert "so do its files, until they are loaded anew" in " ".join(done.notes)
    assert "--sequence 11 --keep-state" in page.write(tmp_path / "o").read_text()
    task = Task(name=name, source="m", model=model, args=data[0], sequence=CALLS)
    samples = Samples(inputs=[torch.stack([x for (x,) in data]).numpy()])
    again = validation.validate(
        tmp_path / "o" / record.file, load=lambda model, metric: replace(task, evaluation=samples), reference="m",
        recipe=of, bounds=Gates(),
    )  # fmt: skip
    assert again.artifacts[0].keeps_state, "as a file that was made elsewhere"
    assert again.verdict == "pass", again.artifacts[0].reasons


@pytest.mark.parametrize("way", ["sliced", "through a view", "returned"])
def test_core_ml_keeps_float_state_that_begins_with_zeros(way: str, tmp_path: Path) -> None:
    change, kept = WAYS[way]
    kept = torch.zeros_like(kept)
    model, data = Keeping(kept.clone(), change), [(torch.randn(1, 3).half().float(),) for _ in range(5)]
    program = replace(capture(model, data[0]), keeps=True)
    exporters.export("coreml", Job(program, recipe.read("fp16")), tmp_path / "m.mlpackage")
    session = runtimes.runtime("coreml").load(tmp_path / "m.mlpackage", threads=1)
    for (x,) in data:
        (y,) = session([x.numpy()])
        np.testing.assert_allclose(y, model(x), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("way", "of", "why"),
    [
        ("rolled", "fp16", "begins with other than zero: kept"),
        ("a single number", "fp16", "keeps no integers"),
        ("sliced", "fp32", 'under recipes of the scheme "float16", "static" alone'),
    ],
)
def test_core_ml_takes_and_gives_what_it_cannot_keep(way: str, of: str, why: str) -> None:
    change, kept = WAYS[way]
    program = replace(capture(Keeping(kept.clone(), change), (torch.randn(1, 3),)), keeps=True)
    job = Job(program, recipe.read(of))
    assert not exporters.keeps_state("coreml", job)
    assert exporters.keeps_state("executorch", job)
    (note,) = exporters.stateless("coreml", job)
    assert why in note


def test_state_is_kept_only_where_there_is_any_and_a_format_for_it(tmp_path: Path) -> None:
    data = calls("streaming")
    for targets, of, can in (
        (("tflite", "onnx"), "fp16", "name coreml, executorch with --target"),
        (("coreml",), "fp32", "name executorch with --target"),
        (("coreml",), "weight_only_wi8_afp32", "take another recipe"),
    ):
        with pytest.raises(RefusedError, match=f"no file of {', '.join(targets)} keeps state with {of}; .*, or {can}"):
            edgepass.build(
                made("streaming"), data[0], out=tmp_path, targets=targets, recipe=of, calibration=data, keep_state=True
            )
    with pytest.raises(InputError, match="keeps no state from call to call; leave out --keep-state"):
        edgepass.build(nn.Linear(3, 3), (torch.ones(1, 3),), out=tmp_path / "o", recipe="fp32", keep_state=True)


def test_a_file_that_does_not_carry_its_state_fails(tmp_path: Path) -> None:
    """As the model does not: it is fed with what it gave, which is what it was given."""
    data = calls("streaming")
    samples = Samples(inputs=[torch.stack([x for (x,) in data]).numpy()])
    task = Task(name="ring", source="test", model=made("streaming"), args=data[0], evaluation=samples)
    task, program = subject.captured(task, None)
    standard = Standard(samples=task.evaluation, reference=task.reference(task.evaluation), score=None)
    verdicts = {}
    for carried in (True, False):
        module = program.exported.module()
        if not carried:
            output = module.graph.output_node()
            state = next(node for node in module.graph.nodes if node.name.startswith("state_"))
            with module.graph.inserting_before(output):
                output.update_arg(0, (output.args[0][0], module.graph.call_function(ATEN.clone.default, (state,))))
            module.recompile()
        job = Job(replace(program, exported=program.retrace(module)), recipe.read("fp32"))
        candidate = pipeline.convert("onnx", job, tmp_path / f"{carried}.onnx")
        record, outputs = verdict.judge(candidate, standard, Gates())
        verdicts[carried] = record.verdict
        near = [np.abs(y - r).max() < 1e-4 for y, r in zip(outputs[0], standard.reference[0], strict=True)]
        assert near == [True, *[carried] * (CALLS - 1)]
    assert verdicts == {True: "pass", False: "fail"}
