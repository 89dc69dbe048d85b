"""ExecuTorch with the XNNPACK delegate: a `.pte`.

Weight-only int8 is refused because the partitioner takes such a graph, loses the scales and says nothing: the outputs
are wrong by three orders of magnitude (torchao's weight-only configurations, executorch 1.5.1).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from edgepass import rewrites
from edgepass.errors import MissingExtraError
from edgepass.exporters import Job, Lowered, Spares
from edgepass.manifest import Fallback
from edgepass.quantize.float16 import to_float16
from edgepass.quantize.pt2e import CONVOLUTIONS, WEIGHTED
from edgepass.quantize.recipe import Scheme

extra = "executorch"
runtime = "executorch"
suffix = ".pte"
refuses: dict[Scheme, tuple[str, str]] = {
    "weight-only": ("its XNNPACK backend drops the scales of weight-only int8 and runs on", "dynamic_wi8_afp32")
}
spares: Spares = {
    "float16": (CONVOLUTIONS, "XNNPACK's serialiser writes those of convolutions so (op_conv2d.py, force_fp32)")
}
dynamic_batch = None

REWRITES = ("attention", "norm", "mean", "activations", "scalars", "reshapes", "alias")
# XNNPACK has these in float32 only; a cast on either side keeps them in the delegate.
FLOAT32_ONLY = (torch.ops.aten.gelu.default,)


def export(job: Job, path: Path) -> Lowered:
    """Write the program of `job` to `path`."""
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
            XnnpackDynamicallyQuantizedPartitioner,
            XnnpackPartitioner,
        )
        from executorch.exir import to_edge_transform_and_lower
        from executorch.exir.backend.partitioner import Partitioner
        from executorch.exir.operator.util import _QUANT_PRIMITIVES
        from executorch.exir.passes.constant_prop_pass import constant_prop_pass
    except ImportError:
        raise MissingExtraError("executorch", extra) from None

    partitioners: list[Partitioner] = [XnnpackPartitioner()]
    if job.recipe.scheme == "dynamic":
        partitioners.insert(0, XnnpackDynamicallyQuantizedPartitioner())
    program = rewrites.apply(_formatted(job), REWRITES)
    # Folding takes constants out of a table that the rewritten program shares with the captured one.
    program._constants = dict(program._constants)
    # The rewrites' rows of 1/D are constants, but only once something has computed them.
    # Dequantised int8 weights are constants too, and folding those would undo the recipe.
    skip: Any = set(_QUANT_PRIMITIVES)  # annotated for edge operations; this program is not one yet
    program = constant_prop_pass(program, custom_skip_targets=skip)
    with _reasons() as reasons:
        edge = to_edge_transform_and_lower(program, partitioner=partitioners)
    fallbacks = _fallbacks(edge.exported_program(), reasons)
    path.write_bytes(edge.to_executorch().buffer)
    return Lowered(fallbacks=fallbacks)


def _formatted(job: Job) -> ExportedProgram:
    """The program in the number formats of its recipe."""
    match job.recipe.scheme:
        case "float32":
            return job.program.exported
        case "float16":
            return job.program.retrace(to_float16(job.graph(), job.recipe, FLOAT32_ONLY))
        case "static":
            return job.program.retrace(_own_dequantises(_own_biases(job.quantised(fold=True))))
        case _:
            return job.program.retrace(job.quantised(fold=True))


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


class _Collector(logging.Handler):
    """Keeps what XNNPACK's partitioner says, at DEBUG level only, about a node that it declines."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.reasons: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        message: Any = record.msg
        if type(message).__name__ == "WhyNoPartition":
            self.reasons[str(message.node)] = str(message.reason)


@contextmanager
def _reasons() -> Iterator[dict[str, str]]:
    collector = _Collector()
    # The partitioner and the checks it calls. The serialiser beside them, when at DEBUG, writes every delegated graph
    # into the current directory.
    names = ("executorch.backends.xnnpack.partition", "executorch.backends.xnnpack._passes")
    loggers = [logging.getLogger(n) for n in logging.root.manager.loggerDict if n.startswith(names)]
    before = [(log, log.level, log.propagate) for log in loggers]
    disabled = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    for log in loggers:
        log.setLevel(logging.DEBUG)
        log.propagate = False
        log.addHandler(collector)
    try:
        yield collector.reasons
    finally:
        logging.disable(disabled)
        for log, level, propagate in before:
            log.removeHandler(collector)
            log.setLevel(level)
            log.propagate = propagate


def _fallbacks(program: ExportedProgram, reasons: dict[str, str]) -> list[Fallback]:
    """Operations left outside every delegate."""
    left: list[Fallback] = []
    for node in program.graph.nodes:
        target: Any = node.target
        name = str(getattr(target, "__name__", target))
        if node.op != "call_function" or name in ("executorch_call_delegate", "getitem", "alloc"):
            continue
        stack = node.meta.get("nn_module_stack") or {}
        module = str(list(stack.values())[-1][0]) if stack else ""
        reason = reasons.get(node.name, "XNNPACK has no such operation")
        left.append(Fallback(op=name, module=module, reason=reason))
    return left
