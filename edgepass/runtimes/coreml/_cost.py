"""What a run of an ML program costs: bytes of activations alive at once, and flops of its matrix operations."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from torch import Tensor

from edgepass.runtimes.coreml._compile import Env
from edgepass.runtimes.coreml._program import Program


def planned_bytes(program: Program, env: Env) -> int:
    """The most bytes of activations alive at once: a lower bound for any plan. Views count as values of their own."""
    sizes: dict[int, int] = {slot: env[slot].nbytes for slot in range(len(env)) if isinstance(env[slot], Tensor)}
    alive = {i.slot for i in program.inputs.values()}
    most = sum(sizes[s] for s in alive)
    for step in program.steps:
        alive.update(s for s in step.gives if s in sizes)
        most = max(most, sum(sizes[s] for s in alive))
        alive.difference_update(step.dead)
    return most


def count_flops(program: Program, env: Env) -> dict[str, int]:
    """Multiply-adds times two of the matrix operations, by kind of operation. The body of a loop counts once."""
    counts: dict[str, int] = {}
    for op in all_operations(program.function.operations):
        flops = _flops(op, lambda var: _shape(program, env, var))
        if flops:
            counts[op.op_type] = counts.get(op.op_type, 0) + flops
    return counts


def _flops(op: Any, shape: Callable[[Any], tuple[int, ...]]) -> int:
    kind = op.op_type
    if kind == "linear":
        return 2 * prod(shape(op.x)) * shape(op.weight)[0]
    if kind == "matmul":
        inner = shape(op.x)[-2 if op.transpose_x is not None and op.transpose_x.val else -1]
        return 2 * prod(shape(op.outputs[0])) * inner
    if kind == "conv":
        return 2 * prod(shape(op.outputs[0])) * prod(shape(op.weight)[1:])
    if kind == "conv_transpose":
        return 2 * prod(shape(op.x)) * prod(shape(op.weight)[1:])
    if kind == "einsum":
        letters = op.equation.val.split("->")[0].split(",")
        sizes: dict[str, int] = {}
        for axes, value in zip(letters, op.values, strict=True):
            for letter, size in zip(axes.strip(), shape(value), strict=True):
                sizes[letter] = max(size, sizes.get(letter, 1))
        return 2 * prod(sizes.values())
    if kind == "scaled_dot_product_attention":
        *_, source, width = shape(op.value)
        return 2 * prod(shape(op.query)) * source + 2 * prod(shape(op.query)[:-1]) * source * width
    if kind in {"lstm", "gru", "rnn"}:
        per_step = prod(shape(op.weight_ih)) + prod(shape(op.weight_hh))
        both = 2 if kind == "lstm" and op.direction.val == "bidirectional" else 1
        return 2 * prod(shape(op.x)[:2]) * per_step * both
    return 0


def _shape(program: Program, env: Env, var: Any) -> tuple[int, ...]:
    value = env[program.slots[id(var)]] if id(var) in program.slots else None
    return tuple(value.shape) if isinstance(value, Tensor) else tuple(var.shape)


def all_operations(operations: Any) -> Iterator[Any]:
    """Operations in order, and those of the blocks inside them."""
    for op in operations:
        yield op
        for block in op.blocks:
            yield from all_operations(block.operations)
