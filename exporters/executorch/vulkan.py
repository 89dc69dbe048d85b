"""ExecuTorch with the Vulkan delegate, for GPUs of Android phones: a `.pte`."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch.fx import GraphModule, Node

from edgepass.errors import RefusedError, not_imported
from edgepass.exporters import Beyond, Job, KeepsState, Lowered, Spares
from edgepass.exporters.executorch import _edge
from edgepass.exporters.executorch._images import as_images
from edgepass.quantize import tables
from edgepass.quantize.pt2e import LOOKUPS
from edgepass.quantize.recipe import Scheme

extra = "executorch"
runtime = "executorch"
suffix = ".vulkan.pte"
refuses: dict[Scheme, tuple[str, str]] = {
    "dynamic": ("its kernels find ranges at run time only beside int4 weights", "weight_only_wi8_afp32")
}
spares: Spares = {"static": (LOOKUPS, "its delegate takes no table in int8, and would be cut in two by one")}
quantizes: frozenset[Scheme] = frozenset()
least: dict[Scheme, int] = {}
beyond: Beyond = {}
sums_in_halves = False
keeps_state = KeepsState()
methods = True
dynamic_batch = "its lowering uses a size that varies before it is known (executorch 1.5.1)"
space = 1_200_000_000

REWRITES = ("attention", "rms_norm", "mean", "activations", "alias")


def lower(job: Job) -> Lowered:
    """The program of `job`, its parts handed to Vulkan."""
    level = logging.root.level
    try:
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
    except ImportError as error:
        raise not_imported(error, "executorch", extra) from None
    finally:
        logging.root.setLevel(level)  # the import turns everybody's messages on

    with _declined() as reasons:
        edge = _edge.lower(job, _edge.program(job, change=partial(_one_image, job)), REWRITES, [VulkanPartitioner()])
    return _edge.lowered(job, edge, "Vulkan", reasons)


def write(lowered: Mapping[str, Lowered], path: Path) -> None:
    """Write programs to `path`, as methods of these names."""
    _edge.write(lowered, path)


def _one_image(job: Job, module: GraphModule) -> GraphModule:
    """`module`, changed in place, so that its convolutions take one image at a time where they can.

    Raises RefusedError where int8 ones cannot: the partitioner would take them all the same.
    """
    int8 = job.recipe.scheme == "static"
    tables.in_float(module)
    as_images(module, sequences=int8)
    if int8 and any(node.target == torch.ops.aten.conv2d.default and _several(node) for node in module.graph.nodes):
        raise RefusedError(
            f"executorch:vulkan cannot do {job.recipe.name} for this model: its int8 convolutions took one image at a "
            "time until pytorch/executorch#22254, and the model gives several; the nearest recipe that it can is fp16"
        )
    return module


def _several(conv: Node) -> bool:
    """Whether a convolution that is as the model has it is of several images."""
    return "val" in conv.meta and conv.meta["val"].shape[0] > 1


@contextmanager
def _declined() -> Iterator[dict[str, str]]:
    """Node -> why the partitioner declined it, filled while a program is partitioned inside; it tells only a log."""
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanSupportedOperators

    reasons: dict[str, str] = {}
    told = VulkanSupportedOperators.log_skip

    def keep(self: VulkanSupportedOperators, node: Node, reason: str) -> None:
        reasons[node.name] = f"Vulkan's partitioner: {reason}"

    VulkanSupportedOperators.log_skip = keep
    try:
        yield reasons
    finally:
        VulkanSupportedOperators.log_skip = told
