"""Core ML's recurrent layers are torch's, or as documented."""

from typing import Any

import numpy as np
import pytest
import torch

from edgepass.runtimes.coreml._file import quiet

with quiet():
    from coremltools.converters.mil.mil import Builder as mb
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS, check, floats

pytestmark = COREMLTOOLS_WARNS


def torch_weights(module: Any, order: list[int], suffix: str = "") -> dict[str, np.ndarray]:
    def take(name: str) -> np.ndarray:
        chunks = getattr(module, f"{name}_l0{suffix}").detach().float().chunk(len(order))
        return torch.cat([chunks[i] for i in order]).numpy()

    return {"weight_ih": take("weight_ih"), "weight_hh": take("weight_hh"), "bias": take("bias_ih") + take("bias_hh")}


@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("clip", [None, 1e6])
def test_lstm_is_torchs_fused_and_unrolled(direction: str, sequence: bool, clip: float | None) -> None:
    both = direction == "bidirectional"
    sides = 2 if both else 1
    module = torch.nn.LSTM(3, 5, bidirectional=both).double()
    x, h, c = floats(7, 2, 3), floats(2, 5 * sides), floats(2, 5 * sides)
    weights = torch_weights(module, [0, 1, 3, 2])
    if both:
        weights |= {f"{k}_back": v for k, v in torch_weights(module, [0, 1, 3, 2], "_reverse").items()}
    extra = {} if clip is None else {"clip": np.float32(clip)}

    def build(x: Any, h: Any, c: Any) -> Any:
        return mb.lstm(x=x, initial_h=h, initial_c=c, direction=direction, output_sequence=sequence, **weights, **extra)

    def reference(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = x.flip(0) if direction == "reverse" else x
        state = tuple(torch.stack(s.chunk(sides, -1)) for s in (h, c))
        with torch.no_grad():
            y, (h, c) = module(x, state)
        h, c = (torch.cat(list(s), -1) for s in (h, c))
        y = y.flip(0) if direction == "reverse" else y
        return (y if sequence else h[None]), h, c

    check(build, reference, x, h, c, ulps=16)


@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
def test_gru_is_as_documented(gate: str) -> None:
    x, h = floats(6, 2, 3), floats(2, 4)
    w, u, b = floats(12, 3, low=-1, high=1), floats(12, 4, low=-1, high=1), floats(12)
    act = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}[gate]

    def reference(x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (w_r, w_o, w_z), (u_r, u_o, u_z), (b_r, b_o, b_z) = (torch.tensor(v).double().chunk(3) for v in (w, u, b))
        ys = []
        for x_t in x:
            r = act(x_t @ w_r.T + h @ u_r.T + b_r)
            z = act(x_t @ w_z.T + h @ u_z.T + b_z)
            o = torch.tanh(x_t @ w_o.T + b_o + r * (h @ u_o.T))
            h = (1 - z) * o + z * h
            ys.append(h)
        return torch.stack(ys), h

    check(
        lambda x, h: mb.gru(
            x=x, initial_h=h, weight_ih=w, weight_hh=u, bias=b, recurrent_activation=gate, output_sequence=True
        ),
        reference,
        x,
        h,
        ulps=16,
    )


def test_rnn_is_torchs() -> None:
    module = torch.nn.RNN(3, 5).double()
    weights = torch_weights(module, [0])

    def reference(x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            y, h = module(x, h[None])
        return y, h[0]

    check(
        lambda x, h: mb.rnn(x=x, initial_h=h, output_sequence=True, **weights),
        reference,
        floats(7, 2, 3),
        floats(2, 5),
        ulps=16,
    )
