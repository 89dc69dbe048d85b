"""Training a Forecaster: AdamW, cosine decay, averaged weights, the best epoch, and a state that survives kill -9.

Everything random in an epoch follows from the seed and the epoch's number, so a run that continues from its last
finished epoch gives the very bits of one that was never stopped (with the same torch and number of threads).
A model of several levels is trained by the pinball loss, any other by the squared error, both in scaled units.
Shapes: T rows, B windows, L lookback, H horizon, W = L + H, C columns, Q levels.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgepass.errors import InputError
from edgepass.models.forecaster import Forecaster
from edgepass.models.heads.quantile import pinball

Progress = Callable[[int, int, float, float], None]
"""Called after each epoch: its number from 1, how many there are, training loss, validation loss."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train. `batch` counts windows of one column; `rate` is the peak learning rate."""

    epochs: int
    batch: int
    seed: int
    rate: float = 3e-4
    direct_rate: float = 1e-4
    """For the direct path, which starts where it is best."""
    decay: float = 1e-2
    clip: float = 1.0
    average: float = 0.99
    """Share of the running average of the weights that a step keeps. The average is what is judged and kept."""
    patience: int = 3
    """Epochs without a better validation loss after which training ends."""


@dataclass
class State:
    """Where training stands: after `epoch` epochs, of which `best_epoch` (0: the start) was best."""

    epoch: int
    best_epoch: int
    best_loss: float
    best: dict[str, Tensor]


def train(
    model: Forecaster,
    values_TC: Tensor,
    rows: tuple[tuple[int, int], tuple[int, int]],
    settings: Settings,
    *,
    file: Path,
    command: dict[str, Any],
    write: Callable[[Path, bytes], None],
    progress: Progress | None = None,
) -> State:
    """Train `model` in place on the raw float32 series, and leave it with the weights of the best epoch.

    `rows` are the training and the validation rows. The state is kept in `file`, written through `write` after each
    epoch and continued from when it is there. Raises InputError when it belongs to another `command`.
    """
    optimizer = torch.optim.AdamW(_groups(model, settings), lr=settings.rate, weight_decay=settings.decay)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
    starts, held = (_starts(r, model) for r in rows)
    with torch.random.fork_rng(devices=[]):
        state = _resume(file, command, model, averaged, optimizer)
        if state is None:
            state = State(0, 0, evaluate(model, values_TC, held), _copy(model))
        while state.epoch < settings.epochs and state.epoch - state.best_epoch < settings.patience:
            seed = settings.seed * 1_000_003 + state.epoch
            torch.manual_seed(seed)
            order = starts[torch.randperm(len(starts))]
            loss = _epoch(model, averaged, optimizer, values_TC, order, state.epoch, settings)
            kept = cast(Forecaster, averaged.module)
            held_loss = evaluate(kept, values_TC, held)
            state.epoch += 1
            if held_loss < state.best_loss:
                state = State(state.epoch, state.epoch, held_loss, _copy(kept))
            write(file, _pack(state, command, model, averaged, optimizer))
            if progress is not None:
                progress(state.epoch, settings.epochs, loss, held_loss)
    model.load_state_dict(state.best)
    model.eval()
    return state


def evaluate(model: Forecaster, values_TC: Tensor, starts: Tensor) -> float:
    """Mean loss in scaled units over the windows that begin at `starts`."""
    model.eval()
    total = 0.0
    with torch.inference_mode():
        for x_BLC, y_BHC in _batches(values_TC, starts, model, 2048):
            total += float(_losses(model, x_BLC, y_BHC, torch.float64).sum())
    return total / (len(starts) * model.horizon * model.channels)


