"""ExecuTorch with the Core ML delegate, for iPhones: a `.pte` with an ML program inside."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from edgepass.errors import not_imported
from edgepass.exporters import Beyond, Job, KeepsState, Lowered, Spares, coreml
from edgepass.exporters.executorch import _edge
from edgepass.quantize.recipe import Scheme

extra = "coreml"
runtime = "executorch"
suffix = ".coreml.pte"
refuses: dict[Scheme, tuple[str, str]] = coreml.refuses
spares: Spares = coreml.spares
quantizes: frozenset[Scheme] = frozenset()
least: dict[Scheme, int] = {}
beyond: Beyond = {}
sums_in_halves = False
keeps_state = KeepsState()
methods = True
dynamic_batch = "its delegate takes shapes that are listed, not a range of them"
space = 1_400_000_000

# coremltools makes the epsilon of a layer norm float32, and then refuses it beside weights in float16; what a pad is
# filled with too, and then the pad and the layer behind it. It divides in float32, and all behind that would be so.
FLOAT32_ONLY = (
    torch.ops.aten.div.Tensor,
    torch.ops.aten.layer_norm.default,
    torch.ops.aten.pad.default,
    torch.ops.aten.constant_pad_nd.default,
)
DEBUG = ("executorch_debug_handle_mapping.json", "debug_info.json")
"""For ExecuTorch's profiler, and more than all else in a small file; running it needs neither."""


def lower(job: Job) -> Lowered:
    """The program of `job`, its parts handed to Core ML."""
    try:
        import coremltools as ct
        from executorch.backends.apple.coreml.compiler import CoreMLBackend
        from executorch.backends.apple.coreml.partition import CoreMLPartitioner
        from executorch.exir.lowered_backend_module import LoweredBackendModule
    except ImportError as error:
        raise not_imported(error, "coremltools", extra) from None

    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,  # of what the program itself does not have in float16
    )
    edge = _edge.lower(job, _edge.program(job, FLOAT32_ONLY), coreml.REWRITES, [CoreMLPartitioner(compile_specs=specs)])
    for module in edge.exported_program().graph_module.modules():
        if isinstance(module, LoweredBackendModule):
            module._processed_bytes = _lean(module.processed_bytes)
    return _edge.lowered(job, edge, "Core ML")


def write(lowered: Mapping[str, Lowered], path: Path) -> None:
    """Write programs to `path`, as methods of these names."""
    _edge.write(lowered, path)


def _lean(payload: bytes) -> bytes:
    """The same package without what is there for debugging."""
    from executorch.backends.apple.coreml import executorchcoreml

    with TemporaryDirectory() as name:
        executorchcoreml.unflatten_directory_contents(payload, name)
        (folder,) = Path(name).iterdir()
        for file in DEBUG:
            for found in folder.rglob(file):
                found.unlink()
        return executorchcoreml.flatten_directory_contents(str(folder)) or payload
