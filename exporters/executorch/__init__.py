"""ExecuTorch with the XNNPACK delegate: a `.pte`.

Weight-only int8 is refused because the partitioner takes such a graph, loses the scales and says nothing: the outputs
are wrong by three orders of magnitude (torchao's weight-only configurations, executorch 1.5.1).
"""

from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import get_args

import torch
from torch.fx import GraphModule, Node

from edgepass.errors import RefusedError, not_imported
from edgepass.exporters import Beyond, Job, KeepsState, Lowered, Spares
from edgepass.exporters._origin import origin
from edgepass.exporters.executorch import _edge, _reasons, _steps, _xnnpack
from edgepass.quantize.pt2e import CONVOLUTIONS, FUSED, TRANSPOSED, WEIGHTED
from edgepass.quantize.recipe import Scheme
from edgepass.rewrites import splits

extra = "executorch"
runtime = "executorch"
suffix = ".pte"
refuses: dict[Scheme, tuple[str, str]] = {
    "weight-only": ("its XNNPACK backend drops the scales of weight-only int8 and runs on", "dynamic_wi8_afp32")
}
spares: Spares = {
    "float16": (frozenset(TRANSPOSED), "XNNPACK takes those of transposed convolutions in float32 alone"),
    "dynamic": (CONVOLUTIONS, "XNNPACK's quantiser has ranges at run time for linear layers alone"),
}
quantizes: frozenset[Scheme] = frozenset()
least: dict[Scheme, int] = {}
beyond: Beyond = {}
sums_in_halves = True
keeps_state = KeepsState(schemes=frozenset(get_args(Scheme)))
methods = True
dynamic_batch = None
space = 1_200_000_000

REWRITES = (
    *("recurrent", "splits", "attention", "norm", "mean", "activations", "scalars", "reshapes", "alias"),
    *("ordered", "variances", "instance_norm", "pools", "one_picture", "volumes", "windows", "distances"),
    *("slabs", "stuffed", "gelu"),
)
ATEN = torch.ops.aten
PICTURE = 4
VOLUMES = (ATEN.conv3d.default, ATEN.conv3d.padding, ATEN.conv_transpose3d.input)
FLOAT32_ONLY = (
    # XNNPACK has no other.
    ATEN.gelu.default,
    # XNNPACK's in float16 sum and approximate in float16: 58.7 dB for a softmax of 1024 where torch has 73.8.
    ATEN.softmax.int,
    ATEN.exp.default,
    # Outside the delegate, kernels that sum in float16: 39.3 dB for a variance of 1024 where torch has 71.2.
    ATEN.var.default,
    ATEN.var.dim,
    ATEN.var.correction,
    ATEN.std.default,
    ATEN.std.dim,
    ATEN.std.correction,
    ATEN.cumsum.default,
)
"""Operations that stay in float32 under a float16 recipe; `python -m runtime_tests.bench.halves` measures again."""


def lower(job: Job) -> Lowered:
    """The program of `job`, its parts handed to XNNPACK."""
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
            XnnpackDynamicallyQuantizedPartitioner,
            XnnpackPartitioner,
        )
        from executorch.exir.backend.partitioner import Partitioner
    except ImportError as error:
        raise not_imported(error, "executorch", extra) from None

    if job.recipe.scheme == "static":
        _refuse_volumes(job)
    partitioners: list[Partitioner] = [XnnpackPartitioner()]
    if job.recipe.scheme == "dynamic":
        partitioners.insert(0, XnnpackDynamicallyQuantizedPartitioner())
    with _reasons.collected() as reasons:
        change = _own if job.recipe.scheme == "static" else None
        program = _edge.program(job, FLOAT32_ONLY, change)
        if job.program.keeps:
            program = job.program.keeping(program)
        with _xnnpack.mended():
            edge = _edge.lower(job, program, REWRITES, partitioners)
    return _edge.lowered(job, edge, "XNNPACK", reasons)


def write(lowered: Mapping[str, Lowered], path: Path) -> None:
    """Write programs to `path`, as methods of these names."""
    _edge.write(lowered, path)


