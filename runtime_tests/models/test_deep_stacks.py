"""Deep stacks whose passes start as their skip: of any mixer, twelve of them begin as the identity and train."""

from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from edgepass import catalog
from runtime_tests.mechanisms import Mechanism, build, data

DEPTH, STEPS = 12, 12
EVERY = [Mechanism(kind, name) for kind in ("mixers", "channel_mixers") for name in catalog.names(kind)]


def deep(mechanism: Mechanism) -> tuple[nn.Module, torch.Tensor]:
    """Twelve passes of a mechanism, each scaled by 0 at first, and a batch of eight."""
    config = mechanism.config()
    scaled = msgspec.structs.replace(config.passes[0], scale=0.0)
    model = build(msgspec.structs.replace(config, passes=(scaled,) * DEPTH))
    takes = catalog.load("embeddings", config.embedding["name"]).SHAPE
    return model, torch.from_numpy(data(takes, 8, 0)[:, 0])


@pytest.mark.promise("L1")
@pytest.mark.parametrize("mechanism", EVERY, ids=str)
def test_twelve_passes_start_as_the_identity_and_train_without_nan(mechanism: Mechanism) -> None:
    model, x = deep(mechanism)
    inner: Any = getattr(model, "passformer", model)
    with torch.no_grad():
        tokens = inner.encoding(inner.embedding(x))
        assert torch.equal(inner.topology(tokens), tokens)
        target = torch.randn_like(model(x))
    scales = [p for name, p in model.named_parameters() if name.endswith((".scale_mix", ".scale_feed"))]
    assert len(scales) == 2 * DEPTH
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (model.train()(x) - target).square().mean()
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0], losses
    assert all((p != 0).any() for p in scales)
    with torch.no_grad():
        tokens = inner.encoding(inner.embedding(x))
        assert not torch.allclose(inner.topology(tokens), tokens)
