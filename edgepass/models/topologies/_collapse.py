"""Branches that read one input, stacked into one: exact, because what they give is only summed.

    sum_i s_i (O_i h_i + b_i) = [s_1 O_1, s_2 O_2 ...] [h_1; h_2; ...] + sum_i s_i b_i

Rows of the maps into each h_i stand below each other, columns of the maps O_i out of them beside each other; s_i are
learned scales of the channels.
"""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.mixers import local_attention
from edgepass.models.parts import Choice
from edgepass.models.passes import Pass

FEED_FORWARD, ATTENTION = "feed_forward", "local_attention"
OUT = {FEED_FORWARD: "narrow", ATTENTION: "out"}
"""Of each kind that can be stacked, the map out; all others of its maps lead in."""


def groups(passes: Sequence[PassConfig], dim: int) -> list[list[int]]:
    """Positions of the branches that are one together, in the order of their first; a lone one is a group too."""
    found: dict[Any, list[int]] = {}
    for index, p in enumerate(passes):
        found.setdefault(_key(index, p, dim), []).append(index)
    return list(found.values())


def config(passes: Sequence[PassConfig], dim: int) -> PassConfig:
    """The branch that a group of several becomes."""
    first = msgspec.structs.replace(passes[0], scale=None)  # scales go into the weights
    if first.mixer is None:
        width = sum(parts.hidden(dim, _settings("channel_mixers", p.channel_mixer).ratio) for p in passes)
        return msgspec.structs.replace(first, channel_mixer={"name": FEED_FORWARD, "ratio": width / dim})
    chosen = [_settings("mixers", p.mixer) for p in passes]
    wide = {"heads": sum(s.heads for s in chosen), "head_dim": local_attention.head_dim(dim, chosen[0])}
    return msgspec.structs.replace(first, mixer=first.mixer | wide)


def weights(branches: Sequence[nn.Module]) -> dict[str, Tensor]:
    """The state of the branch that a group of several becomes."""
    group = [cast(Pass, branch) for branch in branches]
    mixes = group[0].mixer is not None
    kind, out = ("mixer", OUT[ATTENTION]) if mixes else ("channel_mixer", OUT[FEED_FORWARD])
    states = [cast(nn.Module, getattr(branch, kind)).state_dict() for branch in group]
    scales = [branch.scale_mix if mixes else branch.scale_feed for branch in group]
    stacked: dict[str, Tensor] = {}
    for name in states[0]:
        tensors = [state[name].detach() for state in states]
        if name == f"{out}.weight":
            stacked[name] = torch.cat([_scaled(t.T, s).T for t, s in zip(tensors, scales, strict=True)], dim=1)
        elif name == f"{out}.bias":
            stacked[name] = torch.stack([_scaled(t, s) for t, s in zip(tensors, scales, strict=True)]).sum(dim=0)
        else:
            stacked[name] = torch.cat(tensors)
    return {f"{kind}.{name}": tensor for name, tensor in stacked.items()}


def _scaled(x_D: Tensor, scale_D: Tensor | None) -> Tensor:
    """The last axis times a learned scale, where there is one."""
    return x_D if scale_D is None else x_D * scale_D.detach()


def _key(index: int, p: PassConfig, dim: int) -> Any:
    """Equal for branches that can be stacked."""
    if p.gate is None and p.mixer is None and p.channel_mixer is not None and p.channel_mixer["name"] == FEED_FORWARD:
        return FEED_FORWARD
    if p.gate is None and p.mixer is not None and p.mixer["name"] == ATTENTION:
        chosen = _settings("mixers", p.mixer)
        return ATTENTION, chosen.window, local_attention.head_dim(dim, chosen)
    return index


def _settings(kind: str, choice: Choice | None) -> Any:
    assert choice is not None
    return parts.settings(kind, choice)[1]
