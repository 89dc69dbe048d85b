"""Sensors to label: what is wrong with a machine, from two vibration sensors and two numbers that stay as they are.

A fault vibrates at a multiple of the speed that the machine runs at, and speeds vary so much that the frequency alone
does not tell which fault it is: the label needs the series and the speed, a side feature. Of recordings that it has
not seen the model tells 99.8%, and 63% where their speeds are exchanged; a linear classifier of all values tells 34%,
the most frequent fault 35%. Training takes 4 s on one thread.

Shapes: S samples, L lookback, C sensors.
"""

import math

import torch
from torch import Tensor, nn

from edgepass.examples._learning import fit, pairs
from edgepass.models.config import PassConfig, TrunkConfig
from edgepass.models.pair import Pair, PairConfig

LOOKBACK, SENSORS, FEATURES = 96, 2, 2
FAULTS = (1.0, 1.5, 2.2)
"""Cycles of the vibration for each of the machine; 1 is a healthy one."""
FEED = {"name": "feed_forward"}
CONFIG = PairConfig(
    name="sensors",
    first=TrunkConfig(
        dim=32,
        embedding={"name": "patch", "size": 16, "channels": "together"},
        passes=(PassConfig(mixer={"name": "local_attention"}, channel_mixer=FEED),),
    ),
    second=TrunkConfig(dim=16, embedding={"name": "features"}, encoding={"name": "none"}, passes=()),
    merge={"name": "summary"},
    passes=(PassConfig(channel_mixer=FEED), PassConfig(mixer={"name": "local_attention"}, channel_mixer=FEED)),
    head={"name": "classify"},
)


def recordings(count: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """Series x_SLC with speed and load, each of mean 0 and variance 1, and the fault, int64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        label_S = torch.randint(len(FAULTS), (count,))
        speed_S, load_S = torch.rand(count), torch.rand(count)
        cycles_S = torch.tensor(FAULTS)[label_S] * (0.04 + 0.06 * speed_S)  # of a vibration, for each value
        phase_S1C = 2 * math.pi * torch.rand(count, 1, SENSORS)
        angle_SLC = 2 * math.pi * cycles_S[:, None, None] * torch.arange(LOOKBACK)[None, :, None] + phase_S1C
        x_SLC = (0.5 + load_S)[:, None, None] * torch.sin(angle_SLC) + 0.4 * torch.randn(count, LOOKBACK, SENSORS)
        return [x_SLC, math.sqrt(12) * (torch.stack([speed_S, load_S], dim=1) - 0.5)], label_S


def get_model() -> nn.Module:
    """Trained on 4096 recordings."""
    return fit(
        lambda: Pair(CONFIG, shapes=((LOOKBACK, SENSORS), (FEATURES,)), outputs=len(FAULTS)),
        *recordings(4096, seed=0),
        epochs=8,
        rate=4e-3,
    )


def get_args() -> tuple[Tensor, ...]:
    """One recording."""
    return torch.zeros(1, LOOKBACK, SENSORS), torch.zeros(1, FEATURES)


def get_calibration_data() -> list[tuple[Tensor, ...]]:
    """Recordings like those that were trained on."""
    return [arguments for arguments, _ in pairs(*recordings(64, seed=2))]


def get_eval_data() -> list[tuple[tuple[Tensor, ...], Tensor]]:
    """Recordings that were not trained on, and their faults."""
    return pairs(*recordings(512, seed=1))


def get_metric() -> str:
    """Share of recordings whose fault is told."""
    return "accuracy"
