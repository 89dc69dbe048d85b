"""Cuts an ML program at what its `quantize` operations give, in the reference executor."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from edgepass.runtimes import Array, Place
from edgepass.runtimes.coreml._file import open_package
from edgepass.runtimes.coreml._program import load_program


class Cut:
    """The compiled program, run step by step."""

    def __init__(self, path: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        package = open_package(path)
        self.program = load_program(package)
        self.features = [feature.name for feature in package.description.input]
        self.outputs = [self.program.outputs[output.name] for output in package.description.output]
        self.places: list[Place] = []
        self.slots: list[int] = []
        for step in self.program.steps:
            if step.op.op_type == "quantize" and step.op.scale.val is not None and np.size(step.op.scale.val) == 1:
                zero = step.op.zero_point
                self.places.append(
                    Place(
                        scale=float(np.asarray(step.op.scale.val).item()),
                        zero=0 if zero is None else int(np.asarray(zero.val).item()),
                    )
                )
                self.slots.append(step.gives[0])

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
