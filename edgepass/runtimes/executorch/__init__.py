"""ExecuTorch: runs a .pte on the XNNPACK delegate and the portable and quantised kernels of the Python wheel.

A file that is handed to another delegate whole is carried out by a reference executor (_reference.py).

What its operations make cannot be seen, which is why a .pte is not compared operation by operation. Tried with
executorch 1.5.1: `_load_for_executorch(path, enable_etdump=True, debug_buffer_size=...)` and the Inspector of
executorch.devtools. Kernels outside a delegate, and what goes into and comes out of one, come with their values;
operations inside XNNPACK come with their time only, and nearly all int8 tensors of a static file lie there. The payload
could be cut, as a .tflite is, but not by the wheel's flatbuffer compiler, whose JSON has six decimals of a scale.

It imports the wheel's extension itself: `executorch.runtime`, which wraps the same calls, imports the whole exporter
with them, three seconds and 130 MB for each child process.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from edgepass.errors import ArtifactError, DamagedError, RefusedError
from edgepass.judging.manifest import Evidence
from edgepass.runtimes import Array, Contents, Cut, Session, _torch, method_of
from edgepass.runtimes.executorch import _complaints

extra = "executorch"
suffix = ".pte"
prepare_reading = None

# exir/scalar_type.py: the types that a program's inputs may have, by number -> name in torch
_SCALARS = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
    15: "bfloat16",
}


def prepare(path: Path) -> None:
    """Import the runtime, which also registers its quantised kernels, and what the file's delegates need."""
    from edgepass.runtimes.executorch import _reference

    for name in ("executorch.extension.pybindings._C", "executorch.kernels.quantized"):
        import_module(name)
    _reference.prepare(path)


class _Session:
    evidence: Evidence = "host runtime"

    def __init__(self, path: Path, program: Any, method: Any) -> None:
        # Both stay referenced: a method points into its program's memory.
        self.path, self.program, self.method = path, program, method
        meta = method.method_meta()
        self.dtypes = [_input_dtype(meta, i) for i in range(meta.num_inputs())]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        if len(inputs) != len(self.dtypes):
            raise ValueError(f"it takes {len(self.dtypes)} inputs, {len(inputs)} were given")
        tensors = [_tensor(x, dtype) for x, dtype in zip(inputs, self.dtypes, strict=True)]
        try:
            return [_torch.array(y) for y in self.method(tensors)]  # clones: they outlive the next call
        except RuntimeError:
            if (why := _complaints.of(lambda: self.method(tensors))) is None:
                raise
            raise ArtifactError(f"{self.path} does not run: {why}; change that part of the model") from None


def load(path: Path, threads: int, method: str = "") -> Session:
    """Load a method: `forward`, or the first by name, where none is named. Half-precision I/O is float32 outside.

    Raises DeviceOnlyError for a method with a delegate that nothing here can carry out, and ArtifactError that names
    the operators which have no kernel.
    """
    from executorch.extension.pybindings import _C

    from edgepass.runtimes.executorch import _file, _reference

    _C._unsafe_reset_threadpool(threads)
    program = _C._load_program(str(path), program_verification=_C.Verification.InternalConsistency)
    names = sorted(program.get_method_name(i) for i in range(program.num_methods()))
    if not names:
        raise DamagedError(f"{path} holds no method")
    method = method_of(path, method, names, "forward" if "forward" in names else names[0])
    try:
        return _Session(path, program, program.load_method(method))
    except RuntimeError:
        file = _file.File(path, method)
        if not all(_C._is_available(delegate) for delegate in file.delegates):
            return _reference.load(file, threads)
        if absent := _complaints.without_kernel(file.plan["operators"], _C._get_operator_names()):
            raise ArtifactError(
                f"{path} calls {', '.join(absent)}, for which ExecuTorch has no kernel here; "
                "change that part of the model, or ship a kernel of your own"
            ) from None
        raise


def inspect(path: Path, method: str = "") -> Contents:
    """What a method of the program holds, read from its bytes."""
    from edgepass.runtimes.executorch._file import inspect as read

    return read(path, method)


def cut(path: Path, threads: int, method: str = "") -> Cut:
    """Raises RefusedError, always; what was tried stands at the top."""
    raise RefusedError(
        "ExecuTorch's delegates show no intermediate values: the event tracer of its runtime has the times of "
        "operations inside, and the values of kernels outside only"
    )


def _input_dtype(meta: Any, index: int) -> str | None:
    """Name of the dtype, None for an input that is no tensor."""
    try:
        return _SCALARS.get(meta.input_tensor_meta(index).dtype())
    except RuntimeError:
        return None


def _tensor(x: Array, name: str | None) -> Any:
    """As a tensor of the dtype that the method takes, when that is the same kind of number."""
    import torch

    tensor = _torch.tensor(x)
    wanted: torch.dtype = getattr(torch, name) if name else tensor.dtype
    same_kind = tensor.is_floating_point() == wanted.is_floating_point and torch.bool not in {wanted, tensor.dtype}
    return tensor.to(wanted) if same_kind else tensor
