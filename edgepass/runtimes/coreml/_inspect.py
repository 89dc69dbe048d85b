"""What a Core ML package holds: its inputs and outputs, weights as stored, operations, activation memory, flops."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from edgepass.errors import ArtifactError, DamagedError
from edgepass.judging.manifest import Weight
from edgepass.runtimes import Array, Contents, Held, dequantized
from edgepass.runtimes.coreml._compile import Env
from edgepass.runtimes.coreml._cost import all_operations, count_flops, planned_bytes
from edgepass.runtimes.coreml._file import Package, kinds, open_package
from edgepass.runtimes.coreml._interface import spec
from edgepass.runtimes.coreml._program import Program, load_program, read_function
from edgepass.runtimes.coreml._quant import decompress

Granularity = Literal["per-tensor", "per-channel", "per-block"]

_STORED = {  # where a compressed constant keeps its elements, by operation
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
    "constexpr_cast": "source_val",
    "constexpr_lut_to_dense": "indices",
    "constexpr_lut_to_sparse": "indices_nonzero_data",
    "constexpr_sparse_blockwise_shift_scale": "nonzero_data",
    "constexpr_sparse_to_dense": "nonzero_data",
}
_FINEST: tuple[Granularity, ...] = ("per-tensor", "per-channel", "per-block")


def inspect(path: Path, method: str = "") -> Contents:
    """Read a function of a package, the default one where none is named.

    Memory and flops come from one run on zeros at the default shape; without one, notes say why.
    """
    package = open_package(path, method)
    notes: list[str] = []
    if len(package.methods) > 1 and not method:
        notes.append(f"the package has {len(package.methods)} functions, this is {package.main}")
    planned, flops = None, {}
    try:
        program = load_program(package)
        function = program.function
        env = _run_on_zeros(package, program)
        check_shapes(package, program, env)
        planned, flops = planned_bytes(program, env), count_flops(program, env)
    except DamagedError:
        raise
    except ArtifactError as error:
        function = read_function(package)
        notes.append(f"no activation memory or flops: {error}")
    counts = kinds(package)
    counts.pop("const", None)
    held = list(weights(function))
    return Contents(
        format=f"mlprogram, specification {package.spec.specificationVersion}",
        inputs=[spec(feature) for feature in package.description.input],
        outputs=[spec(feature) for feature in package.description.output],
        weights=[weight for weight, _ in held],
        values=[value for _, value in held],
        ops=dict(sorted(counts.items())),
        planned_bytes=planned,
        flops=flops,
        notes=notes,
        methods=package.methods,
    )


def weights(function: Any) -> Iterator[Held]:
    """Every constant of more than one element that is a float, int8, or integers that stand for floats.

    Other integers are arguments (shapes, axes) and no weights.
    """
    from coremltools.converters.mil.mil import types

    for op in all_operations(function.operations):
        integers = op.op_type == "const" and any(c.op_type == "dequantize" for c in op.outputs[0].child_ops)
        consumers = [c for v in op.outputs for c in v.child_ops]
        if any(c.op_type.startswith("constexpr_") for c in consumers):
            continue
        tensor = op.op_type == "const" and types.is_tensor(op.outputs[0].sym_type)
        numbers = tensor and (types.is_float(op.outputs[0].dtype) or op.outputs[0].dtype is types.int8)
        if not (numbers or integers or op.op_type.startswith("constexpr_")):
            continue
        value = decompress(op.outputs[0])
        if value is None or value.size <= 1:
            continue
        zero = next((decompress(c.zero_point) for c in consumers if integers and c.zero_point is not None), None)
        weight = Weight(
            name=op.outputs[0].name,
            shape=tuple(int(d) for d in value.shape),
            dtype=_stored_dtype(op.outputs[0]),
            granularity=_granularity(op, consumers if integers else []),
            zeros=float(np.mean(value == (0 if zero is None or zero.size > 1 else zero))),
            layout=_layout(op.outputs[0]),
        )
        yield weight, _stood_for(value, zero, consumers) if integers else value.astype(np.float32)


def _stood_for(integers: Any, zero: Any, consumers: list[Any]) -> Array:
    op = next(c for c in consumers if c.op_type == "dequantize")
    axis = None if op.axis is None else int(op.axis.val)
    return dequantized(integers, decompress(op.scale), 0 if zero is None else zero, axis=axis)


def _layout(var: Any) -> str | None:
    """Letters for the dimensions of a constant, as the operation reads it that it reaches unchanged."""
    while var.child_ops and var.child_ops[0].op_type in {"dequantize", "cast"}:
        var = var.child_ops[0].outputs[0]
    for op in var.child_ops[:1]:
        kernel = "DHW"[5 - var.rank :]
        match op.op_type, next((name for name, value in op.inputs.items() if value is var), None):
            case "linear", "weight":
                return "OI"
            case "conv", "weight":
                return f"OI{kernel}"
            case "conv_transpose", "weight":
                return f"IO{kernel}"
            case ("matmul", "y") if var.rank == 2:
                return "OI" if op.transpose_y is not None and op.transpose_y.val else "IO"
    return None


def _run_on_zeros(package: Package, program: Program) -> Env:
    values = {}
    for feature in package.description.input:
        place = program.inputs[feature.name]
        default = list(feature.type.multiArrayType.shape) if len(place.shape) else []
        shape = [d if d is not None else int(default[i]) for i, d in enumerate(place.shape)]
        values[feature.name] = torch.zeros(shape, dtype=place.dtype)
    with torch.inference_mode():
        return program.run(values, keep=True)


def check_shapes(package: Package, program: Program, env: Env) -> None:
    """Raise DamagedError for an operation, or an output of the package, that declares another shape than it gives.

    coremltools refuses types that its own inference contradicts when it reads the program; these are the values.
    """
    for step in program.steps:
        for var, slot in zip(step.op.outputs, step.gives, strict=True):
            value = env[slot]
            if isinstance(value, torch.Tensor) and not _declares(getattr(var, "shape", None), value):
                raise DamagedError(
                    f"{package.path} declares that {step.op.op_type} {step.op.name!r} gives {list(var.shape)}, "
                    f"and it gives {list(value.shape)}"
                )
    for feature in package.description.output:
        declared, value = spec(feature), env[program.outputs[feature.name]]
        integers = not value.is_floating_point()
        if (declared.shape and not _declares(declared.shape, value)) or integers != declared.dtype.startswith("int"):
            raise DamagedError(
                f"{package.path} declares its output {feature.name!r} as {declared.dtype}{list(declared.shape)}, "
                f"and its program gives {str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
            )


def _declares(shape: Any, value: torch.Tensor) -> bool:
    """Whether a declared shape, sizes that vary left open, is that of the value."""
    if shape is None:
        return True
    sizes = [int(n) if isinstance(n, int | np.integer) else None for n in shape]
    return len(sizes) == value.ndim and all(n is None or n == m for n, m in zip(sizes, value.shape, strict=True))


def _stored_dtype(var: Any) -> str:
    from coremltools.converters.mil.mil import types

    op = var.op
    if op.op_type == "const":
        return str(types.builtin_to_string(var.dtype)).replace("fp", "float")
    if op.op_type == "constexpr_lut_to_dense" and op.inputs.get("shape") is not None:
        return f"uint{int(np.log2(op.lut.val.size))}"  # iOS 16 packs the indices in bytes
    return _stored_dtype(op.inputs[_STORED[op.op_type]])


def _granularity(op: Any, dequantizers: list[Any]) -> Granularity | None:
    """The finest among the steps of decompression."""
    found: set[Granularity] = set()
    for d in dequantizers:
        found.add("per-channel" if d.scale is not None and d.scale.rank else "per-tensor")
    while op is not None and op.op_type.startswith("constexpr_"):
        data = tuple(op.outputs[-1].shape)
        if op.op_type == "constexpr_affine_dequantize":
            found.add("per-channel" if op.scale.rank and op.scale.shape[0] > 1 else "per-tensor")
        elif "scale" in op.inputs:
            data = tuple(op.data_mask.shape) if "data_mask" in op.inputs else tuple(op.data.shape)
            found.add(_blocks(tuple(op.scale.shape), data))
        elif "lut" in op.inputs:
            lut = tuple(op.lut.shape)
            data = tuple(op.indices_mask.shape) if "indices_mask" in op.inputs else tuple(op.indices.shape)
            found.add("per-tensor" if len(lut) == 1 else _blocks(lut[:-2], data))
        op = op.inputs[_STORED[op.op_type]].op
    return max(found, key=_FINEST.index) if found else None


def _blocks(scale: tuple[int, ...], data: tuple[int, ...]) -> Granularity:
    split = [i for i, n in enumerate(scale) if n > 1]
    if not split:
        return "per-tensor"
    return "per-channel" if len(split) == 1 and scale[split[0]] == data[split[0]] else "per-block"