def _refuse_volumes(job: Job) -> None:
    """Raise RefusedError for int8 convolutions over volumes: as pictures' their weights are no constants to XNNPACK."""
    program = job.program.bare or job.program.exported
    for node in program.graph.nodes:
        if node.target in VOLUMES:
            where = origin(program, str(node.target))
            raise RefusedError(
                f"executorch cannot do {job.recipe.name}{where}: XNNPACK has no int8 convolution over volumes, and the "
                "runtime no kernel; the nearest recipe that it can is fp16"
            )


def _own(module: GraphModule) -> GraphModule:
    """`module`, changed in place: layers share nothing that XNNPACK would give the form of the first one's."""
    return _steps.settled(_own_dequantises(_parts_in_int8(_own_biases(module))))


def _parts_in_int8(module: GraphModule) -> GraphModule:
    """Parts of an int8 picture as int8, which they are.

        before   dequantise ─ split ─ y          after   dequantise ─ split ─ quantise ─ dequantise ─ y

    Where a part of what a convolution gives ends a delegate, XNNPACK's serialiser cuts it along another dimension, and
    the runtime says "Attempted to resize a static tensor" (executorch 1.5.1, op_slice_copy.py). Of anything else it is
    the int8 part that is cut so, and wrong without a word.
    """
    quantise = torch.ops.quantized_decomposed.quantize_per_tensor.default
    for node in list(module.graph.nodes):
        if node.target not in splits.TABLE or node.meta["val"][0].dim() != PICTURE:
            continue
        (source,) = node.all_input_nodes
        if "dequantize_per_tensor" not in str(source.target) or not _of_convolution(source):
            continue
        for part in list(node.users):
            with module.graph.inserting_after(part):
                rounded = module.graph.call_function(quantise, (part, *source.args[1:]))
            with module.graph.inserting_after(rounded):
                back = module.graph.call_function(source.target, (rounded, *source.args[1:]))
            part.replace_all_uses_with(back, lambda user, rounded=rounded: user is not rounded)
            rounded.meta, back.meta = dict(part.meta), dict(part.meta)
    module.recompile()
    return module


def _of_convolution(dequantised: Node) -> bool:
    """Whether what is int8 there is what a convolution gives, and the activation fused with it."""
    made = dequantised
    while made.target in FUSED or "quantize_per_tensor" in str(made.target):
        made = made.all_input_nodes[0]
    return made.target in CONVOLUTIONS


def _own_biases(module: GraphModule) -> GraphModule:
    """A copy of its own for every further layer that uses a bias.

    XNNPACK's biases are int32 in steps of the layer's input and weight. Its serialiser writes one that layers share
    once, in the steps of the first of them, and says nothing of it (node_visitor.py, define_tensor, executorch 1.5.1).
    """
    taken: set[str] = set()
    for node in list(module.graph.nodes):
        bias = node.args[2] if node.target in WEIGHTED and len(node.args) > 2 else None
        if not isinstance(bias, Node) or bias.op != "get_attr":
            continue
        if str(bias.target) in taken:
            copied, name = attrgetter(str(bias.target))(module).detach().clone(), f"_bias_of_{node.name}"
            module.register_buffer(name, copied)
            with module.graph.inserting_before(node):
                node.update_arg(2, module.graph.get_attr(name))
        taken.add(str(bias.target))
    module.recompile()
    return module


def _own_dequantises(module: GraphModule) -> GraphModule:
    """A dequantise of its own for every use of an int8 tensor.

    The partitioner puts one into the part of an operation in int8. An operation in float that uses it too then depends
    on that part, and where the part depends on it in turn, lowering fails with "found dependency cycles".
    """
    for node in list(module.graph.nodes):
        if "dequantize_per_tensor" not in str(node.target):
            continue
        for user in list(node.users)[1:]:
            with module.graph.inserting_before(user):
                user.replace_input_with(node, module.graph.node_copy(node))
    module.recompile()
    return module
