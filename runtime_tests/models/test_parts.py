"""Every part of the catalogue keeps its promises: documented, any size, any batch, trains, and takes what TOML says."""

import ast
import inspect
from itertools import product
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from edgepass import catalog
from edgepass.errors import InputError
from edgepass.models import parts
from edgepass.models.config import Config, PassConfig
from edgepass.models.parts import Tokens
from edgepass.models.streaming import OneStep
from runtime_tests.mechanisms import HORIZON, Mechanism, every

MECHANISMS = list(every())
PARTS = [(kind, name) for kind in parts.CLASSES for name in catalog.names(kind)]
GRIDS = [(1,), (7,), (23,), (3, 1), (3, 7), (1, 6), (2, 4, 6)]
"""Of the tokens that mixers, encodings and merges are tried on; awkward on purpose."""
GRIDDED = {"axial_attention", "kronecker_attention"}
ANYWHERE = [(k, n) for k, n in PARTS if k in ("mixers", "channel_mixers", "encodings")]
names = pytest.mark.parametrize("mechanism", MECHANISMS, ids=str)


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_every_part_says_what_it_is_its_shapes_its_source_and_how_it_exports(kind: str, name: str) -> None:
    module = catalog.load(kind, name)
    text = inspect.getdoc(module) or ""
    assert text.splitlines()[0].endswith("."), "the first line is a sentence"
    assert "\nShapes: " in text
    source = text.rpartition("\nSource")[2]
    assert source != text, "the paper is named"
    assert '"' in source
    assert any(year in source for year in map(str, range(1960, 2027)))
    assert any(line.startswith("    ") for line in text.splitlines()), "the formula stands in it, indented"
    assert module.GRADE in parts.GRADES
    assert inspect.getdoc(module.Settings)
    assert inspect.isclass(getattr(module, parts.CLASSES[kind]))
    module.Settings()  # a name alone is a part


def refusal(name: str, grid: tuple[int, ...]) -> str | None:
    """Why a part does not take tokens on this grid: only those that need a grid of more axes may."""
    return f"{name!r}: it needs tokens on a grid" if name in GRIDDED and len(grid) == 1 else None


@pytest.mark.parametrize(("kind", "name"), ANYWHERE)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_mixer_takes_any_number_of_tokens_and_any_batch(kind: str, name: str, grid: tuple[int, ...]) -> None:
    tokens = Tokens(grid, 32, variates=grid[0] if len(grid) == 2 else 1)
    if says := refusal(name, grid):
        with pytest.raises(InputError, match=says):
            parts.make(kind, {"name": name}, tokens)
        return
    part = parts.make(kind, {"name": name}, tokens).eval()
    x_BND = torch.randn(3, tokens.count, 32)
    y_BND = part(x_BND)
    assert y_BND.shape == x_BND.shape
    assert torch.isfinite(y_BND).all()
    torch.testing.assert_close(part(x_BND[:1]), y_BND[:1], rtol=1e-4, atol=1e-5)  # no batch leaks into another


@names
def test_every_mechanism_captures_with_a_batch_that_varies_in_at_most_four_axes(mechanism: Mechanism) -> None:
    task = mechanism.task()
    module = task.module
    args = tuple(torch.cat([a, a]) for a in task.args)
    batch = tuple({0: torch.export.Dim("batch", min=1, max=16)} for _ in args)
    if isinstance(module, OneStep):
        batch = (batch[0], batch[1:])  # type: ignore[assignment]  # its state is *args
    program = torch.export.export(module, args, dynamic_shapes=batch, strict=False)
    wide = tuple(torch.cat([a, a, a]) for a in task.args)
    torch.testing.assert_close(program.module()(*wide), module(*wide))
    ranks = [n.meta["val"].ndim for n in program.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)]
    assert max(ranks) <= 4


@names
def test_every_mechanism_rebuilds_from_its_own_weights(mechanism: Mechanism) -> None:
    first = mechanism.task()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        again = mechanism.model()
    with torch.no_grad():
        for p in again.parameters():
            p.add_(1.0)
    again.load_state_dict(first.module.state_dict())
    for x, y in zip(_leaves(first.module(*first.args)), _leaves(again.eval()(*first.args)), strict=True):
        torch.testing.assert_close(x, y)


def _leaves(outputs: Any) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


@pytest.mark.promise("L1")
@pytest.mark.parametrize("mechanism", [m for m in MECHANISMS if m.kind != "steps"], ids=str)
def test_every_mechanism_trains_without_nan_and_beats_its_untrained_self(mechanism: Mechanism) -> None:
    """Forty steps towards what a fixed random teacher of the same data gives."""
    task = mechanism.task()
    assert task.calibration
    model = task.module
    x = [torch.from_numpy(a).flatten(0, 1) for a in task.calibration.inputs]
    with torch.no_grad():
        shape = _leaves(model(*x))[0].shape
    inputs = x[0].float().flatten(1)
    teacher = torch.randn(inputs.shape[1], shape[1:].numel()) / inputs.shape[1] ** 0.5
    target = (inputs @ teacher).reshape(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    model.train()
    for _ in range(40):
        loss = (_leaves(model(*x))[0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert all(loss == loss for loss in losses)
    assert sum(losses[-5:]) / 5 < losses[0], losses


@pytest.mark.promise("P2")
@pytest.mark.promise("S6")
@pytest.mark.parametrize(("first", "second"), list(product(catalog.names("mixers"), ["local_attention", "pooling"])))
def test_any_mixer_fits_any_slot_in_any_order(first: str, second: str) -> None:
    tokens = Tokens((3, 8), 32, variates=3)
    x_BND = torch.randn(2, 24, 32)
    for order in ((first, second), (second, first)):
        passes = [{"mixer": {"name": name}} for name in order]
        stack = parts.make("topologies", {"name": "stack"}, tokens, msgspec.convert(passes, tuple[PassConfig, ...]))
        assert stack(x_BND).shape == x_BND.shape


@pytest.mark.promise("S1")
def test_every_mechanism_is_built_from_a_configuration_alone() -> None:
    for mechanism in MECHANISMS:
        config = mechanism.config()
        assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(config)), Config) == config


def test_no_part_builds_what_another_file_has_already_said() -> None:
    """Two parts of one kind never share their class's code."""
    for kind in parts.CLASSES:
        seen: dict[str, str] = {}
        for name in catalog.names(kind):
            tree = ast.parse(inspect.getsource(getattr(catalog.load(kind, name), parts.CLASSES[kind])))
            body = ast.dump(tree)
            assert body not in seen, f"{kind}: {name} is {seen[body]} again"
            seen[body] = name


def test_the_forecast_is_as_long_as_asked() -> None:
    for mechanism in MECHANISMS:
        head = mechanism.config().head["name"]
        if mechanism.kind != "steps" and head == "forecast":
            task = mechanism.task()
            assert task.module(*task.args).shape == (1, HORIZON, 3), mechanism
