"""The graph that a .pte hands to Vulkan.

The format is ExecuTorch's: a header VH00 (backends/vulkan/serialization/vulkan_graph_serialize.py), then a flatbuffer
of schema.fbs beside it; constants are in the program's named data, under the SHA-256 of their bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgepass.runtimes.executorch import _flatc

_HEADER = b"VH00"
DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "FLOAT16": "float16",
    "FLOAT32": "float32",
    "FLOAT64": "float64",
}


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of the graph; `key` names its data among the program's where it is constant."""

    shape: tuple[int, ...]
    dtype: str
    key: str | None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Calls of operations by name, with the numbers of their arguments' values, that of the output last.

    A value is a Tensor, a number, a string, None, a list of numbers, or a tuple of the numbers of further values.
    """

    calls: list[tuple[str, list[int]]]
    values: list[Any]
    inputs: list[int]
    outputs: list[int]


def read(payload: bytes, index: int) -> Graph:
    """The graph of the index-th delegate. Raises ValueError when it is not Vulkan's."""
    if payload[4:8] != _HEADER:
        raise ValueError(f"delegate {index} holds no Vulkan graph")
    start, size = (int.from_bytes(payload[i : i + 4], "little") for i in (10, 14))
    raw = _flatc.decode(payload[start : start + size], _flatc.VULKAN)
    constants = raw["constants"]
    return Graph(
        calls=[(call["name"], call["args"]) for call in raw["chain"]],
        values=[_value(value, constants) for value in raw["values"]],
        inputs=raw["input_ids"],
        outputs=raw["output_ids"],
    )


def _value(raw: Mapping[str, Any], constants: list[Any]) -> Any:
    value = raw.get("value") or {}
    match raw["value_type"]:
        case "Null":
            return None
        case "VkTensor":
            constant = value["constant_id"]
            key = constants[constant]["named_key"] if constant >= 0 else None
            return Tensor(shape=tuple(value["dims"]), dtype=DTYPES[value["datatype"]], key=key)
        case "ValueList":
            return tuple(value["items"])
        case _:
            (held,) = value.values()
            return held
