"""One token at a time: the state goes in and comes out, so any target that takes tensors holds it.

Shapes: B batch, D channels, T tokens of a stream.
"""

import copy
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.passes import Pass


class Recurrent(Protocol):
    """What a mixer offers that can run one token at a time."""

    def start(self, batch: int) -> tuple[Tensor, ...]:
        """The state before the first token."""
        ...

    def step(self, x_BD: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """x_BD and the state -> y_BD and the next state."""
        ...


def is_recurrent(mixer: Any) -> bool:
    """Whether a mixer, or its class, can run one token at a time."""
    return hasattr(mixer, "step") and hasattr(mixer, "start")


class OneStep(nn.Module):
    """The graph to export: (x_BD, *state) -> (y_BD, *state), of a recurrent mixer, of a pass, or of passes in a row.

    Passes are copied, and their mixers' states stand one after another. Raises InputError where a pass needs more than
    the token at hand and a state.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        passes = [] if is_recurrent(body) else [body] if isinstance(body, Pass) else list(body.children())
        for number, p in enumerate(passes, start=1):
            with parts.inside(f"pass {number}"):
                _check(p)
        if passes:
            body = nn.Sequential(*(_holding(cast(Pass, p)) for p in passes))
        self.body = body if passes else _Held(body)

    def forward(self, x_BD: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """x_BD and the state -> y_BD and the next state."""
        rest = list(state)
        for held in self._held():
            held.slot.state, rest = tuple(rest[: held.size]), rest[held.size :]
        y_B1D: Tensor = self.body(x_BD.reshape(-1, 1, x_BD.shape[-1]))
        following = tuple(tensor for held in self._held() for tensor in held.slot.take())
        return y_B1D.reshape(x_BD.shape), *following

    def start(self, batch: int) -> tuple[Tensor, ...]:
        """The state before the first token."""
        return tuple(tensor for held in self._held() for tensor in cast(Recurrent, held.mixer).start(batch))

    def stream(self, tokens_TBD: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """What each argument is at every token of a stream, [T, *argument], from the first state on."""
        state = self.start(tokens_TBD.shape[1])
        rows: list[tuple[Tensor, ...]] = []
        with torch.no_grad():
            for x_BD in torch.from_numpy(tokens_TBD):
                rows.append((x_BD, *state))
                state = self(x_BD, *state)[1:]
        return [torch.stack(column).numpy() for column in zip(*rows, strict=True)]

    def _held(self) -> list["_Held"]:
        return [module for module in self.modules() if isinstance(module, _Held)]


class _Slot:
    """Where a mixer finds its state and leaves the next; no attribute of a module, which an export must not change."""

    def __init__(self) -> None:
        self.state: tuple[Tensor, ...] = ()

    def take(self) -> tuple[Tensor, ...]:
        state, self.state = self.state, ()
        return state


class _Held(nn.Module):
    """A recurrent mixer in the place of one that sees all tokens: x_B1D -> y_B1D."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer
        self.size = len(cast(Recurrent, mixer).start(1))
        self.slot = _Slot()

    def forward(self, x_B1D: Tensor) -> Tensor:
        y_BD, *state = cast(Recurrent, self.mixer).step(x_B1D.reshape(-1, x_B1D.shape[-1]), *self.slot.take())
        self.slot.state = tuple(state)
        return y_BD.reshape(x_B1D.shape)


def _holding(p: Pass) -> Pass:
    copied = copy.deepcopy(p)
    if copied.mixer is not None:
        copied.mixer = _Held(copied.mixer)
    return copied


def _check(p: nn.Module) -> None:
    parts.must(
        isinstance(p, Pass), f"{type(p).__name__} is no pass; give a recurrent mixer, a pass, or a row of passes"
    )
    assert isinstance(p, Pass)
    recurrent = p.mixer is None or is_recurrent(p.mixer)
    parts.must(recurrent, "its mixer has no step; legendre_memory, linear_recurrence and selective_scan have one")
    parts.must(p.whole_gate is None, 'its gate weighs all tokens at once; take gate = "values", or none')
