"""Core ML's recurrent layers: lstm, gru, rnn.

T = time steps, B = batch, I = inputs, H = hidden, G = gates times hidden. x is TBI. Gate orders in the file: lstm
input, forget, output, cell; gru reset, output, update. torch: lstm input, forget, cell, output; gru reset, update, new.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepass.runtimes.coreml._node import Node, Run, handles, wide

Weights = list[Tensor]
"""Input weight GI, hidden weight GH, bias G."""
Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""Projected input BG and state (hidden first) -> the next state."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
    "linear": lambda x: x,
    "relu": torch.relu,
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(2.0 / 3.0 * x),
    "sigmoid": torch.sigmoid,
    "sigmoid_hard": lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
    "tanh": torch.tanh,
}


@handles("lstm")
def _lstm(node: Node) -> Run:
    kinds = [node.get(k, d) for k, d in (("recurrent_activation", "sigmoid"), ("cell_activation", "tanh"))]
    kinds.append(node.get("activation", "tanh"))
    gate, cell, out = (_ACTIVATIONS[k] for k in kinds)
    clip = node.get("clip")
    both = node.get("direction", "forward") == "bidirectional"
    sides = [_weights(node, suffix) for suffix in (("", "_back") if both else ("",))]
    peepholes = [node.tensor(f"peephole{suffix}") for suffix in ("", "_back")]
    fused = kinds == ["sigmoid", "tanh", "tanh"] and clip is None and all(p is None for p in peepholes)
    ordered = [_reorder(w, [0, 1, 3, 2]) for w in sides]

    def step(side: int) -> Step:
        peephole = peepholes[side]
        parts = None if peephole is None else peephole.chunk(3)

        def advance(gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            h, c = state
            i, f, o, z = (gates + F.linear(h, sides[side][1])).chunk(4, -1)
            if parts is not None:
                i, f = i + parts[0] * c, f + parts[1] * c
            z = cell(z if clip is None else z.clamp(-clip, clip))
            c = gate(f) * c + gate(i) * z
            o = o if parts is None else o + parts[2] * c
            return gate(o) * out(c), c

        return advance

    def run(x: Tensor, initial_h: Tensor, initial_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        results = []
        for side, (h, c) in enumerate(
            zip(wide(initial_h).chunk(len(sides), -1), wide(initial_c).chunk(len(sides), -1), strict=True)
        ):
            x_TBI = _facing(node, wide(x), side)
            if fused:
                w, u, b = ordered[side]
                hx = (h.unsqueeze(0).contiguous(), c.unsqueeze(0).contiguous())
                y, h, c = torch.lstm(x_TBI, hx, [w, u, b, torch.zeros_like(b)], True, 1, 0.0, False, False, False)
                h, c = h[0], c[0]
            else:
                y, (h, c) = _unroll(x_TBI, (h, c), sides[side], step(side))
            results.append((_sequence(node, y, side), h, c))
        y, h, c = (torch.cat(parts, -1) for parts in zip(*results, strict=True))
        return y, h, c

    return run


@handles("gru")
def _gru(node: Node) -> Run:
    kinds = node.get("recurrent_activation", "sigmoid"), node.get("activation", "tanh")
    gate, out = (_ACTIVATIONS[k] for k in kinds)
    weights = _weights(node, "")
    ordered = _reorder(weights, [0, 2, 1])

    def advance(gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = state
        x_r, x_o, x_z = gates.chunk(3, -1)
        h_r, h_o, h_z = F.linear(h, weights[1]).chunk(3, -1)
        z = gate(x_z + h_z)
        return ((1 - z) * out(x_o + gate(x_r + h_r) * h_o) + z * h,)

    def run(x: Tensor, initial_h: Tensor) -> tuple[Tensor, Tensor]:
        x_TBI, h = _facing(node, wide(x), 0), wide(initial_h)
        if kinds == ("sigmoid", "tanh"):
            w, u, b = ordered
            zeros = torch.zeros_like(b)
            y, h = torch.gru(x_TBI, h.unsqueeze(0).contiguous(), [w, u, b, zeros], True, 1, 0.0, False, False, False)
            h = h[0]
        else:
            y, (h,) = _unroll(x_TBI, (h,), weights, advance)
        return _sequence(node, y, 0), h

    return run


@handles("rnn")
def _rnn(node: Node) -> Run:
    out = _ACTIVATIONS[node.get("activation", "tanh")]
    weights = _weights(node, "")

    def advance(gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (out(gates + F.linear(state[0], weights[1])),)

    def run(x: Tensor, initial_h: Tensor) -> tuple[Tensor, Tensor]:
        y, (h,) = _unroll(_facing(node, wide(x), 0), (wide(initial_h),), weights, advance)
        return _sequence(node, y, 0), h

    return run


def _weights(node: Node, suffix: str) -> Weights:
    w, u, b = (node.tensor(f"{k}{suffix}") for k in ("weight_ih", "weight_hh", "bias"))
    assert w is not None
    assert u is not None
    return [w, u, torch.zeros(len(w)) if b is None else b]


def _reorder(weights: Weights, order: list[int]) -> Weights:
    return [torch.cat([w.chunk(len(order))[i] for i in order]) for w in weights]


def _facing(node: Node, x_TBI: Tensor, side: int) -> Tensor:
    backwards = side == 1 or node.get("direction", "forward") == "reverse"
    return x_TBI.flip(0) if backwards else x_TBI


def _sequence(node: Node, y_TBH: Tensor, side: int) -> Tensor:
    """All steps in the order of the input, or the step computed last."""
    return _facing(node, y_TBH, side) if node.get("output_sequence", False) else y_TBH[-1:]


def _unroll(
    x_TBI: Tensor, state: tuple[Tensor, ...], weights: Weights, step: Step
) -> tuple[Tensor, tuple[Tensor, ...]]:
    gates_TBG = F.linear(x_TBI, weights[0], weights[2])
    hidden = []
    for gates_BG in gates_TBG:
        state = step(gates_BG, state)
        hidden.append(state[0])
    return torch.stack(hidden), state
