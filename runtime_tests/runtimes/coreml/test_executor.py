"""Core ML packages on the reference executor: whole models, states, inputs, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgepass.errors import ArtifactError, InputError
from edgepass.judging import parity
from edgepass.runtimes import coreml
from edgepass.runtimes.coreml._file import open_package, quiet
from edgepass.runtimes.coreml._node import HANDLERS
from edgepass.runtimes.coreml._program import FAMILIES, Executor

with quiet():
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Program, types
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
from runtime_tests.runtimes.coreml.converted import MODELS, make
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS

pytestmark = COREMLTOOLS_WARNS


@pytest.mark.parametrize("name", MODELS)
def test_an_fp32_file_is_its_model(name: str, packages: Callable[..., Path]) -> None:
    x = torch.randn(1, 12, 5)
    with torch.no_grad():
        expected = make(name)(x).numpy()
    (actual,) = coreml.load(packages(name), 1)([x.numpy()])
    assert actual.dtype == np.float32
    assert parity.compare(expected, actual).max_abs < 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_an_fp16_file_is_its_model_but_for_rounding(name: str, packages: Callable[..., Path]) -> None:
    x = torch.randn(1, 12, 5)
    with torch.no_grad():
        expected = make(name)(x).numpy()
    (actual,) = coreml.load(packages(name, "FLOAT16"), 1)([x.numpy()])
    assert actual.dtype == np.float32
    assert 50 < parity.compare(expected, actual).sqnr_db < 90  # 90 dB and above would be no fp16 weights


@pytest.mark.parametrize("batch", [1, 2, 7, 16])
@pytest.mark.parametrize("name", ["transformer", "convolutions"])
def test_a_dynamic_batch_runs_at_any_size(name: str, batch: int, packages: Callable[..., Path]) -> None:
    x = torch.randn(batch, 12, 5)
    with torch.no_grad():
        expected = make(name)(x).numpy()
    (actual,) = coreml.load(packages(name, dynamic=True), 1)([x.numpy()])
    assert parity.compare(expected, actual).max_abs < 1e-5


def program(inputs: dict[str, Any], build: Callable[..., Any]) -> Any:
    with Function(inputs, opset_version=ct.target.iOS18) as function:
        function.set_outputs([mb.identity(x=build(*function.inputs.values()), name="y")])
    whole = Program()
    whole.add_function("main", function)
    return ct.convert(
        whole,
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )


def test_a_state_lasts_from_call_to_call(tmp_path: Path) -> None:
    inputs = {
        "x": mb.placeholder((3,), dtype=types.fp16),
        "total": mb.state_tensor_placeholder((3,), dtype=types.fp16),
    }

    def build(x: Any, total: Any) -> Any:
        return mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x))

    program(inputs, build).save(str(tmp_path / "m.mlpackage"))
    session = Executor(open_package(tmp_path / "m.mlpackage"), 1)
    x = np.array([1, 2, 3], np.float32)
    assert [session([x])[0].tolist() for _ in range(3)] == [[1, 2, 3], [2, 4, 6], [3, 6, 9]]
    session.reset()
    assert session([x])[0].tolist() == [1, 2, 3]


def test_outputs_do_not_change_under_the_callers_hands(packages: Callable[..., Path]) -> None:
    session = coreml.load(packages("transformer"), 1)
    x = np.ones((1, 12, 5), np.float32)
    (first,) = session([x])
    kept = first.copy()
    session([x * 2])
    np.testing.assert_array_equal(first, kept)


def test_inputs_may_be_read_only_reversed_or_wider(packages: Callable[..., Path]) -> None:
    session = coreml.load(packages("transformer"), 1)
    x = np.random.default_rng(0).normal(size=(1, 12, 5)).astype(np.float32)
    frozen = x[:, ::-1].copy()
    frozen.flags.writeable = False
    expected = session([frozen])
    np.testing.assert_array_equal(session([x[:, ::-1]]), expected)
    np.testing.assert_array_equal(session([frozen.astype(np.float64)]), expected)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], "takes 1 inputs"),
        ([np.zeros((1, 12, 4), np.float32)], r"has shape \[1, 12, 4\]; the file takes \[1, 12, 5\]"),
        ([np.zeros((12, 5), np.float32)], r"has shape \[12, 5\]"),
    ],
)
def test_other_inputs_are_refused(arrays: list[Any], message: str, packages: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=message):
        coreml.load(packages("transformer"), 1)(arrays)


def test_sizes_outside_a_flexible_range_are_refused_as_the_device_would(packages: Callable[..., Path]) -> None:
    session = coreml.load(packages("transformer", dynamic=True), 1)
    with pytest.raises(InputError, match=r"has shape \[17, 12, 5\]; the file takes \[1 to 16, 12, 5\]"):
        session([np.zeros((17, 12, 5), np.float32)])


def test_an_operation_that_is_lacking_is_named_and_counted(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        a, b = (mb.random_uniform(shape=[3], low=np.float16(0), high=np.float16(1), seed=i) for i in (1, 2))
        return mb.add(x=x, y=mb.add(x=a, y=b))

    path = tmp_path / "m.mlpackage"
    program({"x": mb.placeholder((3,), dtype=types.fp16)}, build).save(str(path))
    with pytest.raises(
        ArtifactError, match=r"lacks Core ML op 'random_uniform', which .* uses 2 times; judge .* macOS"
    ):
        coreml.load(path, 1)
    contents = coreml.inspect(path)
    assert contents.ops["random_uniform"] == 2
    assert contents.planned_bytes is None
    assert "random_uniform" in contents.notes[0]


def test_what_the_executor_lacks_is_known() -> None:
    lacking = SSAOpRegistry.core_ops.keys() - HANDLERS.keys()
    assert {k for k in lacking if not k.startswith("constexpr_")} == {
        "_const_symbolic",  # exists only while converting
        "classify",
        "cond",  # these three belong to the walker
        "const",
        "conv_quantized",
        "crop_resize",
        "non_maximum_suppression",
        "random_bernoulli",
        "random_categorical",
        "random_normal",
        "random_uniform",
        "while_loop",
    }
    assert FAMILIES
