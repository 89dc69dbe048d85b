"""ONNX, opset 20, for onnxruntime: an `.onnx` file with its weights inside."""

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from torch._ops import OperatorBase
from torch.export import ExportedProgram
from torch.fx import Node

from edgepass import rewrites
from edgepass.errors import not_imported
from edgepass.exporters import ONE, Beyond, Job, KeepsState, Lowered, Spares, _lacking
from edgepass.quantize import weights
from edgepass.quantize.float16 import to_float16
from edgepass.quantize.pt2e import CONVOLUTIONS, TRANSPOSED
from edgepass.quantize.recipe import Scheme
from edgepass.quantize.weights import Array
from edgepass.rewrites import averages, edges, extremes, losses, pools, training
from edgepass.rewrites.last_windows import Mean

ATEN = torch.ops.aten
extra = "onnx"
runtime = "onnx"
suffix = ".onnx"
refuses: dict[Scheme, tuple[str, str]] = {}
spares: Spares = {"dynamic": (frozenset(TRANSPOSED), "onnxruntime's dynamic quantiser has no transposed convolutions")}
quantizes: frozenset[Scheme] = frozenset({"dynamic"})
least: dict[Scheme, int] = {}
beyond: Beyond = {"dynamic": frozenset(CONVOLUTIONS - TRANSPOSED)}
sums_in_halves = False
keeps_state = KeepsState()
methods = False
dynamic_batch = None
space = 1_500_000_000


def lower(job: Job) -> Lowered:
    """The program of `job` as a model of onnx."""
    try:
        import onnx  # noqa: F401  # a missing one should be said before the work
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
        from onnx_ir.passes.common import DeduplicateInitializersPass
    except ImportError as error:
        raise not_imported(error, "onnx, onnxruntime or onnxscript", extra) from None
    program = _plain(_formatted(job))
    try:
        converted = _converted(job, program)
    except MemoryError:
        raise
    except Exception:  # whatever a translation raises for an operation that it does not know
        knows = _registered()
        simpler = rewrites.simpler(program, knows)
        with _lacking.told("onnx", job, simpler, knows):
            converted = _converted(job, simpler)
    _set_apart(converted.model.graph, {*job.program.inputs, *job.program.outputs})
    # The exporter transposes a weight anew for every layer that uses it; a loop would have one for each time round.
    DeduplicateInitializersPass(size_limit=sys.maxsize)(converted.model)
    model = converted.model_proto
    if job.recipe.scheme == "dynamic":
        model = _dynamic(model, job.in_float())
    if job.recipe.scheme == "static":
        _unsigned(model)
    _forget_sources(model)
    return Lowered(content=model)


def _converted(job: Job, program: ExportedProgram) -> Any:
    return torch.onnx.export(
        program,
        job.program.args,
        dynamo=True,
        verbose=False,
        input_names=job.program.inputs,
        output_names=job.program.outputs,
    )


def write(lowered: Mapping[str, Lowered], path: Path) -> None:
    """Write a model to `path`, whose graph has the name of its method."""
    import onnx

    ((method, made),) = lowered.items()
    if method != ONE:
        made.content.graph.name = method
    onnx.save_model(made.content, str(path))


def _formatted(job: Job) -> ExportedProgram:
    match job.recipe.scheme:
        case "float32" | "dynamic":
            return job.program.exported
        case "float16":
            return job.program.retrace(to_float16(job.graph(), job.recipe))
        case "weight-only":
            return rewrites.apply(job.program.retrace(job.quantised(fold=True)), ("rows",))
        case "static":
            return job.program.retrace(job.quantised(fold=True))


def _plain(program: ExportedProgram) -> ExportedProgram:
    """With the rewrites that some operation in it asks for."""
    nodes = program.graph.find_nodes
    found = [
        name
        for name, operations, asks in NEEDED
        if any(asks(node) for operation in operations for node in nodes(op="call_function", target=operation))
    ]
    return rewrites.apply(program, found) if found else program


def _has_other_axes(node: Node) -> bool:
    return any(x.meta["val"].ndim != 4 for x in node.all_input_nodes[:3])


def _in_training(node: Node) -> bool:
    return node.args[5] is True


def _outgrows(node: Node) -> bool:
    if len(node.args) < 6:  # it says nothing of more
        return False
    dims = node.all_input_nodes[1].meta["val"].ndim - 2
    strides, mores = (rewrites.each(cast(Any, node.args[place]), dims) for place in (3, 5))
    return any(more >= stride for more, stride in zip(mores, strides, strict=True))


