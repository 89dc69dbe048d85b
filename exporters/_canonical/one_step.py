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
    known = [state for state in given if isinstance(state, Node) and state in constants.nodes]
    if len(known) < len(given):
        return None
    rows = [constants.value(state) for state in known]
    step = STEPS[node.target]
    return _of_one_row(step) if all(torch.equal(row[:, :1].expand_as(row), row) for row in rows) else step


def _of_one_row(step: Callable[..., Any]) -> Callable[..., Any]:
    """Where all sequences start alike, what their state gives is computed and kept once."""

    def formula(x: Tensor, state: Tensor | list[Tensor], *how: Any, **named: Any) -> Any:
        return step(x, [h[:, :1] for h in state] if isinstance(state, list) else state[:, :1], *how, **named)

    return formula
