"""Operation by operation: the part that is wrong is named, and no other."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters, runtimes
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.exporters._quiet import quiet
from edgepass.judging import budgets, gates, operations
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, Conversion, Latency, Operations
from edgepass.quantize import recipe
from edgepass.runtimes import Array, Place, _child, _worker
from edgepass.runtimes._cut import follow
from edgepass.samples import Samples

SCALE = 0.5
Part = Callable[[np.ndarray], np.ndarray]


class Parts:
    """A file of three parts, x -> q0 -> q1 -> y, each a function of floats."""

    def __init__(self, first: Part, second: Part, last: Part, zero: int = 3) -> None:
        self.first, self.second, self.last, self.zero = first, second, last, zero
        self.scales = SCALE, 2 * SCALE
        self.places = [
            Place(scales=frozenset({scale}), zero=zero, reads=frozenset(range(number)))
            for number, scale in enumerate(self.scales)
        ]

    def __call__(self, inputs: Sequence[Array], given: Sequence[Array] | None) -> tuple[list[Array], list[Array]]:
        made = []
        x: Any = inputs[0]
        for number, (part, scale) in enumerate(zip((self.first, self.second), self.scales, strict=True)):
            q = np.clip(np.rint(part(x) / scale) + self.zero, -128, 127).astype(np.int8)
            made.append(q)
            read = q if given is None else given[number].astype(np.int8)
            x = (read.astype(np.float32) - self.zero) * scale
        return made, [self.last(x)]


def right() -> Parts:
    return Parts(lambda x: 5 * x, lambda x: x - 0.3, lambda x: x * 2)


def found(file: Parts, shape: tuple[int, ...] = (63, 3), graph: Parts | None = None) -> Operations:
    x = np.random.default_rng(0).standard_normal((4, *shape)).astype(np.float32)
    graph = graph or right()
    made = [graph([sample], None) for sample in x]
    values = [np.stack([q[i].astype(np.int32) - graph.zero for q, _ in made]) for i in (0, 1)]
    tensors = operations.Tensors(
        names=["first", "second"],
        scales=[SCALE, 2 * SCALE],
        values=values,
        outputs=[np.stack([outputs[0] for _, outputs in made])],
        output_names=["last"],
        arguments=[x],
    )
    steps, outputs = follow(file, tensors.scales, tensors.values, [x])
    return operations.compare(tensors, steps, outputs)


def test_a_right_file_differs_nowhere() -> None:
    assert found(right()) == Operations(compared=2)
    assert found(Parts(right().first, right().second, right().last, zero=-7)) == Operations(compared=2)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("first", lambda r: Parts(lambda x: 5.7 * x, r.second, r.last)),
        ("second", lambda r: Parts(r.first, lambda x: 0.3 - x, r.last)),
        ("last", lambda r: Parts(r.first, r.second, lambda x: x * 2.1)),
    ],
)
def test_the_part_that_is_wrong_is_named_and_no_other(name: str, file: Callable[[Parts], Parts]) -> None:
    assert list(found(file(right())).differing) == [name]


def test_rounding_down_is_told_though_it_is_within_a_step() -> None:
    told = found(Parts(right().first, lambda x: np.floor((x - 0.3) / (2 * SCALE)) * 2 * SCALE, right().last)).differing
    assert list(told) == ["second"]
    assert told["second"].startswith("it rounds otherwise")


def test_a_tensor_is_known_in_another_layout() -> None:
    class Turned(Parts):
        def __call__(self, inputs: Sequence[Array], given: Sequence[Array] | None) -> tuple[list[Array], list[Array]]:
            back = None if given is None else [q.reshape(5, 63, 3).transpose(1, 2, 0) for q in given]
            made, outputs = super().__call__(inputs, back)
            return [q.transpose(2, 0, 1)[None] for q in made], outputs

    file = right()
    assert found(Turned(file.first, file.second, file.last), (63, 3, 5)) == Operations(compared=2)
    assert list(found(Turned(file.first, lambda x: -x, file.last), (63, 3, 5)).differing) == ["second"]


def test_a_tensor_is_known_with_dimensions_put_together() -> None:
    class Flat(Parts):
        def __call__(self, inputs: Sequence[Array], given: Sequence[Array] | None) -> tuple[list[Array], list[Array]]:
            back = None if given is None else [q.reshape(63, 3, 5) for q in given]
            made, outputs = super().__call__(inputs, back)
            return [q.reshape(189, 5) for q in made], outputs

    file = right()
    assert found(Flat(file.first, file.second, file.last), (63, 3, 5)) == Operations(compared=2)
    # Here values alone say which tensor it is, so one whose values are others is none.
    assert found(Flat(file.first, lambda x: -x, file.last), (63, 3, 5)) == Operations(compared=1)


def test_what_the_graph_does_not_round_is_not_taken_for_what_it_does() -> None:
    """The file rounds a second time, with the scale and the dimensions of what comes of it."""

    class Twice(Parts):
        def __init__(self) -> None:
            super().__init__(lambda x: 5 * x, lambda x: x / 4, lambda x: x * 2)
            first, extra = self.places
            self.places = [first, extra, Place(scales=extra.scales, zero=self.zero, reads=frozenset({1}))]

        def __call__(self, inputs: Sequence[Array], given: Sequence[Array] | None) -> tuple[list[Array], list[Array]]:
            (first, extra), (twice,) = super().__call__(inputs, given and given[:2])
            scale = self.scales[1]
            end = np.clip(np.rint((2 * twice - 0.3) / scale) + self.zero, -128, 127).astype(np.int8)
            read = end if given is None else given[2]
            return [first, extra, end], [self.last((read.astype(np.float32) - self.zero) * scale)]

    assert found(Twice()) == Operations(compared=1)


def test_what_only_moves_numbers_is_not_taken_for_another_order_of_them() -> None:
    """The graph has its second tensor in another order than the file, which rolls it."""

    class Rolled(Parts):
        def __init__(self) -> None:
            super().__init__(lambda x: 5 * x, lambda x: x - 0.3, lambda x: x * 2)
            self.places = [self.places[0], replace(self.places[1], moves=True)]

        def __call__(self, inputs: Sequence[Array], given: Sequence[Array] | None) -> tuple[list[Array], list[Array]]:
            back = None if given is None else [given[0], np.roll(given[1], -31, 0)]
            (first, second), outputs = super().__call__(inputs, back)
            return [first, np.roll(second, 31, 0)], outputs

    assert found(Rolled()) == Operations(compared=1)


def laid(x: np.ndarray) -> np.ndarray:
    """[4, 4], 4 patches of 4 -> [4, 4], the picture that they make."""
    return x.reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(4, 4)


class Patches(Parts):
    """It rounds patches, and then lays them out; the graph rounds the picture, which has the same dimensions."""

    def __init__(self, first: Part, lay: Part, second: Part) -> None:
        super().__init__(first, second, right().last)
        self.lay = lay
        first_place, last_place = self.places
        self.places = [
            first_place,
            replace(first_place, reads=frozenset({0}), moves=True),
            replace(last_place, reads=frozenset({1})),
        ]

    def __call__(self, inputs: Sequence[Array], given: Sequence[Array] | None) -> tuple[list[Array], list[Array]]:
        (patches, _), _ = super().__call__(inputs, None)
        picture = self.lay(patches if given is None else given[0])
        (_, second), _ = super().__call__(inputs, [picture if given is None else given[1], patches])
        _, outputs = super().__call__(inputs, [picture, second if given is None else given[2]])
        return [patches, picture, second], outputs


@pytest.mark.parametrize(
    ("file", "wrong"),
    [
        (Patches(lambda x: 5 * x, laid, right().second), []),
        (Patches(lambda x: 5.7 * x, laid, right().second), ["first"]),
        (Patches(lambda x: 5 * x, laid, lambda x: x - 4), ["second"]),
        (Patches(lambda x: 5 * x, lambda q: q, right().second), ["first"]),
    ],
)
def test_what_is_rounded_before_it_is_moved_is_judged_where_it_is_moved_to(file: Patches, wrong: list[str]) -> None:
    told = found(file, (4, 4), Parts(lambda x: laid(5 * x), right().second, right().last))
    assert told.compared == 2
    assert list(told.differing) == wrong


def test_what_shows_nothing_is_said() -> None:
    tensors = operations.Tensors(names=[], scales=[], values=[], outputs=[], output_names=[], arguments=[])
    assert operations.compare(tensors, None, [], "why") == Operations(compared=0, note="why")


def test_a_graph_that_torch_cannot_run_says_why() -> None:
    def lacking() -> nn.Module:
        raise NotImplementedError("no kernel for aten::sort")

    samples = Samples(inputs=[np.zeros((2, 1, 3), np.float32)])
    latency = Latency(p50_us=1.0, p95_us=1.0, threads=1, runs=1, evidence="host runtime")
    measured = _child.Measurement(outputs=[], latency=latency, peak_bytes=0)
    for make, why in ((lacking, "no kernel for aten::sort"), (nn.ReLU, "AssertionError")):
        graph = operations.Graph(make)
        found = budgets.with_operations(None, graph, graph.tensors(samples), measured)
        note = f"torch cannot run the recipe's own graph: {why}"
        assert found == Conversion(operations=Operations(compared=0, note=note))
    assert budgets.with_operations(None, None, None, measured) is None


def test_a_runtime_that_cannot_cut_its_files_says_why() -> None:
    request = _worker.Request(
        task="run", runtime="executorch", path="m.pte", seconds=1, memory_bytes=1, scales=(SCALE,)
    )
    steps, why = _worker._steps(runtimes.runtime("executorch"), request, Path())
    assert steps is None
    assert why.startswith("ExecuTorch's delegates show no intermediate values: ")


@pytest.mark.parametrize("runtime", ["onnx", "tflite", "coreml"])
def test_a_part_that_differs_fails_the_file(runtime: str) -> None:
    record = ArtifactRecord(
        target=runtime,
        file="m",
        bytes=1,
        content_sha256="",
        recipe="static_wi8_ai8",
        verdict="pass",
        reasons=[],
        runtime=runtime,
        conversion=Conversion(operations=Operations(compared=3, differing={"body: sub": "it is off by 9 steps"})),
    )
    outcome, reasons = gates.judge(record, Gates())
    assert outcome == "fail"
    assert reasons == ["conversion: the file computes something else than the graph at body: sub: it is off by 9 steps"]


class Model(nn.Module):
    """x [1, 3, 13] -> [1, 5]; what stands between the layers can be planted with a fault."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.conv, self.linear, self.wide, self.head = (
            nn.Conv1d(3, 8, 3), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 5)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(nn.functional.pad(x, (2, 0) if self.fault != "pad" else (0, 2))).relu().transpose(1, 2)
        a, b = self.linear(y).relu(), y
        y = 4 * a - (b if self.fault == "alpha" else 0.7 * b) if self.fault != "swapped" else 0.7 * b - 4 * a
        z = self.wide(y).relu() + y.mean(1, keepdim=True)
        head: Tensor = self.head(z.mean(1))
        return head


