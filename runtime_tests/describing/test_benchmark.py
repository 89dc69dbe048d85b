"""What a file says of its inputs, or a folder of its samples, is not believed before there is room for it."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgepass.describing import benchmarking, feeding
from edgepass.errors import ArtifactError, InputError
from edgepass.judging.manifest import GOLDEN, TensorSpec
from edgepass.runtimes import Contents, _child, _memory


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"a model")
    return path


def says(monkeypatch: pytest.MonkeyPatch, *inputs: tuple[tuple[int | None, ...], str]) -> None:
    """Every file says that these are its inputs."""
    specs = [TensorSpec(name=f"input_{i}", shape=shape, dtype=dtype) for i, (shape, dtype) in enumerate(inputs)]
    contents = Contents(format="onnx", inputs=specs, outputs=[], weights=[], ops={})
    monkeypatch.setattr(_child, "inspect", lambda runtime, path, **_: contents)


def refusal(file: Path) -> str:
    with pytest.raises(InputError) as error:
        benchmarking.benchmark(file, runs=1)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "shape", [(1 << 62, 4), (1 << 40, 1 << 40, 1 << 40), (5_000_000_000,), (1 << 22, None, 1 << 10)]
)
def test_inputs_that_memory_does_not_hold_are_not_made(
    monkeypatch: pytest.MonkeyPatch, file: Path, shape: tuple[int | None, ...]
) -> None:
    says(monkeypatch, ((4,), "float32"), (shape, "float32"))
    monkeypatch.setattr(_memory, "available", lambda: 8 << 30)
    said = refusal(file)
    assert str(file) in said
    assert "8.59 GB are free" in said
    assert "free some memory, or make the inputs of the model smaller" in said


def test_inputs_are_counted_together(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    says(monkeypatch, *[((1000,), "float32")] * 8)
    monkeypatch.setattr(_memory, "available", lambda: feeding.COPIES * 31_999)
    assert f"{file} takes inputs of 32 kB, and running it takes {feeding.COPIES} times that" in refusal(file)
    monkeypatch.setattr(_memory, "available", lambda: feeding.COPIES * 32_000)
    monkeypatch.setattr(_child, "run", _runs)
    with pytest.raises(ArtifactError, match=r"^8 inputs of 4000 bytes$"):
        benchmarking.benchmark(file, runs=1)


def _runs(runtime: str, path: Path, inputs: list[np.ndarray], **options: object) -> None:
    raise ArtifactError(f"{len(inputs)} inputs of {inputs[0].nbytes} bytes")


@pytest.mark.parametrize(
    ("shape", "dtype"), [((-4,), "float32"), ((1,) * 80, "float32"), ((4,), "str"), ((4,), "object"), ((4,), "int4")]
)
def test_inputs_that_no_array_can_be_are_told(
    monkeypatch: pytest.MonkeyPatch, file: Path, shape: tuple[int, ...], dtype: str
) -> None:
    says(monkeypatch, (shape, dtype))
    assert refusal(file) == f"{file} takes inputs of a kind that zeros cannot be made for"


@pytest.mark.parametrize(
    "tensors",
    [
        {"reference_0": np.zeros((2, 1, 4), np.float32)},
        {"input_0": np.zeros((), np.float32)},
        {"input_0": np.zeros((0, 1, 4), np.float32)},
    ],
)
def test_golden_samples_without_inputs_are_told(file: Path, tensors: dict[str, np.ndarray]) -> None:
    golden = file.with_name(GOLDEN)
    save_file(tensors, golden)
    said = refusal(file)
    assert said == f"{golden} holds no inputs, as input_0, to run {file.name} on; export again, or take it away"
