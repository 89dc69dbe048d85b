"""Runs the ML program of a Core ML package with torch: the reference executor.

The program is compiled once into a flat list of steps. Every value has the dtype that the program declares: an fp16
value is rounded to fp16 after each operation. Inside an operation sums, products and transcendental functions are
computed in fp32 and rounded once. What this cannot show: the order of accumulation, the kernels and the placement of
Apple's runtime.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepass.errors import ArtifactError, DamagedError, InputError, first_line
from edgepass.judging.manifest import Evidence
from edgepass.runtimes import Array
from edgepass.runtimes.coreml import _elementwise, _gather, _image, _nn, _quant, _recurrent, _reduce, _shape, _state
from edgepass.runtimes.coreml._compile import DTYPES, Compiler, Env, Step, dtype, with_deaths
from edgepass.runtimes.coreml._file import Package, kinds, quiet
from edgepass.runtimes.coreml._interface import check
from edgepass.runtimes.coreml._node import HANDLERS

FAMILIES = (
    _elementwise,
    _gather,
    _image,
    _nn,
    _quant,
    _recurrent,
    _reduce,
    _shape,
    _state,
)
"""Modules that register the handlers of operations; a new one is named here."""
_NOT_HANDLED = {"const", "cond", "while_loop", "write_state"}  # the loader makes write_state coreml_update_state


@dataclass(frozen=True, kw_only=True)
class Input:
    """Where an input goes; None is a dimension that may vary."""

    slot: int
    dtype: torch.dtype
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled function. `states` are boxes of one tensor, shared by all calls; `slots` go by id of a variable."""

    function: Any
    steps: list[Step]
    template: Env
    inputs: dict[str, Input]
    outputs: dict[str, int]
    states: dict[str, list[Tensor]]
    slots: dict[int, int]

    def run(self, values: dict[str, Tensor], keep: bool = False) -> Env:
        """All slots after a run on inputs by name; with `keep`, those of intermediate values too.

        Raises ArtifactError that names the operation which failed.
        """
        env = self.template.copy()
        for name, place in self.inputs.items():
            env[place.slot] = values[name].to(place.dtype)
        at = None
        try:
            for step in self.steps:
                at = step
                step.run(env)
                if not keep:
                    for slot in step.dead:
                        env[slot] = None
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            what = f"operation {at.op.op_type} {at.op.name!r}" if at else "the inputs"
            raise ArtifactError(f"the reference executor failed at {what}: {first_line(error)}") from error
        return env


class Executor:
    """A loaded file. States start at zero and persist from call to call; `reset` zeroes them."""

    evidence: Evidence = "reference executor"

    def __init__(self, package: Package, threads: int) -> None:
        torch.set_num_threads(threads)
        self.program = load_program(package)
        self.features = list(package.description.input)
        self.outputs = [self.program.outputs[o.name] for o in package.description.output]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once on arrays in the order of the model description; gives float32, or integers where it has those.

        Raises InputError for another number or shape of arrays than the file takes.
        """
        if len(inputs) != len(self.features):
            names = ", ".join(f.name for f in self.features)
            raise InputError(f"the file takes {len(self.features)} inputs ({names}); {len(inputs)} were given")
        with torch.inference_mode():
            values = {}
            for feature, array in zip(self.features, inputs, strict=True):
                if not array.shape and list(feature.type.multiArrayType.shape) == [1]:
                    array = array.reshape(1)  # a multi-array has one dimension at least; the program takes it off
                check(feature, array.shape)
                values[feature.name] = torch.tensor(np.ascontiguousarray(array))
            env = self.program.run(values)
            return [_array(env[slot]) for slot in self.outputs]

    def reset(self) -> None:
        """Zero the states."""
        for box in self.program.states.values():
            box[0] = torch.zeros_like(box[0])


def load_program(package: Package) -> Program:
    """Compile the function of a package.

    Raises ArtifactError when coremltools cannot read it, or for an operation that the executor lacks.
    """
    for kind, count in sorted(kinds(package).items()):
        if kind not in HANDLERS.keys() | _NOT_HANDLED and not kind.startswith("constexpr_"):
            times = "once" if count == 1 else f"{count} times"
            raise ArtifactError(
                f"the reference executor lacks Core ML op {kind!r}, which {package.path} uses {times}; "
                "judge this file on macOS"
            )
    return compile_function(read_function(package))


def read_function(package: Package) -> Any:
    """The function in coremltools' representation. Raises ArtifactError when coremltools cannot read it."""
    with quiet():
        from coremltools.converters.mil.frontend.milproto import load

        try:
            program = load.load(package.spec, package.spec.specificationVersion, str(package.weights))
        except Exception as error:  # coremltools raises every kind, its C++ reader RuntimeError
            raise DamagedError(
                f"{package.path} holds a program that coremltools cannot read ({first_line(error)})"
            ) from None
    return program.functions[package.main]


def compile_function(function: Any) -> Program:
    """Compile a function of coremltools' representation."""
    from coremltools.converters.mil.mil import types

    compiler = Compiler()
    states: dict[str, list[Tensor]] = {}
    inputs: dict[str, Input] = {}
    for name, var in function.inputs.items():
        slot = compiler.slot(var)
        if types.is_state(var.sym_type):
            inner = var.sym_type.wrapped_type()
            kind = DTYPES[types.builtin_to_string(inner.get_primitive())]
            states[name] = compiler.template[slot] = [torch.zeros(tuple(inner.get_shape()), dtype=kind)]
        else:
            shape = tuple(int(d) if isinstance(d, int | np.integer) else None for d in var.shape)
            inputs[name] = Input(slot=slot, dtype=dtype(var) or torch.float32, shape=shape)
    with torch.inference_mode():
        steps = compiler.block(function.operations)
    outputs = {var.name: compiler.slot(var) for var in function.outputs}
    read = {*outputs.values(), *(slot for step in steps for slot in step.uses)}
    for slot in compiler.known - read:
        compiler.template[slot] = None  # a weight that a step keeps in fp32, or an argument that it has read
    persistent = {compiler.slots[id(var)] for var in _states(function)}
    return Program(
        function=function,
        steps=with_deaths(steps, {*outputs.values(), *compiler.known, *persistent}),
        template=compiler.template,
        inputs=inputs,
        outputs=outputs,
        states=states,
        slots=compiler.slots,
    )


def _states(function: Any) -> list[Any]:
    from coremltools.converters.mil.mil import types

    return [var for var in function.inputs.values() if types.is_state(var.sym_type)]


def _array(y: Tensor) -> Array:
    return np.array((y.float() if y.dtype is torch.float16 else y).numpy())
