"""Core ML: an ML program for iOS 17 and later, in a `.mlpackage`; one that keeps state is for iOS 18 and later.

A state of Core ML is float16 and begins with zeros. A recipe whose arithmetic is float32 asks for more than that.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.fx import Node

from edgepass import exporters, rewrites
from edgepass.errors import not_imported
from edgepass.exporters import Beyond, Job, KeepsState, Lowered, Spares, _integers, _lacking, _moved
from edgepass.quantize import weights
from edgepass.quantize.pt2e import module_path
from edgepass.quantize.recipe import Scheme
from edgepass.quantize.weights import Array

extra = "coreml"
runtime = "coreml"
suffix = ".mlpackage"
refuses: dict[Scheme, tuple[str, str]] = {
    "dynamic": ("Core ML has no activations whose range is found at run time", "weight_only_wi8_afp32")
}
spares: Spares = {}
quantizes: frozenset[Scheme] = frozenset({"weight-only"})
least: dict[Scheme, int] = {"weight-only": 10}
beyond: Beyond = {}
sums_in_halves = False
keeps_state = KeepsState(schemes=frozenset({"float16", "static"}), from_zero=True)
methods = True
dynamic_batch = None
space = 1_400_000_000

ATEN = torch.ops.aten
REWRITES = (
    *("rms_norm", "recurrent", "alias", "copies", "windows", "remainders", "log_sigmoid", "pools", "variances"),
    *("ordered", "bounds", "diagonal", "distances", "circular", "reciprocal", "booleans", "wholes", "outgrown"),
    *("gelu_by_tanh", "softplus", "places"),
)
MISTAKEN = (
    ATEN.where.ScalarSelf,  # asks the number beside a tensor to be of its type
    ATEN.cosine_similarity.default,  # asks for an epsilon
    ATEN.nan_to_num.default,  # scatters nothing where no number is infinite
    ATEN.tile.default,  # asks for as many repeats as dimensions
    *(ATEN.logcumsumexp.default, ATEN._upsample_bilinear2d_aa.default, ATEN._upsample_bilinear2d_aa.vec),
    *(ATEN.acosh.default, ATEN.asinh.default),  # calls what its builder has not
    *(ATEN.native_layer_norm.default, ATEN.native_group_norm.default),  # gives the first of three
    ATEN.meshgrid.default,
    ATEN.meshgrid.indexing,
)
"""Operations that coremltools 9.0 has a translation of, but not a right one."""
WEIGHTED = ("linear", "conv", "conv_transpose")
EVERY_WEIGHT = 0
"""Elements below which coremltools leaves a weight alone: none, where its default of 2048 skips small models whole."""
KEPT = "edgepass: kept in float32"
"""Where an operation came from, as coremltools is told, if that is a module which stays float32."""


def lower(job: Job) -> Lowered:
    """The program of `job` as a model of coremltools."""
    try:
        import coremltools as ct
    except ImportError as error:
        raise not_imported(error, "coremltools", extra) from None

    program = job.program.exported
    if job.recipe.scheme == "static":
        program = job.program.retrace(_moved.moved(job.quantised(fold=True)))
    program = _integers.wide(job.program, program)
    names = job.program.outputs
    if kept := exporters.keeps_state("coreml", job):
        program = job.program.keeping(program)
        names = names[: len(names) - len(job.program.state)]
    program = rewrites.apply(program, REWRITES)

    def converted(knows: Callable[[Node], bool]) -> Any:
        simpler = rewrites.simpler(program, knows)
        return ct.convert(
            simpler,
            minimum_deployment_target=ct.target.iOS18 if kept else ct.target.iOS17,
            compute_precision=_precision(ct, job, simpler),
            outputs=_outputs(ct, simpler, names),
            skip_model_load=True,
        )

    try:
        model = converted(_translated)
    except MemoryError:
        raise
    except Exception as error:  # whatever a translation raises for a call that it does not expect
        try:
            model = converted(_elementary)
        except Exception:
            with _lacking.told("coreml", job, rewrites.simpler(program, _translated), _translated):
                raise error from None  # of what the model calls, not of its parts
    if job.recipe.scheme == "weight-only":
        model = _int8_weights(model, job.in_float())
    _describe(model, job)
    return Lowered(content=model)


def write(lowered: Mapping[str, Lowered], path: Path) -> None:
    """Write a model to `path`, a directory as Core ML packages are; several as functions of one, for iOS 18 and later.

    coremltools joins packages, whose weights of equal values it then writes once.
    """
    import coremltools as ct

    if list(lowered) == [exporters.ONE]:
        (made,) = lowered.values()
        made.content.save(str(path))
        # For ExecuTorch's profiler; it would be a third of a small package, and no Core ML runtime reads it.
        (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
        return
    functions = ct.utils.MultiFunctionDescriptor()
    with TemporaryDirectory() as folder:
        for number, (name, made) in enumerate(lowered.items()):
            made.content.save(part := f"{folder}/{number}{suffix}")
            functions.add_function(part, "main", name)
        functions.default_function_name = next(iter(lowered))
        ct.utils.save_multifunction(functions, str(path))


def _translated(node: Node) -> bool:
    """Whether coremltools has a translation of the operation, and a right one."""
    from coremltools.converters.mil.frontend.torch import is_torch_fx_node_supported

    named = str(getattr(node.target, "_opname", ""))
    if node.target in MISTAKEN or named.endswith("_"):  # `__or__`, which coremltools takes for one in place
        return False
    supported: bool = is_torch_fx_node_supported(node)
    return supported


def _elementary(node: Node) -> bool:
    """Whether it has that of what torch itself takes for elementary, and takes no further apart."""
    return _translated(node) and not {torch.Tag.core, torch.Tag.view_copy}.isdisjoint(getattr(node.target, "tags", ()))


def _precision(ct: Any, job: Job, program: ExportedProgram) -> Any:
    """float32, or float16 for all operations but those of the modules that are kept.

    coremltools renames operations and puts others in their place, x / s as x times 1 / s for one. What it carries along
    through all of that is where they came from, so that is written over.
    """
    if job.recipe.scheme != "float16":
        return ct.precision.FLOAT32
    from coremltools.converters.mil.mil.scope import ScopeSource

    for node in program.graph.nodes:
        if node.op == "call_function" and job.recipe.keeps(module_path(node)):
            node.meta["stack_trace"] = KEPT
    return ct.transform.FP16ComputePrecision(
        op_selector=lambda op: KEPT not in op.scopes.get(ScopeSource.EXIR_STACK_TRACE, [])
    )


def _outputs(ct: Any, program: ExportedProgram, names: Sequence[str]) -> list[Any]:
    """By the model's own names and of its own types, where coremltools would name them by whatever made them.

    Left to itself it also makes the outputs of a float16 program float16.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    values = [nodes[name].meta["val"] for name in program.graph_signature.user_outputs]
    types = [np.float32 if value.is_floating_point() else np.int32 for value in values]
    return [ct.TensorType(name=name, dtype=dtype) for name, dtype in zip(names, types, strict=True)]


def _int8_weights(model: Any, in_float: Sequence[Array]) -> Any:
    """Weights int8 by coremltools' own quantiser; not what reads `in_float`."""
    import coremltools.optimize.coreml as cto

    # Named operations only: every constant is a weight to coremltools, the scaler's means included.
    config = cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=EVERY_WEIGHT
    )
    by_type: Any = dict.fromkeys(WEIGHTED, config)  # coremltools annotates these tables as a single config
    by_name: Any = dict.fromkeys(_readers(model, in_float))
    return cto.linear_quantize_weights(model, cto.OptimizationConfig(op_type_configs=by_type, op_name_configs=by_name))


def _readers(model: Any, values: Sequence[Array]) -> list[str]:
    """Names of the operations that read one of these constants as a weight; coremltools names them as it likes."""
    operations = [op for function in model._mil_program.functions.values() for op in function.operations]
    return [
        op.name
        for op in operations
        if op.op_type in WEIGHTED and op.weight.val is not None and weights.same(op.weight.val, values)
    ]


def _describe(model: Any, job: Job) -> None:
    model.short_description = "Written by edgepass"
    model.version = job.recipe.name
