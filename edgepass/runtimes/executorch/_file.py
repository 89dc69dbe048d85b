"""Reads a .pte: its plan, constants, operations, and what each delegate holds."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepass.errors import DamagedError
from edgepass.judging.manifest import Fallback, TensorSpec, Weight
from edgepass.runtimes import Array, Contents, Held, method_of, plain
from edgepass.runtimes.executorch import _coreml, _flatc, _xnnpack
from edgepass.runtimes.executorch._payload import Payload
from edgepass.runtimes.executorch._vulkan import payload as _vulkan

_READERS = {
    "XnnpackBackend": ("xnnpack", _xnnpack.parse),
    "VulkanBackend": ("vulkan", _vulkan.parse),
    "CoreMLBackend": ("coreml", _coreml.parse),
}
"""Delegate -> what its operations are called by, and what reads its payload."""
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


def inspect(path: Path, method: str = "") -> Contents:
    """What a method holds: `forward`, or the first by name, where none is named.

    Weights outside delegates carry their qualified name when the file keeps it, else `constant N`; those inside XNNPACK
    and Vulkan the name of their data, which is the SHA-256 of their bytes. `planned_bytes` is the sum of the plan's
    activation buffers; the workspace and repacked weights of delegates come on top. Shapes of a dynamic file are upper
    bounds.
    Raises ArtifactError when the bytes are no ExecuTorch program.
    """
    file = File(path, method)
    names, plan = file.methods, file.plan
    values = plan["values"]
    notes = [f"the file has {len(names)} methods, this is {plan['name']}"] if len(names) > 1 and not method else []
    if any(v["val"].get("shape_dynamism", "STATIC") != "STATIC" for v in values):
        notes.append("shapes are dynamic; the ones shown, and the planned memory, are upper bounds")
    ops: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for instruction in file.calls:
        if instruction["instr_args_type"] == "KernelCall":
            call = instruction["instr_args"]
            name = plan["operators"][call["op_index"]]["name"]
            ops[name] += 1
            outside[name] += _flops(name, [values[i] for i in call["args"] if i >= 0])
    kernels = {name: n for name, n in ops.items() if not name.startswith(_PRIMITIVE)}
    held = _constants(file, values, _layouts(plan, file.calls))
    payloads, foreign = _payloads(file)
    content = _content(file, payloads, held)
    inside: Counter[str] = Counter()
    for backend, payload in payloads:
        ops.update({f"{backend}.{name}": n for name, n in payload.ops.items()})
        inside.update({f"{backend}.{name}": n for name, n in payload.flops.items()})
        held += [
            (weight, value)
            for weight, value in zip(payload.weights, payload.values, strict=True)
            if not any(_same(weight, value, other) for other in held)  # delegates may share one
        ]
    notes += [f"{n} part(s) run on {name}, whose contents are not read" for name, n in sorted(foreign.items())]
    return Contents(
        format="pte",
        inputs=[_spec(f"input_{n}", values[i]) for n, i in enumerate(plan["inputs"])],
        outputs=[_spec(f"output_{n}", values[i]) for n, i in enumerate(plan["outputs"])],
        weights=[weight for weight, _ in held],
        values=[value for _, value in held],
        ops=dict(sorted(ops.items())),
        planned_bytes=sum(plan["non_const_buffer_sizes"]),
        flops=dict(sorted((+(inside + outside)).items())),
        delegated_flops=_share(inside.total(), outside.total(), bool(plan["delegates"]), bool(foreign)),
        fallbacks=[
            Fallback(op=f"{name} x{n}" if n > 1 else name, module="", reason="runs on ExecuTorch's portable kernels")
            for name, n in sorted(kernels.items())
        ],
        notes=notes,
        content_sha256=content,
        methods=names,
    )


class File:
    """The program, the plan of one of its methods (`forward`, or the first by name), and the segments behind it.

    The layout is that of exir/_serialize/_program.py. Raises ArtifactError when the bytes are no ExecuTorch program.
    """

    def __init__(self, path: Path, method: str = "") -> None:
        self.path = path
        data = path.read_bytes()
        if data[4:6] != b"ET":
            raise DamagedError(f"{path} is not an ExecuTorch program (it lacks the mark ET)")
        self.program: Any = _flatc.decode(data, _flatc.PROGRAM)
        plans: dict[str, Any] = {plan["name"]: plan for plan in self.program["execution_plan"]}
        if not plans:
            raise DamagedError(f"{path} holds no method")
        self.methods = sorted(plans)
        self.plan = plans[method_of(path, method, self.methods, "forward" if "forward" in plans else self.methods[0])]
        self.calls: list[Any] = [i for chain in self.plan["chains"] for i in chain["instructions"]]
        self.delegates: list[str] = [delegate["id"] for delegate in self.plan["delegates"]]
        base = int.from_bytes(data[24:32], "little") if data[8:12] == b"eh00" else len(data)
        segments = self.program.get("segments") or []
        self.segments: list[bytes] = [data[base + s["offset"] : base + s["offset"] + s["size"]] for s in segments]
        self.named = {n["key"]: self.segments[n["segment_index"]] for n in self.program.get("named_data") or []}

    def constant(self, index: int) -> bytes:
        """From the index-th constant on; what follows it in the file may come after."""
        place = self.program.get("constant_segment") or {}
        if offsets := place.get("offsets"):
            segment: bytes = self.segments[place["segment_index"]]
            return segment[offsets[index] :]
        return bytes(self.program["constant_buffer"][index]["storage"])

    def payload(self, delegate: Mapping[str, Any]) -> bytes:
        place = delegate["processed"]
        inline = place["location"] == "INLINE"
        return bytes(
            self.program["backend_delegate_data"][place["index"]]["data"] if inline else self.segments[place["index"]]
        )


def _share(inside: int, outside: int, delegates: bool, foreign: bool) -> float | None:
    """Share of matrix work in delegates; None when an unread delegate and kernels both have some."""
    if not inside + outside:
        return 1.0 if delegates else 0.0
    if foreign and outside:
        return None
    return inside / (inside + outside)


def _payloads(file: File) -> tuple[list[tuple[str, Payload]], Counter[str]]:
    """What each delegate holds, with the name of its backend; and how many there are that nothing here can read."""
    read: list[tuple[str, Payload]] = []
    foreign: Counter[str] = Counter()
    for index, delegate in enumerate(file.plan["delegates"]):
        if delegate["id"] not in _READERS:
            foreign[delegate["id"]] += 1
            continue
        backend, parse = _READERS[delegate["id"]]
        read.append((backend, parse(file.payload(delegate), file.named, index)))
    return read, foreign


def _content(file: File, payloads: list[tuple[str, Payload]], weights: list[Held]) -> str | None:
    """Of a file that is delegated whole to a backend whose payloads differ in bytes from one conversion to the next."""
    hashes = [payload.content_sha256 for _, payload in payloads]
    if weights or len(file.methods) > 1 or not hashes or len(hashes) != len(file.calls) or None in hashes:
        return None
    return hashlib.sha256("".join(map(str, hashes)).encode()).hexdigest()


def _same(weight: Weight, value: Array | None, other: Held) -> bool:
    """Whether two weights of one name are one: equal integers are held once, also where their scales differ."""
    if weight.name != other[0].name:
        return False
    return value is None or other[1] is None or np.array_equal(value, other[1])


def _layouts(plan: Any, calls: Sequence[Any]) -> dict[int, str]:
    """Letters for the dimensions of each value that is the weight of a kernel."""
    found: dict[int, str] = {}
    for call in calls:
        if call["instr_args_type"] != "KernelCall":
            continue
        args = call["instr_args"]["args"]
        match plan["operators"][call["instr_args"]["op_index"]]["name"].split("::")[-1].split(".")[0]:
            case "mm":
                found[args[1]] = "IO"
            case "addmm":
                found[args[2]] = "IO"
            case "linear":
                found[args[1]] = "OI"
            case "convolution":
                kernel = "DHW"[5 - len(plan["values"][args[1]]["val"]["sizes"]) :]
                transposed = plan["values"][args[6]]["val"].get("bool_val", False)
                found[args[1]] = f"{'IO' if transposed else 'OI'}{kernel}"
            case _:
                pass
    return found


def _constants(file: File, values: Sequence[Any], layouts: Mapping[int, str]) -> list[Held]:
    """Constant tensors of more than one element that the program itself holds."""
    held: dict[int, Held] = {}
    for number, value in enumerate(values):
        tensor = value["val"]
        index = tensor.get("data_buffer_idx", 0)
        if value["val_type"] != "Tensor" or not index or "allocation_info" in tensor or math.prod(tensor["sizes"]) < 2:
            continue
        info = tensor.get("extra_tensor_info") or {}
        if info.get("location", "SEGMENT") != "SEGMENT":  # in a file of its own (.ptd)
            continue
        kind, shape = dtype(tensor), tuple(tensor["sizes"])
        storage = np.dtype("u2" if kind == "bfloat16" else kind)
        raw: NDArray[Any] = np.frombuffer(file.constant(index)[: math.prod(shape) * storage.itemsize], storage)
        name = info.get("fully_qualified_name") or f"constant {index}"
        dense = (raw.astype(np.uint32) << 16).view("f4") if kind == "bfloat16" else raw
        numbers = plain(dense.reshape(shape)) if dense.size == math.prod(shape) else None
        weight = Weight(name=name, shape=shape, dtype=kind, zeros=float(np.mean(raw == 0)), layout=layouts.get(number))
        held[index] = weight, numbers
    return list(held.values())


def _flops(name: str, args: Sequence[Any]) -> int:
    """Twice the multiply-adds of a kernel call, from the shapes of its tensor arguments; the last is the output."""
    tensors: list[list[int]] = [v["val"]["sizes"] for v in args if v["val_type"] == "Tensor"]
    if len(tensors) < 3:
        return 0
    output = math.prod(tensors[-1])
    match name.split("::")[-1].split(".")[0]:
        case "mm" | "bmm" | "matmul" | "linear" | "mixed_mm" | "mixed_linear":
            return 2 * output * (tensors[0] or [1])[-1]
        case "addmm" | "baddbmm":
            return 2 * output * tensors[1][-1]
        case "convolution":
            transposed = [v["val"]["bool_val"] for v in args if v["val_type"] == "Bool"][:1] == [True]
            return 2 * (math.prod(tensors[0]) if transposed else output) * math.prod(tensors[1][1:])
        case _:
            return 0


def _spec(name: str, value: Any) -> TensorSpec:
    if value["val_type"] != "Tensor":
        return TensorSpec(name=name, shape=(), dtype=value["val_type"].lower())
    return TensorSpec(name=name, shape=tuple(value["val"]["sizes"]), dtype=dtype(value["val"]))


def dtype(tensor: Mapping[str, Any]) -> str:
    """The dtype of a tensor of the plan, as numpy and torch call it."""
    name: str = tensor["scalar_type"]
    return _SCALARS.get(name, name.lower())