@pytest.mark.export
@pytest.mark.parametrize("target", ["onnx", pytest.param("coreml", marks=pytest.mark.slow), "tflite"])
def test_a_planted_fault_is_named_by_its_operation(target: str, tmp_path: Path) -> None:
    """The graph is the right model's; the file's weights and scales are the same, but one operation is not."""
    torch.manual_seed(0)
    x = torch.randn(8, 1, 3, 13)
    weights = Model().state_dict()
    samples = Samples(inputs=[x.numpy()])

    def graph(fault: str) -> Job:
        model = Model(fault).eval()
        model.load_state_dict(weights)
        return Job(capture(model, (x[0],)), recipe.read("static_wi8_ai8"), lambda: [(row,) for row in x])

    right = graph("")
    tensors = operations.Graph(cache(right.realised)).tensors(samples)
    assert tensors is not None
    told = {}
    for fault in ("", "alpha", "swapped", "pad"):
        made = right if not fault else planted(graph(fault), right)
        path = tmp_path / f"model{exporters.target(target).suffix}"
        exporters.export(target, made, path)
        measured = _child.run(
            exporters.target(target).runtime,
            path,
            samples.inputs,
            latency_runs=1,
            scales=tensors.scales,
            tensors=tensors.values,
            arguments=tensors.arguments,
        )
        told[fault] = operations.compare(tensors, measured.steps, measured.parts)
        assert told[fault].compared >= 5
    assert not told[""].differing
    assert all("sub" in name for fault in ("alpha", "swapped") for name in told[fault].differing)
    # LiteRT's converter quantises what it pads by itself: the graph lacks that tensor, so the part is not compared.
    seen = {"alpha", "swapped"} if target == "tflite" else {"alpha", "swapped", "pad"}
    assert {fault for fault in told if told[fault].differing} == seen
    # A file may have the pad within the convolution, or as a part of its own.
    assert all("conv1d" in name or "pad" in name for name in told["pad"].differing)


def planted(wrong: Job, right: Job) -> Job:
    """The wrong model with the scales that the right one was calibrated to."""
    with quiet():
        right.quantised(fold=True)
        wrong.quantised(fold=True)
    ours, theirs = right._prepared, wrong._prepared
    assert ours is not None
    assert theirs is not None
    for name, observer in list(ours.named_modules()):
        if name.startswith("activation_post_process"):
            theirs.set_submodule(name, copy.deepcopy(observer))
    return wrong