def _epoch(
    model: Forecaster,
    averaged: AveragedModel,
    optimizer: torch.optim.Optimizer,
    values_TC: Tensor,
    order: Tensor,
    epoch: int,
    settings: Settings,
) -> float:
    model.train()
    size = max(1, settings.batch // model.channels)
    steps, total = -(-len(order) // size), 0.0
    for step, (x_BLC, y_BHC) in enumerate(_batches(values_TC, order, model, settings.batch)):
        done = (epoch + step / steps) / settings.epochs
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * 0.5 * (1 + math.cos(math.pi * done))
        optimizer.zero_grad()
        loss = _losses(model, x_BLC, y_BHC, torch.float32).mean()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        averaged.update_parameters(model)
        total += loss.item() * len(x_BLC)
    return total / len(order)


def _losses(model: Forecaster, x_BLC: Tensor, y_BHC: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, H, C]: of several levels their mean loss."""
    if model.levels:
        missed_BQHC = ((y_BHC.unsqueeze(1) - model(x_BLC)) / model.normalise.std_C).to(dtype)
        return pinball(missed_BQHC, model.levels).mean(dim=1)
    error_BHC: Tensor = ((model(x_BLC) - y_BHC) / model.normalise.std_C).to(dtype)
    return error_BHC.square()


def _batches(values_TC: Tensor, starts: Tensor, model: Forecaster, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    offsets_W = torch.arange(model.lookback + model.horizon)
    for part in starts.split(max(1, batch // model.channels)):
        window_BWC = values_TC[part[:, None] + offsets_W]
        yield window_BWC[:, : model.lookback], window_BWC[:, model.lookback :]


def _starts(rows: tuple[int, int], model: Forecaster) -> Tensor:
    return torch.arange(rows[0], rows[1] - model.lookback - model.horizon + 1)


def _groups(model: Forecaster, settings: Settings) -> list[dict[str, Any]]:
    """Matrices decay, vectors do not; the direct path neither decays nor hurries."""
    direct = [] if model.direct is None else list(model.direct.parameters())
    others = [p for name, p in model.named_parameters() if not name.startswith("direct.")]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "peak": settings.rate},
        {"params": [p for p in others if p.ndim == 1], "peak": settings.rate, "weight_decay": 0.0},
        {"params": direct, "peak": settings.direct_rate, "weight_decay": 0.0},
    ]
    return [g for g in groups if g["params"]]


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def _pack(
    state: State,
    command: dict[str, Any],
    model: Forecaster,
    averaged: AveragedModel,
    optimizer: torch.optim.Optimizer,
) -> bytes:
    tensors = {f"model/{k}": v for k, v in _copy(model).items()}
    tensors |= {f"averaged/{k}": v for k, v in _copy(averaged).items()}
    tensors |= {f"best/{k}": v for k, v in state.best.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{k}": v.clone() for k, v in moments.items()}
    at = {"epoch": state.epoch, "best_epoch": state.best_epoch, "best_loss": state.best_loss.hex()}
    return save(tensors, metadata={"command": json.dumps(command, sort_keys=True), "at": json.dumps(at)})


def read(file: Path, command: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """What `file` holds of a training that `command` began; None when there is no file.

    Raises InputError when it cannot be read, or belongs to another command.
    """
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as stored:
            metadata, tensors = stored.metadata(), {k: stored.get_tensor(k) for k in stored.keys()}  # noqa: SIM118
        at, theirs = json.loads(metadata["at"]), json.loads(metadata["command"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is no training state ({error}); start over with --overwrite") from None
    mine = json.loads(json.dumps(command))
    if theirs != mine:
        changed = ", ".join(sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k)))
        raise InputError(
            f"{file.parent} holds an unfinished run of another command (it differs in {changed}); "
            "repeat that command to continue it, name another folder, or start over with --overwrite"
        )
    return at, tensors


def _resume(
    file: Path, command: dict[str, Any], model: Forecaster, averaged: AveragedModel, optimizer: torch.optim.Optimizer
) -> State | None:
    stored = read(file, command)
    if stored is None:
        return None
    at, tensors = stored
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "averaged": {}, "best": {}, "optimizer": {}}
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        parts[part][name] = value
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimizer"].items():
        number, name = key.split("/")
        moments.setdefault(int(number), {})[name] = value
    model.load_state_dict(parts["model"])
    averaged.load_state_dict(parts["averaged"])
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return State(at["epoch"], at["best_epoch"], float.fromhex(at["best_loss"]), parts["best"])
