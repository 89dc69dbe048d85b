"""LiteRT: a `.tflite` file.

Static int8 converts the PT2E graph that all targets share. The other formats are made from the float file by
ai-edge-quantizer, which reaches operations (embeddings, say) that a PT2E graph leaves float.
"""

import re
from collections.abc import Callable, Mapping
from operator import getitem
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram, default_decompositions
from torch.fx import GraphModule, Node

from edgepass import rewrites
from edgepass.errors import RefusedError, not_imported
from edgepass.exporters import (
    ONE,
    Beyond,
    Job,
    KeepsState,
    Lowered,
    Spares,
    _apart,
    _flatbuffer,
    _lacking,
    _resizable,
    _signatures,
)
from edgepass.exporters._capture import Program
from edgepass.exporters._origin import origin
from edgepass.exporters._quiet import converting
from edgepass.quantize.pt2e import CONVOLUTIONS, LOOKUPS, PRODUCTS, TRANSPOSED
from edgepass.quantize.recipe import Scheme

extra = "tflite"
runtime = "tflite"
suffix = ".tflite"
refuses: dict[Scheme, tuple[str, str]] = {}
spares: Spares = {
    "float16": (PRODUCTS, "ai-edge-quantizer casts no matrices of a batch"),
    "static": (frozenset(TRANSPOSED), "litert-torch has no int8 transposed convolution with strides"),
}
quantizes: frozenset[Scheme] = frozenset({"dynamic", "weight-only"})
least: dict[Scheme, int] = {}
beyond: Beyond = {"dynamic": LOOKUPS | CONVOLUTIONS, "weight-only": LOOKUPS}
sums_in_halves = False
keeps_state = KeepsState()
methods = True
dynamic_batch = None
space = 2_800_000_000

ATEN = torch.ops.aten
REWRITES = (
    *("rms_norm", "activations", "expand", "transposed", "slabs", "nearest", "places", "last_windows", "pools"),
    "ordered",
    *("splits", "windows", "floors", "powers"),
)
MISTAKEN = (
    *(ATEN.logical_xor.default, ATEN._safe_softmax.default),
    *(ATEN.index_add.default, ATEN.scatter_add.default, ATEN.index_put.default),  # scatters that LiteRT does not load
    *(ATEN.sort.default, ATEN.sort.stable),  # sorts, likewise
)
"""Operations that litert-torch 0.10 takes, but not into a file that LiteRT 2.1 runs right."""


def lower(job: Job) -> Lowered:
    """The program of `job` as the bytes of a file."""
    try:
        import litert_torch  # noqa: F401  # a missing one should be said before the work
    except ImportError as error:
        raise not_imported(error, "litert-torch", extra) from None
    _refuse_places(job)
    _refuse_nothing(job)
    program, static = job.program, job.recipe.scheme == "static"
    if program.varying:
        graph = job.quantised(fold=False) if static else job.graph()
        sizes = (program.args, _resized(program))
        one, other = (_converted(job, _fixed(graph, args), args) for args in sizes)
        content = _resizable.resizable(one, other, _flags(program))
    else:
        exported = program.retrace(job.quantised(fold=False)) if static else program.exported
        content = _converted(job, exported, program.args)
    notes: list[str] = []
    if job.recipe.scheme not in ("static", "float32"):
        content, notes = _post_training(content, job)
    return Lowered(notes=notes, content=_flatbuffer.named(content, job.program.inputs, job.program.outputs))


def write(lowered: Mapping[str, Lowered], path: Path) -> None:
    """Write a file to `path`; of several methods, with a signature each."""
    parts = {name: made.content for name, made in lowered.items()}
    path.write_bytes(parts[ONE] if list(parts) == [ONE] else _signatures.together(parts))


def _fixed(graph: GraphModule, args: tuple[Tensor, ...]) -> ExportedProgram:
    with converting():
        return torch.export.export(graph, args, strict=False)


def _converted(job: Job, program: ExportedProgram, args: tuple[Tensor, ...]) -> bytes:
    """The file of a program of `job` in float32, or with observed ranges."""
    import litert_torch

    static, knows = job.recipe.scheme == "static", _known()
    simpler = rewrites.simpler(rewrites.apply(program, REWRITES), knows)
    module: GraphModule = simpler.module()
    _with_places(module)
    cut = _apart.apart(module, args) if static else _apart.Cut(args=args, outputs=0)
    with _lacking.told("tflite", job, simpler, knows):
        model = litert_torch.convert(module, cut.args, quant_config=_static() if static else None)
    content = bytes(model.model_content())
    return _flatbuffer.joined(_flatbuffer.float_ends(content), cut) if static else content


