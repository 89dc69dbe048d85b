"""Topologies and merges of eight channels in float64, moved away from their beginnings."""

from typing import Any

import torch
from torch import Tensor, nn

from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Tokens

D = 8
LOCAL = {"name": "local_attention", "heads": 2, "window": 4}
FEED = {"name": "feed_forward", "ratio": 1.5}
PASS = PassConfig(mixer=LOCAL, channel_mixer=FEED)
ONLY_FEED = PassConfig(channel_mixer=FEED)
COUNTS = (1, 7, 23)


def topology(name: str, tokens: Tokens, *passes: PassConfig, **chosen: Any) -> Any:
    """In float64, with all that starts at a round number moved away from it."""
    module = parts.make("topologies", {"name": name, **chosen}, tokens, passes).double()
    return stirred(module)


def merge(name: str, into: Tokens, other: Tokens, **chosen: Any) -> Any:
    return stirred(parts.make("merges", {"name": name, **chosen}, into, other).double())


def stirred(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn_like(parameter) * 0.1
    return module


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def same(module: nn.Module, *args: Tensor) -> None:
    """torch.export with a batch that varies gives what the module gives, in tensors of no more than 4 axes.

    Slow, so of the awkward counts of tokens only for 7.
    """
    if args[0].shape[1] in set(COUNTS) - {7}:
        return
    batch = torch.export.Dim("batch", min=1, max=16)
    narrow = tuple(torch.cat([a, a])[:2] for a in args)
    program = torch.export.export(module, narrow, dynamic_shapes=tuple({0: batch} for _ in args), strict=False)
    torch.testing.assert_close(program.module()(*args), module(*args))
    ranks = [n.meta["val"].ndim for n in program.graph.nodes if isinstance(n.meta.get("val"), Tensor)]
    assert max(ranks) <= 4
