"""Runs the graph of ExecuTorch's Vulkan delegate with torch: the reference executor.

The graph calls ATen's operators by name, with their arguments in the order of the operator's schema. Every value has
the dtype that the graph declares: one in float16 is rounded to it after each operation, which itself is computed in
float32. What this cannot show: the shaders, their order of accumulation, and how a GPU lays tensors out.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload

from edgepass.errors import DeviceOnlyError
from edgepass.judging.manifest import Evidence
from edgepass.runtimes import Array, _torch
from edgepass.runtimes.executorch._vulkan.formulas import FORMULAS
from edgepass.runtimes.executorch._vulkan.graph import Graph, Tensor

_IGNORED = ("device", "dtype", "layout", "memory_format")  # the declared dtype of the output stands in for these


def warm() -> None:
    """Run an operation, so that what torch loads on first use is loaded."""
    with torch.inference_mode():
        torch.softmax(torch.ones(2, 2) @ torch.ones(2, 2), -1)


class Executor:
    """A loaded graph."""

    evidence: Evidence = "reference executor"

    def __init__(self, graph: Graph, named_data: Mapping[str, bytes], threads: int) -> None:
        torch.set_num_threads(threads)
        self.graph = graph
        self.operators = [_operator(name) for name, _ in graph.calls]
        self.constants = {
            number: _constant(value, named_data[value.key])
            for number, value in enumerate(graph.values)
            if isinstance(value, Tensor) and value.key
        }

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once. Raises ValueError for another number or shape of arrays than the graph takes."""
        env = dict(self.constants)
        for number, array in zip(self.graph.inputs, inputs, strict=True):
            tensor = self.graph.values[number]
            if array.shape != tensor.shape:
                raise ValueError(
                    f"it takes an input of shape {list(tensor.shape)}, one of {list(array.shape)} was given"
                )
            self._keep(env, number, _torch.tensor(array))
        with torch.inference_mode():
            for operator, (_, args) in zip(self.operators, self.graph.calls, strict=True):
                values = [self._argument(env, number) for number in args[:-1]]
                self._keep(env, args[-1], operator(*values))
        outputs = (env[number] for number in self.graph.outputs)
        return [_torch.array(y.float() if y.dtype is torch.float16 else y) for y in outputs]

    def _argument(self, env: Mapping[int, torch.Tensor], number: int) -> Any:
        value = self.graph.values[number]
        if isinstance(value, Tensor):
            tensor = env[number]
            return tensor.float() if tensor.dtype is torch.float16 else tensor
        return [self._argument(env, n) for n in value] if isinstance(value, tuple) else value

    def _keep(self, env: dict[int, torch.Tensor], number: int, result: Any) -> None:
        """Keep what an operation gave as the graph declares it. Raises ValueError where it declares another shape."""
        value = self.graph.values[number]
        if isinstance(value, tuple):
            for n, part in zip(value, result, strict=True):
                self._keep(env, n, part)
            return
        if tuple(result.shape) != value.shape:
            raise ValueError(f"the graph declares {list(value.shape)} for what has shape {list(result.shape)}")
        env[number] = result.to(getattr(torch, value.dtype))


def _operator(name: str) -> Callable[..., Any]:
    """What an operation computes. Raises DeviceOnlyError for one that is neither ATen's nor among the formulas."""
    if name in FORMULAS:
        return FORMULAS[name]
    space, operator, overload = name.split(".")
    packet = getattr(torch.ops.aten, operator, None) if space == "aten" else None
    if packet is None or overload not in packet.overloads():
        raise DeviceOnlyError(f"the reference executor lacks the Vulkan operation {name}; judge this file on a device")
    return partial(_call, getattr(packet, overload))


def _call(operator: OpOverload, *values: Any) -> Any:
    schema = operator._schema.arguments
    given = [(a, v) for a, v in zip(schema, values, strict=True) if a.name not in _IGNORED]
    args = [v for a, v in given if not a.kwarg_only]
    return operator(*args, **{a.name: v for a, v in given if a.kwarg_only})


def _constant(tensor: Tensor, data: bytes) -> torch.Tensor:
    array = np.frombuffer(data, tensor.dtype)[: int(np.prod(tensor.shape))]
    return torch.from_numpy(array.reshape(tensor.shape).copy())
