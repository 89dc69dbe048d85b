"""A recurrent layer of a single step from a state that is known: no recurrence is left.

    before   x, h0 ─ rnn ─ y
    after    x ─ linear ─ (+) ─ tanh ─ y,    h0 ─ linear ─ ┘ is a constant

What the weights of the state give is then computed at capture. Converters fold them away too, of zeros without a trace,
and nobody can ask for them in a file.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch.fx import Node

from edgepass.exporters._canonical._constants import Constants

ATEN = torch.ops.aten
STEPS: dict[Any, Callable[..., Any]] = get_decompositions([
    ATEN.gru.input,
    ATEN.lstm.input,
    ATEN.rnn_tanh.input,
    ATEN.rnn_relu.input,
])

FILLED: dict[Any, Callable[[Node], Any]] = {
    ATEN.zeros.default: lambda node: 0.0,
    ATEN.ones.default: lambda node: 1.0,
    ATEN.full.default: lambda node: node.args[1],
}
"""Operations that give one number everywhere, and which."""


def formula(node: Node, constants: Constants) -> Callable[..., Any] | None:
    """The step spelt out, where there is one only and no input decides the state before it."""
    if node.target not in STEPS:
        return None
    x, states = node.args[:2]
    batch_first = node.args[8] if len(node.args) > 8 else node.kwargs.get("batch_first", False)
    value = x.meta["val"] if isinstance(x, Node) else None
    if not isinstance(value, Tensor) or value.shape[1 if batch_first else 0] != 1:
        return None
    given = states if isinstance(states, list | tuple) else [states]
    rows = [_row(state, constants) for state in given]
    if all(row is not None for row in rows):
        return _of_one_row(STEPS[node.target], rows)
    known = [state for state in given if isinstance(state, Node) and state in constants.nodes]
    return STEPS[node.target] if len(known) == len(given) else None


def _row(state: Any, constants: Constants) -> Tensor | None:
    """The state [layers, 1, hidden] that all sequences start from, also where their number varies."""
    if isinstance(state, Node) and state in constants.nodes:
        each = constants.value(state)
        return each[:, :1] if torch.equal(each[:, :1].expand_as(each), each) else None
    if isinstance(state, Node) and state.target in FILLED and isinstance(like := state.meta["val"], Tensor):
        value = FILLED[state.target](state)
        if isinstance(value, int | float) and all(isinstance(n, int) for n in (like.shape[0], *like.shape[2:])):
            return torch.full((like.shape[0], 1, *like.shape[2:]), value, dtype=like.dtype)
    return None


def _of_one_row(step: Callable[..., Any], rows: list[Any]) -> Callable[..., Any]:
    """Where all sequences start alike, what their state gives is computed and kept once."""

    def formula(x: Tensor, state: Tensor | list[Tensor], *how: Any, **named: Any) -> Any:
        return step(x, rows if isinstance(state, list) else rows[0], *how, **named)

    return formula
