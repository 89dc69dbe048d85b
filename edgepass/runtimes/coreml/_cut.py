"""Cuts an ML program at what its `quantize` operations give, in the reference executor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgepass.runtimes import Array, Place
from edgepass.runtimes._cut import reads
from edgepass.runtimes.coreml._file import open_package
from edgepass.runtimes.coreml._program import load_program


class Cut:
    """The compiled program, run step by step."""

    def __init__(self, path: Path, threads: int, method: str = "") -> None:
        torch.set_num_threads(threads)
        package = open_package(path, method)
        self.program = load_program(package)
        self.features = [feature.name for feature in package.description.input]
        self.outputs = [self.program.outputs[output.name] for output in package.description.output]
        quantises = [step for step in self.program.steps if step.op.op_type == "quantize" and _is_number(step.op.scale)]
        self.slots = [step.gives[0] for step in quantises]
        sources = {slot: step.uses for step in self.program.steps for slot in step.gives}
        self.places = [
            Place(
                scales=frozenset(_number(op.scale) for op in (step.op, *_readers(step.op))),
                zero=0 if step.op.zero_point is None else int(_number(step.op.zero_point)),
                reads=reads(step.gives[0], self.slots, sources),
            )
            for step in quantises
        ]

    def __call__(self, inputs: Sequence[Array], given: Sequence[Array] | None) -> tuple[list[Array], list[Array]]:
        values = {name: torch.tensor(np.ascontiguousarray(x)) for name, x in zip(self.features, inputs, strict=True)}
        shown: dict[int, Array] = {}
        env = self.program.template.copy()
        with torch.inference_mode():
            for name, place in self.program.inputs.items():
                env[place.slot] = values[name].to(place.dtype)
            for step in self.program.steps:
                step.run(env)
                slot = step.gives[0] if step.gives else -1
                if slot in self.slots:
                    shown[slot] = env[slot].numpy().copy()
                    if given is not None:
                        env[slot] = torch.from_numpy(np.ascontiguousarray(given[self.slots.index(slot)]))
            outputs = [np.array(env[slot].float().numpy()) for slot in self.outputs]
        return [shown[slot] for slot in self.slots], outputs


def _readers(quantise: Any) -> list[Any]:
    """The operations that read its integers as numbers."""
    (made,) = quantise.outputs
    return [op for op in made.child_ops if op.op_type == "dequantize" and _is_number(op.scale)]


def _is_number(scale: Any) -> bool:
    return scale.val is not None and np.size(scale.val) == 1


def _number(var: Any) -> float:
    return float(np.asarray(var.val).item())
