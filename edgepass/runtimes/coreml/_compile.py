"""Compiles a function of an ML program into steps over numbered slots; constants are decompressed and folded here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepass.runtimes.coreml._node import HANDLERS, Node, parameters
from edgepass.runtimes.coreml._quant import decompress

Env = list[Any]
"""Value of each slot; slot 0 is an absent input."""
Slot = int | tuple[int, ...]
"""Where an input lies; a tuple for an input of several values."""

DTYPES = {
    "bool": torch.bool,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "uint16": torch.int32,  # torch computes little in uint16 and uint32; the wider type holds their values
    "uint32": torch.int64,
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation, ready to run: `uses` and `gives` are slots, `dead` those that no later step reads."""

    op: Any
    run: Callable[[Env], None]
    uses: frozenset[int]
    gives: tuple[int, ...]
    dead: tuple[int, ...] = ()


class Compiler:
    """Gives every variable a slot and every operation a step. `template` holds the values known at load."""

    def __init__(self) -> None:
        self.slots: dict[int, int] = {}
        self.template: Env = [None]
        self.known: set[int] = {0}

    def slot(self, var: Any) -> int:
        """Where a variable lies; a constant is decompressed when first seen."""
        if id(var) not in self.slots:
            self.slots[id(var)] = slot = len(self.template)
            value = _constant(var)
            self.template.append(value)
            if value is not None:
                self.known.add(slot)
        return self.slots[id(var)]

    def block(self, operations: Iterable[Any]) -> list[Step]:
        """Steps of these operations, less those on constants alone, which are run now."""
        special = {"cond": self._cond, "while_loop": self._loop}
        steps = (special.get(o.op_type, self._plain)(o) for o in operations if not is_constant(o))
        return [step for step in steps if step is not None]

    def _place(self, value: Any) -> Slot:
        if isinstance(value, tuple | list):
            return tuple(self.slot(v) for v in value)
        return 0 if value is None else self.slot(value)

    def _read(self, slot: Slot) -> Any:
        return tuple(self.template[s] for s in slot) if isinstance(slot, tuple) else self.template[slot]

    def _plain(self, op: Any) -> Step | None:
        slots = {name: self._place(value) for name, value in op.inputs.items() if value is not None}
        declared = [dtype(v) for v in op.outputs]
        node = Node(
            kind=op.op_type,
            name=op.name,
            constants={name: self._read(s) for name, s in slots.items() if _flat(s) <= self.known},
            ranks={name: _rank(v) for name, v in op.inputs.items() if v is not None},
            outputs=len(op.outputs),
            half=torch.float16 in [dtype(v) for v in op.get_flattened_inputs()] + declared,
        )
        function = HANDLERS[op.op_type](node)
        arguments = [slots.get(name, 0) for name in parameters(function)]
        gives = tuple(self.slot(v) for v in op.outputs)
        run = _bind(function, arguments, gives, declared)
        uses = frozenset[int]().union(*map(_flat, arguments))
        if uses <= self.known and op.op_type != "make_list":
            run(self.template)
            self.known.update(gives)
            return None
        return Step(op=op, run=run, uses=uses, gives=gives)

    def _cond(self, op: Any) -> Step:
        decide = self.slot(op.pred)
        branches = [self._inner(block) for block in op.blocks]
        gives = tuple(self.slot(v) for v in op.outputs)

        def run(env: Env) -> None:
            steps, _, results = branches[0 if env[decide] else 1]
            _run(steps, env)
            _copy(env, results, gives)

        uses = frozenset({decide}).union(*(_uses(*branch) for branch in branches))
        return Step(op=op, run=run, uses=uses, gives=gives)

    def _loop(self, op: Any) -> Step:
        start = [self.slot(v) for v in op.loop_vars]
        test, test_inputs, (go,) = self._inner(op.blocks[0])
        body, body_inputs, results = self._inner(op.blocks[1])
        gives = tuple(self.slot(v) for v in op.outputs)

        def run(env: Env) -> None:
            current = start
            while True:
                _copy(env, current, test_inputs)
                _run(test, env)
                if not env[go]:
                    break
                _copy(env, current, body_inputs)
                _run(body, env)
                current = results
            _copy(env, current, gives)

        uses = _uses(test, test_inputs, [go]) | _uses(body, body_inputs, results) | frozenset(start)
        return Step(op=op, run=run, uses=uses, gives=gives)

    def _inner(self, block: Any) -> tuple[list[Step], list[int], list[int]]:
        inputs = [self.slot(v) for v in block.inputs]
        return self.block(block.operations), inputs, [self.slot(v) for v in block.outputs]


