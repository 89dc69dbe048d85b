"""Reads a .pte: its plan, constants, operations, and what each delegate holds."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgepass.errors import ArtifactError
from edgepass.manifest import Fallback, TensorSpec, Weight
from edgepass.runtimes import Array, Contents, _pte_xnnpack

_XNNPACK = "XnnpackBackend"
_PRIMITIVE = "executorch_prim::"  # views and integer arithmetic inside the runtime, no kernel
_SCALARS = {
    "BYTE": "uint8",
    "CHAR": "int8",
    "SHORT": "int16",
    "INT": "int32",
    "LONG": "int64",
    "HALF": "float16",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "BOOL": "bool",
    "BFLOAT16": "bfloat16",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
}


def inspect(path: Path) -> Contents:
    """What the method `forward` (or the first method) holds.

    Weights outside delegates carry their qualified name when the file keeps it, else `constant N`; those inside XNNPACK
    the name of their data, which is the SHA-256 of their bytes. `planned_bytes` is the sum of the plan's activation
    buffers; the workspace and repacked weights of delegates come on top. Shapes of a dynamic file are upper bounds.
    Raises ArtifactError when the bytes are no ExecuTorch program.
    """
    from executorch.exir._serialize._program import deserialize_pte_binary

    data = path.read_bytes()
    if data[4:6] != b"ET":
        raise ArtifactError(f"{path} is not an ExecuTorch program (it lacks the mark ET); export it again")
    file = deserialize_pte_binary(data)
    plans = {plan.name: plan for plan in file.program.execution_plan}
    if not plans:
        raise ArtifactError(f"{path} holds no method; export it again")
    plan = plans.get("forward", file.program.execution_plan[0])
    notes = [f"the file has {len(plans)} methods, this is {plan.name}"] if len(plans) > 1 else []
    values = [value.val for value in plan.values]
    if any(getattr(v, "shape_dynamism", 0) for v in values):
        notes.append("shapes are dynamic; the ones shown, and the planned memory, are upper bounds")
    ops: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for call in (i.instr_args for chain in plan.chains for i in chain.instructions):
        if type(call).__name__ == "KernelCall":
            name = plan.operators[call.op_index].name
            ops[name] += 1
            outside[name] += _flops(name, [values[i] for i in call.args if i >= 0])
    kernels = Counter({name: n for name, n in ops.items() if not name.startswith(_PRIMITIVE)})
    weights = _constants(file.program, values)
    inside, foreign = _delegates(file, plan, ops, weights)
    notes += [f"{n} part(s) run on {name}, whose contents are not read" for name, n in sorted(foreign.items())]
    return Contents(
        format="pte",
        inputs=[_spec(f"input_{n}", values[i]) for n, i in enumerate(plan.inputs)],
        outputs=[_spec(f"output_{n}", values[i]) for n, i in enumerate(plan.outputs)],
        weights=weights,
        ops=dict(sorted(ops.items())),
        planned_bytes=sum(plan.non_const_buffer_sizes),
        flops=dict(sorted((+inside + outside).items())),
        delegated_flops=_share(inside.total(), outside.total(), bool(plan.delegates), bool(foreign)),
        fallbacks=[
            Fallback(op=f"{name} x{n}" if n > 1 else name, module="", reason="runs on ExecuTorch's portable kernels")
            for name, n in sorted(kernels.items())
        ],
        notes=notes,
    )


def _share(inside: int, outside: int, delegates: bool, foreign: bool) -> float | None:
    """Share of matrix work in delegates; None when an unread delegate and kernels both have some."""
    if not inside + outside:
        return 1.0 if delegates else 0.0
    if foreign and outside:
        return None
    return inside / (inside + outside)


def _delegates(file: Any, plan: Any, ops: Counter[str], weights: list[Weight]) -> tuple[Counter[str], Counter[str]]:
    """Adds the operations and weights of XNNPACK delegates; gives their FLOPs, and how many delegates are foreign."""
    flops: Counter[str] = Counter()
    foreign: Counter[str] = Counter()
    store = file.named_data
    named = {key: bytes(store.buffers[e.buffer_index]) for key, e in store.pte_data.items()} if store else {}
    seen = {weight.name for weight in weights}
    for index, delegate in enumerate(plan.delegates):
        if delegate.id != _XNNPACK:
            foreign[delegate.id] += 1
            continue
        payload = _pte_xnnpack.parse(
            bytes(file.program.backend_delegate_data[delegate.processed.index].data), named, index
        )
        ops.update({f"xnnpack.{name}": n for name, n in payload.ops.items()})
        flops.update({f"xnnpack.{name}": n for name, n in payload.flops.items()})
        weights += [weight for weight in payload.weights if weight.name not in seen]  # shared by several delegates
        seen |= {weight.name for weight in payload.weights}
    return flops, foreign


def _constants(program: Any, values: list[Any]) -> list[Weight]:
    """Constant tensors of more than one element that the program itself holds."""
    weights = {}
    for value in values:
        if type(value).__name__ != "Tensor" or not value.data_buffer_idx or value.allocation_info is not None:
            continue
        if math.prod(value.sizes) < 2:
            continue
        index, dtype = value.data_buffer_idx, _dtype(value)
        info = value.extra_tensor_info
        name = info.fully_qualified_name if info is not None and info.fully_qualified_name else f"constant {index}"
        raw: Array = np.frombuffer(
            bytes(program.constant_buffer[index].storage), "u2" if dtype == "bfloat16" else dtype
        )[: math.prod(value.sizes)]
        zeros = float(np.mean(raw == 0)) if raw.size else 0.0
        weights[index] = Weight(name=name, shape=tuple(value.sizes), dtype=dtype, zeros=zeros)
    return list(weights.values())


def _flops(name: str, args: list[Any]) -> int:
    """Twice the multiply-adds of a kernel call, from the shapes of its tensor arguments; the last is the output."""
    tensors: list[tuple[int, ...]] = [tuple(v.sizes) for v in args if type(v).__name__ == "Tensor"]
    if len(tensors) < 3:
        return 0
    output = math.prod(tensors[-1])
    match name.split("::")[-1].split(".")[0]:
        case "mm" | "bmm" | "matmul" | "linear" | "mixed_mm" | "mixed_linear":
            return 2 * output * (tensors[0] or (1,))[-1]
        case "addmm" | "baddbmm":
            return 2 * output * tensors[1][-1]
        case "convolution":
            transposed = [v.bool_val for v in args if type(v).__name__ == "Bool"][:1] == [True]
            return 2 * (math.prod(tensors[0]) if transposed else output) * math.prod(tensors[1][1:])
        case _:
            return 0


def _spec(name: str, value: Any) -> TensorSpec:
    if type(value).__name__ != "Tensor":
        return TensorSpec(name=name, shape=(), dtype=type(value).__name__.lower())
    return TensorSpec(name=name, shape=tuple(value.sizes), dtype=_dtype(value))


def _dtype(tensor: Any) -> str:
    name: str = tensor.scalar_type.name
    return _SCALARS.get(name, name.lower())
