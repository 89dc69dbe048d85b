"""What Core ML tests share: one operation built alone, saved, and run from its file, against torch or numpy.

The expected values are computed in float64 from the operation's documentation; an fp16 program gets fp16 inputs and
must be within one rounding of them.
"""

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgepass.runtimes import coreml
from edgepass.runtimes.coreml._file import quiet

with quiet():
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Program, types


gc.freeze()  # every conversion collects garbage, half a second with all that coremltools and torch hold
COREMLTOOLS_WARNS = pytest.mark.filterwarnings(
    # coremltools leaves the temporary folder of a model that it wrote to its finaliser.
    "ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning",
    # It casts constants that fp16 cannot hold, such as epsilons, and k-means sees fewer distinct weights than centres.
    "ignore:overflow encountered in cast:RuntimeWarning",
    "ignore:divide by zero:RuntimeWarning",
    "ignore:Number of distinct clusters:Warning",
    # torch warns its own export of recurrent layers and coremltools of torch's pytree; neither is about the file.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)

TYPES = {"float16": types.fp16, "float32": types.fp32, "int32": types.int32}
Build = Callable[..., Any]
rng = np.random.default_rng(0)
BEGINNING = rng.bit_generator.state


def save(build: Build, arrays: list[np.ndarray], path: Path, opset: Any = None) -> Path:
    """A package whose program is what `build` makes of one variable for each array."""
    opset = opset or ct.target.iOS18
    inputs = {f"x{i}": mb.placeholder(a.shape, dtype=TYPES[a.dtype.name]) for i, a in enumerate(arrays)}
    with Function(inputs, opset_version=opset) as function:
        results = build(*function.inputs.values())
        results = list(results) if isinstance(results, tuple | list) else [results]
        function.set_outputs([mb.identity(x=r, name=f"y{i}") for i, r in enumerate(results)])
    program = Program()
    program.add_function("main", function)
    precision = ct.precision.FLOAT32
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=opset,
        compute_precision=precision,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(path))
    return path


def run(build: Build, *arrays: np.ndarray, opset: Any = None) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        return coreml.load(save(build, list(arrays), Path(folder) / "m.mlpackage", opset), 1)(arrays)


def check(build: Build, reference: Build, *arrays: np.ndarray, opset: Any = None, ulps: float = 1.0) -> None:
    """Float arrays are float64 for the reference; tolerance is in units of the program's precision."""
    actual = run(build, *arrays, opset=opset)
    expected = reference(*[torch.tensor(a.astype(np.float64) if a.dtype.kind == "f" else a) for a in arrays])
    expected = list(expected) if isinstance(expected, tuple | list) else [expected]
    assert len(actual) == len(expected)
    half = any(a.dtype == np.float16 for a in arrays)
    unit = 2.0**-11 if half else 2.0**-20
    for a, e in zip(actual, expected, strict=True):
        e = e.numpy()
        assert a.shape == e.shape
        np.testing.assert_allclose(a.astype(np.float64), e.astype(np.float64), rtol=ulps * unit, atol=ulps * unit * 4)


def floats(*shape: int, low: float = -3.0, high: float = 3.0, dtype: str = "float32") -> np.ndarray:
    return rng.uniform(low, high, shape).astype(dtype)


def integers(*shape: int, low: int = 0, high: int = 5) -> np.ndarray:
    return rng.integers(low, high, shape).astype(np.int32)


PRECISIONS = pytest.mark.parametrize("dtype", ["float32", "float16"])