def _cuts(node: Node) -> bool:
    return node.args[2:3] == ("replicate",) and any(n < 0 for n in cast(Any, node.args[1]))


def _takes_shares(node: Node) -> bool:
    return bool(node.all_input_nodes[1].meta["val"].is_floating_point())


def _names_no_dimension(node: Node) -> bool:
    return not node.args[1:] and "dim" not in node.kwargs


NEEDED: tuple[tuple[str, Iterable[OperatorBase], Callable[[Node], bool]], ...] = (
    # The converter takes attention with one axis of heads alone.
    ("attention", (ATEN.scaled_dot_product_attention.default,), _has_other_axes),
    ("outgrown", (ATEN.conv_transpose1d.default, ATEN.conv_transpose2d.input, ATEN.conv_transpose3d.input), _outgrows),
    ("pools", (*pools.TABLE, ATEN.adaptive_max_pool3d.default), bool),
    ("volumes", (ATEN.adaptive_max_pool3d.default,), bool),
    ("averages", averages.TABLE, lambda node: averages.is_uncommon(Mean(*cast(Any, node.args[1:])))),
    ("training", training.TABLE, _in_training),
    ("edges", edges.TABLE, _cuts),
    ("losses", losses.TABLE, _takes_shares),
    ("extremes", extremes.TABLE, _names_no_dimension),
)
"""Rewrites, the operations that may ask for them, and which of those do."""


def _registered() -> Callable[[Node], bool]:
    """Whether the converter has a function of an operation."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    registry = ONNXRegistry.from_torchlib()
    return lambda node: registry.is_registered(cast(Any, node.target))


def _readers(model: Any, values: Sequence[Array]) -> list[str]:
    """Names of the nodes that read one of these constants."""
    from onnx import numpy_helper

    if not values:
        return []
    sizes = {value.size for value in values}
    held = {
        constant.name
        for constant in model.graph.initializer
        if math.prod(constant.dims) in sizes and weights.same(numpy_helper.to_array(constant), values)
    }
    return [node.name for node in model.graph.node if held.intersection(node.input)]


def _set_apart(graph: Any, ends: set[str]) -> None:
    """Rename what is called as an input or output of the model and is none: `linear`, say, of the linear layer."""
    own = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.name in ends and id(value) not in own:
                value.name = f"{value.name}_of_{node.name}"


def _unsigned(model: Any) -> None:
    """Have the 8 bits of activations from 0 to 255, where torch has them from -128: the same steps, and weights stay.

        before   quantise(s, z: int8) ─ dequantise(s, z: int8)       after   quantise(s, z + 128: uint8) ─ dequantise(…)

    onnxruntime 1.31 has integer kernels for uint8 by int8 on every processor; for int8 by int8 on a PC it first makes
    them so, and leaves a layer in float whose result an operation in float reads too, as at every residual.
    """
    from onnx import numpy_helper

    constants = {constant.name: constant for constant in model.graph.initializer}
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    made: dict[str, Any] = {}
    for node in model.graph.node:
        zero = constants.get(node.input[2]) if node.op_type == "QuantizeLinear" and len(node.input) > 2 else None
        back = readers[node.output[0]]
        if zero is None or node.input[0] in constants or any(each.op_type != "DequantizeLinear" for each in back):
            continue
        value = numpy_helper.to_array(zero)
        if value.dtype != np.int8:
            continue
        name = f"{zero.name}_unsigned"
        made[name] = numpy_helper.from_array((value.astype(np.int16) + 128).astype(np.uint8), name)
        for each in (node, *back):
            each.input[2] = name
    model.graph.initializer.extend(made.values())
    # Types that the exporter wrote beside values are no longer theirs.
    del model.graph.value_info[:]


def _forget_sources(model: Any) -> None:
    """Drop the exporter's notes on every node: the caller's paths and lines of source, larger than a small model."""
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]


def _dynamic(model: Any, in_float: Sequence[Array]) -> Any:
    """Weights int8, activations quantised as they arrive, by onnxruntime's own quantiser; not what reads `in_float`.

    Lookups are left out: it gives the whole of a table one step, which rows of different sizes do not survive.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.registry import IntegerOpsRegistry

    # Shapes that the exporter wrote beside values contradict the ones that the quantiser infers.
    del model.graph.value_info[:]
    with TemporaryDirectory() as folder:
        staged = f"{folder}/dynamic.onnx"
        quantize_dynamic(
            model,
            staged,
            nodes_to_exclude=_readers(model, in_float),
            op_types_to_quantize=sorted(IntegerOpsRegistry.keys() - {"Gather", "EmbedLayerNormalization"}),
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return onnx.load(staged)
