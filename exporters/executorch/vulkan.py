"""ExecuTorch with the Vulkan delegate, for GPUs of Android phones: a `.pte`."""

import logging
from pathlib import Path

import torch

from edgepass.errors import MissingExtraError, RefusedError
from edgepass.exporters import Job, Lowered, Spares
from edgepass.exporters.executorch import _edge
from edgepass.quantize.recipe import Scheme

extra = "executorch"
runtime = "executorch"
suffix = ".vulkan.pte"
refuses: dict[Scheme, tuple[str, str]] = {
    "dynamic": ("its kernels find ranges at run time only beside int4 weights", "weight_only_wi8_afp32")
}
spares: Spares = {}
dynamic_batch = "its lowering uses a size that varies before it is known (executorch 1.5.1)"

REWRITES = ("attention", "rms_norm", "alias")


def export(job: Job, path: Path) -> Lowered:
    """Write the program of `job` to `path`."""
    level = logging.root.level
    try:
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
    except ImportError:
        raise MissingExtraError("executorch", extra) from None
    finally:
        logging.root.setLevel(level)  # the import turns everybody's messages on

    ops = {node.target for node in job.program.exported.graph.nodes}
    if job.recipe.scheme == "static" and torch.ops.aten.conv1d.default in ops:
        raise RefusedError(
            f"executorch:vulkan cannot do {job.recipe.name} for this model: its int8 convolutions are of images, and "
            "the model has one along a sequence; the nearest recipe that it can is weight_only_wi8_afp32"
        )
    return _edge.write(_edge.lower(_edge.formatted(job), REWRITES, [VulkanPartitioner()]), path, "Vulkan")
