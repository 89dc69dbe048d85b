"""ExecuTorch: runs a .pte on the XNNPACK delegate and the portable and quantised kernels of the Python wheel."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgepass.errors import ArtifactError
from edgepass.manifest import Evidence
from edgepass.runtimes import Array, Contents, Session

extra = "executorch"
suffix = ".pte"
evidence: Evidence = "host runtime"


def versions() -> dict[str, str]:
    """Of the packages it runs on; importing them here also registers the quantised kernels."""

    return {name: metadata.version(name) for name in ("executorch", "torch")}


class _Session:
    def __init__(self, path: Path, threads: int) -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime, Verification

        portable_lib._unsafe_reset_threadpool(threads)
        # Both stay referenced: a method points into its program's memory.
        self.program = Runtime.get().load_program(path, verification=Verification.InternalConsistency)
        names = sorted(self.program.method_names)
        if not names:
            raise ArtifactError(f"{path} holds no method; export it again")
        self.method = self.program.load_method("forward" if "forward" in names else names[0])
        meta = self.method.metadata
        self.dtypes = [meta.input_tensor_meta(i).dtype() for i in range(meta.num_inputs())]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        if len(inputs) != len(self.dtypes):
            raise ValueError(f"it takes {len(self.dtypes)} inputs, {len(inputs)} were given")
        tensors = [_tensor(x, dtype) for x, dtype in zip(inputs, self.dtypes, strict=True)]
        return [_array(y) for y in self.method.execute(tensors)]


def load(path: Path, threads: int) -> Session:
    """Load the method `forward`, or the first by name. Half-precision I/O is taken and given as float32."""
    return _Session(path, threads)


def inspect(path: Path) -> Contents:
    """What the program holds, read from its bytes."""
    from edgepass.runtimes._pte import inspect as read

    return read(path)


def _tensor(x: Array, scalar_type: int) -> Any:
    """As a tensor of the dtype that the method takes, when that is the same kind of number."""
    import torch
    from executorch.exir.scalar_type import ScalarType
    from executorch.exir.tensor import get_scalar_type

    tensor = torch.from_numpy(np.ascontiguousarray(x))
    wanted = get_scalar_type(ScalarType(scalar_type))
    same_kind = tensor.is_floating_point() == wanted.is_floating_point and torch.bool not in {wanted, tensor.dtype}
    return tensor.to(wanted) if same_kind else tensor


def _array(y: Any) -> Array:
    import torch

    if not isinstance(y, torch.Tensor):
        return np.asarray(y)
    return (y.float() if y.dtype in {torch.float16, torch.bfloat16} else y).numpy()