def is_constant(op: Any) -> bool:
    """Whether an operation only states a value, plain or compressed."""
    kind: str = op.op_type
    return kind == "const" or kind.startswith("constexpr_")


def dtype(var: Any) -> torch.dtype | None:
    """torch's type for the values of a variable; None for strings, lists and states."""
    from coremltools.converters.mil.mil import types

    if types.is_list(var.sym_type) or types.is_state(var.sym_type):
        return None
    return DTYPES.get(types.builtin_to_string(var.dtype))


def with_deaths(steps: list[Step], immortal: set[int]) -> list[Step]:
    """The steps, each knowing the slots that no later one reads, save the immortal ones."""
    last = {slot: i for i, step in enumerate(steps) for slot in (*step.gives, *step.uses)}
    dead: dict[int, list[int]] = {}
    for slot, i in last.items():
        if slot not in immortal:
            dead.setdefault(i, []).append(slot)
    return [replace(step, dead=tuple(dead.get(i, ()))) for i, step in enumerate(steps)]


def _constant(var: Any) -> Any:
    if var.op is not None and var.op.op_type == "const" and isinstance(var.val, str):
        return str(var.val)
    value = decompress(var)
    if value is None or value.dtype.kind in "US":
        return None if value is None else tuple(value.reshape(-1).tolist())
    wider = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}.get(value.dtype.name, value.dtype.type)
    return torch.from_numpy(np.array(value, dtype=wider))


def _rank(value: Any) -> int:
    from coremltools.converters.mil.mil import types

    if isinstance(value, tuple | list) or types.is_list(value.sym_type) or types.is_state(value.sym_type):
        return 1
    return int(value.rank)


def _flat(slot: Slot) -> frozenset[int]:
    return frozenset(slot if isinstance(slot, tuple) else (slot,))


def _uses(steps: list[Step], inputs: list[int], results: list[int]) -> frozenset[int]:
    return frozenset(results).union(*(s.uses for s in steps)) - frozenset(inputs)


def _run(steps: list[Step], env: Env) -> None:
    for step in steps:
        step.run(env)


def _copy(env: Env, sources: Iterable[int], targets: Iterable[int]) -> None:
    # All are read before one is written: a loop may pass its variables on in another order.
    for target, value in zip(targets, [env[s] for s in sources], strict=True):
        env[target] = value


def _bind(
    function: Callable[..., Any], arguments: list[Slot], gives: tuple[int, ...], declared: list[torch.dtype | None]
) -> Callable[[Env], None]:
    """Call `function` on slots and store its results, each as its declared dtype. Common shapes have a fast path."""
    out, to = gives[0], declared[0]

    def call(env: Env) -> Any:
        return function(*[[env[i] for i in a] if isinstance(a, tuple) else env[a] for a in arguments])

    def several(env: Env) -> None:
        for slot, value, wanted in zip(gives, call(env), declared, strict=True):
            env[slot] = value if wanted is None or value.dtype is wanted else value.to(wanted)

    def untyped(env: Env) -> None:
        env[out] = call(env)

    def general(env: Env) -> None:
        y: Tensor = call(env)
        env[out] = y if y.dtype is to else y.to(to)

    if len(gives) > 1:
        return several
    if to is None:
        return untyped
    single = [a for a in arguments if isinstance(a, int)]
    if len(single) < len(arguments) or not 1 <= len(single) <= 2:
        return general
    first, last = single[0], single[-1]

    def unary(env: Env) -> None:
        y = function(env[first])
        env[out] = y if y.dtype is to else y.to(to)

    def binary(env: Env) -> None:
        y = function(env[first], env[last])
        env[out] = y if y.dtype is to else y.to(to)

    return unary if len(single) == 1 else binary
