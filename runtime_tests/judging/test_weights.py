"""Weights' values: what a file holds is what the graph computes with, in whatever layout, and nothing else passes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx import GraphModule

from edgepass import exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import gates, weights
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord, Conversion, Weight, WeightValues
from edgepass.quantize import recipe
from edgepass.quantize import weights as graphs
from edgepass.quantize.weights import Stated
from edgepass.runtimes import _child


def weight(values: np.ndarray, layout: str | None = "OI", dtype: str = "float32") -> Weight:
    return Weight(name="constant 7", shape=values.shape, dtype=dtype, layout=layout)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(
    st.sampled_from(["OIHW", "OHWI", "HWIO", "IOHW"]),
    st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 4]), *[st.sampled_from([1, 3])] * 2),
    st.booleans(),
)
def test_a_weight_is_known_in_every_layout(layout: str, shape: tuple[int, ...], told: bool) -> None:
    model = normal(*shape)
    stored = model.transpose(["OIHW".index(letter) for letter in layout])
    found = weights.compare(
        [Stated(name="conv", layout="OIHW", forms=(model,))], [weight(stored, layout if told else None)], [stored]
    )
    assert found == WeightValues(compared=1)


def test_a_square_weight_that_is_transposed_is_told() -> None:
    model = normal(7, 7)
    found = weights.compare([Stated(name="l", layout="OI", forms=(model,))], [weight(model.T)], [model.T])
    assert found.differing == {"l": "it is transposed"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w * np.float32(1.1), "it is 1.1 times what it should be"),
        (lambda w: w * [[1], [0], [1], [1], [1]], "1 of its 5 channels are zero"),
        (lambda w: w * [[1], [1], [2], [1], [1]], "in 1 of its 5 channels it is 2 times what it should be"),
        (lambda w: normal(5, 3, seed=1), "it differs by up to"),
    ],
)  # fmt: skip
def test_another_weight_is_told(change: Callable[[np.ndarray], np.ndarray], told: str) -> None:
    model = normal(5, 3)
    stored = change(model).astype(np.float32)
    found = weights.compare([Stated(name="l", layout="OI", forms=(model,))], [weight(stored)], [stored])
    assert found.compared == 1
    assert found.differing["l"].startswith(told)


def test_of_equal_dimensions_each_weight_finds_its_own() -> None:
    models = [normal(4, 4, seed=i) for i in range(3)]
    stated = [Stated(name=f"l{i}", layout="OI", forms=(m,)) for i, m in enumerate(models)]
    stored = [models[2], models[0], models[1] * np.float32(1.5)]
    found = weights.compare(stated, [weight(s) for s in stored], stored)
    assert found.differing == {"l1": "it is 1.5 times what it should be"}


def test_equal_weights_may_be_held_once_and_what_is_absent_is_not_compared() -> None:
    model, other = normal(4, 4), normal(4, 4, seed=1)
    stated = [Stated(name=n, layout="OI", forms=(v,)) for n, v in (("a", model), ("b", model), ("c", other))]
    found = weights.compare(stated, [weight(model)], [model])
    assert found.compared == 2
    assert found.uncompared == {"c": "the file holds no further constant of its dimensions"}


def test_values_that_are_not_read_are_not_compared() -> None:
    found = weights.compare([Stated(name="a", layout="OI", forms=(normal(2, 3),))], [weight(np.zeros((2, 3)))], [None])
    assert found == WeightValues(compared=0, uncompared={"a": "the values of constant 7 are not read"})


def test_a_weight_of_one_number_is_not_held_against_any_other_number() -> None:
    """Of a single number a file holds many: epsilons, scales, what a folded layer became."""
    model = normal(1, 1)
    stated = [Stated(name="l", layout="OI", forms=(model,))]
    for epsilon in (np.float32([1e-5]), np.float32(1e-5).reshape(()), np.float32([[1e-5]])):
        alone = weights.compare(stated, [weight(epsilon, None)], [epsilon])
        assert alone == WeightValues(compared=0, uncompared={"l": "it is a single number, of which a file holds many"})
        both = [epsilon, model]
        assert weights.compare(stated, [weight(w, None) for w in both], both) == WeightValues(compared=1)
    whole = Stated(name="c", layout="OIW", forms=(normal(1, 1, 1),))
    given_as = replace(weight(normal(1, 1, 1, seed=3), "OIW", "int8"), granularity="per-channel")
    assert not weights.compare([whole], [given_as], [normal(1, 1, 1, seed=3)]).differing


@given(st.integers(0, 2**16), st.sampled_from([1e-30, 1e-3, 1.0, 1e4]))
def test_rounding_is_no_difference(seed: int, size: float) -> None:
    """Of float16, and of a converter's own int8 grid; a grid of half as many steps is one."""
    model = normal(5, 63, seed=seed) * np.float32(size)
    step = np.abs(model).max(1, keepdims=True) / 127
    stated = [Stated(name="l", layout="OI", forms=(model,))]
    int8 = replace(weight(model, dtype="int8"), granularity="per-channel")
    fine, coarse = (np.rint(model / s) * s for s in (step, 2 * step))
    half = model.astype(np.float16).astype(np.float32)
    assert not weights.compare(stated, [int8], [fine]).differing
    assert weights.compare(stated, [int8], [coarse]).differing
    assert not weights.compare(stated, [weight(model, dtype="float16")], [half]).differing