def _resized(program: Program) -> tuple[Tensor, ...]:
    """Arguments of the largest size in each dimension that varies: what is cut to a size is seen whole."""
    args = program.args
    for which, having in program.varying:
        own = args[having[0]].shape[which.axis]
        size = which.high if own < which.high else which.low
        along = torch.arange(size) % own
        args = tuple(arg.index_select(which.axis, along) if n in having else arg for n, arg in enumerate(args))
    return args


def _flags(program: Program) -> str:
    return " and ".join(dict.fromkeys("--dynamic" if v.axis else "--max-batch" for v, _ in program.varying))


def _known() -> Callable[[Node], bool]:
    """Whether litert-torch takes an operation, or takes apart what we have no formula of, at once or when it lowers."""
    from litert_torch.backend import lowerings
    from litert_torch.fx_infra import decomp

    tables = (default_decompositions().materialize(), decomp.pre_convert_decomp(), decomp.pre_lower_decomp())
    apart = frozenset().union(*tables) - rewrites.own().keys()

    def known(node: Node) -> bool:
        return node.target not in MISTAKEN and (node.target in apart or lowerings.lookup(node.target) is not None)

    return known


def _refuse_places(job: Job) -> None:
    """Raise RefusedError for the places of the largest in a volume, which litert-torch 0.10 counts otherwise."""
    program = job.program.exported
    for node in program.graph.find_nodes(op="call_function", target=ATEN.max_pool3d_with_indices.default):
        if any(user.target is getitem and user.args[1] == 1 for user in node.users):
            where = origin(job.program.bare or program, str(node.target))
            raise RefusedError(
                f"tflite cannot convert the model{where}: its converter counts the places of the largest in a volume "
                "otherwise than torch; ask for the numbers alone, without return_indices, or name the other targets "
                "with --target"
            )


def _refuse_nothing(job: Job) -> None:
    """Raise RefusedError for outputs without elements, for which LiteRT 2.1 finds no memory ("Invalid tensor size")."""
    program = job.program.exported
    nodes = {node.name: node for node in program.graph.nodes}
    for name, of in zip(job.program.outputs, program.graph_signature.user_outputs, strict=True):
        shape = list(nodes[str(of)].meta["val"].shape)
        if not all(shape):
            raise RefusedError(
                f"tflite cannot give the output {name}: it has no elements, of shape {shape}, and LiteRT runs no such "
                "file; leave it out of what the model returns, or name the other targets with --target"
            )


def _with_places(module: GraphModule) -> None:
    """The largest of a row from where they are, where a model asks for the numbers alone.

    litert-torch 0.10 makes a sort of a topk whose places nothing needs, which LiteRT 2.1 has not.
    """
    graph = module.graph
    for node in graph.find_nodes(op="call_function", target=ATEN.topk.default):
        asked = {user.args[1]: user for user in node.users if user.target is getitem}
        if 0 in asked and 1 not in asked:
            dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", -1)
            with graph.inserting_after(node):
                places = graph.call_function(getitem, (node, 1))
            with graph.inserting_after(places):
                numbers = graph.call_function(ATEN.gather.default, (node.args[0], dim, places))
            asked[0].replace_all_uses_with(numbers)
    module.recompile()


def _static() -> Any:
    # Without it litert-torch keeps the fake quantisation and writes a float file.
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
    from litert_torch.quantize.quant_config import QuantConfig

    config = get_symmetric_quantization_config(is_per_channel=True)
    return QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(config))


def _post_training(content: bytes, job: Job) -> tuple[bytes, list[str]]:
    """The float file in another number format, by ai-edge-quantizer."""
    try:
        from ai_edge_quantizer import qtyping, quantizer, recipe
    except ImportError as error:
        raise not_imported(error, "ai-edge-quantizer", extra) from None
    scheme = job.recipe.scheme
    quantise = quantizer.Quantizer(content)
    if scheme == "float16":
        quantise.update_quantization_recipe(
            regex=".*",
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            algorithm_key="float_casting",
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
        )
    else:
        named = recipe.dynamic_wi8_afp32() if scheme == "dynamic" else recipe.weight_only_wi8_afp32()
        quantise.load_quantization_recipe(named)
        for scope in _flatbuffer.readers(content, job.in_float()):
            quantise.update_quantization_recipe(
                regex=f"^{re.escape(scope)};",
                operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
                algorithm_key="no_quantize",
            )
    quantised = quantise.quantize().quantized_model
    assert quantised is not None, "ai-edge-quantizer gave no model"
    result = bytes(quantised)
    return _flatbuffer.raise_version(result) if scheme == "dynamic" else (result, [])