def test_a_weight_of_the_graph_has_no_step_to_spare() -> None:
    model = normal(5, 63)
    step = np.abs(model).max(1, keepdims=True) / 127
    graph = (np.rint(model / step) * step).astype(np.float32)
    stated = [Stated(name="l", layout="OI", forms=(model,), quantised=graph)]
    int8 = replace(weight(model, dtype="int8"), granularity="per-channel")
    moved = graph.copy()
    moved[2, 5] += step[2, 0]
    assert not weights.compare(stated, [int8], [graph]).differing
    assert weights.compare(stated, [int8], [moved]).differing


def test_a_file_with_another_weight_fails() -> None:
    values = WeightValues(compared=1, differing={"body.0": "it is transposed"})
    record = ArtifactRecord(
        target="onnx",
        file="m.onnx",
        bytes=1,
        content_sha256="",
        recipe="fp32",
        verdict="pass",
        reasons=[],
        runtime="onnx",
        conversion=Conversion(weights=values),
    )
    outcome, reasons = gates.judge(record, Gates())
    assert outcome == "fail"
    assert reasons == ["conversion: the file holds another weight than the graph: body.0, it is transposed"]


def test_what_a_converter_may_multiply_in_is_among_the_forms() -> None:
    """A number before, the gain of a batch norm behind, and what attention multiplies queries by; their products."""

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.query = nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4), nn.Linear(4, 4)
            self.norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]  # a buffer of this norm

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.conv(x / 3))
            return nn.functional.scaled_dot_product_attention(self.query(y), y, y)

    model = Attending().eval()
    program = capture(model, (torch.randn(1, 4, 4),)).exported.module()
    assert isinstance(program, GraphModule)
    with torch.no_grad():
        conv, query = graphs.stated(program)
        assert isinstance(model.norm.running_var, Tensor)
        gain = (model.norm.weight / torch.sqrt(model.norm.running_var + model.norm.eps)).numpy()[:, None, None]
        forms = [w * f for w in [model.conv.weight.numpy()] for f in (1, gain, 1 / 3, gain / 3)]
        assert all(any(np.allclose(form, mine, rtol=1e-6) for mine in conv.forms) for form in forms)
        forms = [model.query.weight.numpy() * 4 ** (-power / 4) for power in (0, 1, 2)]
        assert all(np.allclose(*pair, rtol=1e-6) for pair in zip(query.forms, forms, strict=True))


class Layers(nn.Module):
    """x [1, 3, 13] -> [1, 13, 5], by every kind of weight; a batch norm follows the first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.depthwise, self.grouped = nn.Conv1d(8, 8, 3, padding=1, groups=8), nn.Conv1d(8, 8, 3, padding=1, groups=2)
        self.square, self.wide, self.head = nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 5)
        self.norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]  # a buffer of this norm

    def forward(self, x: Tensor) -> Tensor:
        y = self.grouped(self.depthwise(self.norm(self.conv(x))).relu()).transpose(1, 2)
        head: Tensor = self.head(self.wide(self.square(y).relu()))
        return head


FAULTS = {
    "depthwise.weight": lambda w: w * 1.1,
    "grouped.weight": lambda w: torch.where(torch.arange(8)[:, None, None] == 3, 0.0, w),
    "square.weight": lambda w: w.T.contiguous(),
    "wide.weight": lambda w: torch.randn(8, 8, generator=torch.Generator().manual_seed(9)),
    "head.weight": lambda w: torch.round(w / (s := w.abs().amax(1, keepdim=True) / 63)) * s,
}


@pytest.mark.export
@pytest.mark.parametrize(
    ("target", "number_format"),
    [
        ("executorch", "static_wi8_ai8"),
        ("executorch", "dynamic_wi8_afp32"),
        ("executorch:vulkan", "static_wi8_ai8"),
        ("coreml", "static_wi8_ai8"),
        ("coreml", "weight_only_wi8_afp32"),
        ("tflite", "static_wi8_ai8"),
        ("tflite", "fp16"),
        ("tflite", "dynamic_wi8_afp32"),
        ("onnx", "static_wi8_ai8"),
        ("onnx", "dynamic_wi8_afp32"),
    ],
)
def test_every_planted_fault_is_told_by_its_weight(target: str, number_format: str, tmp_path: Path) -> None:
    """What is not planted in, the convolution with its batch norm, is right, and so is every weight of a right file."""
    torch.manual_seed(0)
    samples = [(torch.randn(1, 3, 13),) for _ in range(3)]
    model = Layers().eval()
    right = job(model, samples, number_format)
    stated = exporters.stated(target, right)
    with torch.no_grad():
        for name, change in FAULTS.items():
            parameter = model.get_parameter(name)
            parameter.copy_(change(parameter))
    assert not differing(target, stated, right, tmp_path / "right")
    assert set(differing(target, stated, job(model, samples, number_format), tmp_path / "wrong")) == set(FAULTS)


def job(model: nn.Module, samples: list[tuple[Tensor]], number_format: str) -> Job:
    chosen = replace(recipe.read(number_format), rounding="nearest")  # that of other weights would round others too
    copied = Layers().eval()
    copied.load_state_dict(model.state_dict())
    return Job(capture(copied, samples[0]), chosen, lambda: list(samples))


def differing(target: str, stated: list[Stated], made: Job, path: Path) -> dict[str, str]:
    path = path.with_name(path.name + exporters.target(target).suffix)
    exporters.export(target, made, path)
    contents = _child.inspect(exporters.target(target).runtime, path, values=True)
    found = weights.compare(stated, contents.weights, contents.values)
    assert found.compared == len(stated), found
    return found.differing
