"""Encodings compute the formulas that they cite, and what they bake is a constant in a file and never stale."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from edgepass.errors import InputError
from edgepass.models import parts
from edgepass.models.baking import Baked
from edgepass.models.encodings import _grid, grid_code, sequence_code
from edgepass.models.parts import Tokens

BAKED = ["time2vec", "grid_code", "sequence_code"]
GRIDS = [(1,), (23,), (3, 8), (4, 3, 2)]


def made(name: str, grid: tuple[int, ...] = (7,), dim: int = 8, **settings: Any) -> Any:
    return parts.make("encodings", {"name": name, **settings}, Tokens(grid, dim))


def exported(module: nn.Module, x_BND: Tensor) -> torch.export.ExportedProgram:
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    return torch.export.export(module, (x_BND,), dynamic_shapes=(batch,), strict=False)


@pytest.mark.parametrize("name", BAKED)
@pytest.mark.parametrize("grid", GRIDS)
def test_what_is_exported_adds_a_constant_and_nothing_else(name: str, grid: tuple[int, ...]) -> None:
    module = made(name, grid).eval()
    x_BND = torch.randn(3, math.prod(grid), 8)
    program = exported(module, x_BND)
    calls = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert calls == ["aten.add.Tensor"]
    torch.testing.assert_close(program.module()(x_BND[:1]), module(x_BND[:1]))
    added_BND = module(x_BND) - x_BND
    torch.testing.assert_close(added_BND[0], added_BND[1])


@pytest.mark.parametrize("name", BAKED)
@pytest.mark.parametrize("grid", [(23,), (3, 8), (4, 3, 2)])
def test_no_two_places_of_a_grid_look_alike(name: str, grid: tuple[int, ...]) -> None:
    table_ND = made(name, grid, dim=64).eval().position()
    distance_NN = torch.cdist(table_ND, table_ND) + torch.eye(len(table_ND))
    assert distance_NN.min() > 0.05 * distance_NN.mean()


@pytest.mark.parametrize("name", BAKED)
def test_training_reaches_the_parameters_behind_a_table(name: str) -> None:
    module = made(name).train()
    module(torch.randn(2, 7, 8)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    assert any(bool((p.grad != 0).any()) for p in module.parameters())
    calls = [n.target for n in exported(module, torch.randn(3, 7, 8)).graph.nodes if n.op == "call_function"]
    assert len(calls) > 1  # in training mode an exported graph computes the table


def moved(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)


@pytest.mark.parametrize("name", BAKED)
def test_a_table_follows_its_parameters_wherever_they_come_from(name: str) -> None:
    module, other = made(name).eval(), made(name).eval()
    x_BND = torch.randn(3, 7, 8)

    def holds(net: Any) -> None:
        fresh = net.position.generator()
        torch.testing.assert_close(net(x_BND), x_BND + fresh)
        torch.testing.assert_close(exported(net, x_BND).module()(x_BND), x_BND + fresh)

    moved(other)
    module.load_state_dict(other.state_dict())
    holds(module)
    torch.testing.assert_close(module(x_BND), other(x_BND))
    moved(module.train())
    module.eval()
    holds(module)
    moved(module)  # in evaluation mode: torch sees it at once, an export after eval()
    torch.testing.assert_close(module(x_BND), x_BND + module.position.generator())
    holds(module.eval())
    holds(copy.deepcopy(module))
    assert not any("table" in key for key in module.state_dict())
    averaged: Any = AveragedModel(module)
    moved(module.train())
    averaged.update_parameters(module)
    holds(averaged.module.eval())


def test_a_module_that_is_loaded_with_its_parents_is_baked_too() -> None:
    parent, other = nn.Sequential(made("time2vec")).eval(), nn.Sequential(made("time2vec")).eval()
    parent.load_state_dict(other.state_dict(), assign=True)
    x_BND = torch.randn(3, 7, 8)
    torch.testing.assert_close(exported(parent, x_BND).module()(x_BND), other(x_BND))


def test_a_table_made_in_inference_mode_can_still_be_trained_through() -> None:
    with torch.inference_mode():
        module = made("time2vec").train()
        module.eval()
    again = made("time2vec")
    with torch.inference_mode():
        again.eval()
    again.train()(torch.randn(2, 7, 8)).sum().backward()
    assert not again.position.table.is_inference()
    assert isinstance(module.position, Baked)


def test_a_table_keeps_the_precision_of_its_model() -> None:
    module = made("grid_code").double().eval()
    assert module.position().dtype == module.position.table.dtype == torch.float64
    assert module(torch.randn(2, 7, 8, dtype=torch.float64)).dtype == torch.float64


def test_time2vec_is_a_line_and_sines_of_each_axis() -> None:
    module = made("time2vec", (3, 5), waves=4).double()
    g = module.position.generator
    for n in range(15):
        waves: list[Tensor] = []
        for axis, place in enumerate((n // 5 / 3, n % 5 / 5)):
            for k in range(4):
                angle = g.frequency_AK[axis, k] * place + g.phase_AK[axis, k]
                waves.append(angle if k == 0 else torch.sin(angle))
        torch.testing.assert_close(module.position()[n], g.mix.weight @ torch.stack(waves), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_grid_codes_look_along_the_corners_of_a_regular_simplex(dimensions: int) -> None:
    directions = grid_code.simplex(dimensions)
    assert directions.shape == (1 if dimensions == 1 else dimensions + 1, dimensions)
    cosines = directions @ directions.T
    expected = torch.full_like(cosines, -1 / dimensions).fill_diagonal_(1)
    torch.testing.assert_close(cosines, expected)
    if dimensions > 1:
        torch.testing.assert_close(directions.sum(0), torch.zeros(dimensions, dtype=torch.float64))


@pytest.mark.parametrize("grid", [(11,), (4, 6), (3, 2, 4)])
def test_grid_codes_of_two_places_differ_by_where_they_are_to_each_other_alone(grid: tuple[int, ...]) -> None:
    f_NF, p_NA = grid_code.features(grid, 4.0), _grid.indices(grid)
    product_NN = f_NF @ f_NF.T
    seen: dict[tuple[int, ...], float] = {}
    for i in range(len(p_NA)):
        for j in range(len(p_NA)):
            apart = tuple(int(d) for d in p_NA[i] - p_NA[j])
            assert product_NN[i, j].item() == pytest.approx(seen.setdefault(apart, product_NN[i, j].item()))
    periods = f_NF.shape[1] // 2 // len(grid_code.simplex(len(grid)))
    longest = 4.0 * math.exp((periods - 1) / len(grid))
    assert longest >= 2 * math.hypot(*(n - 1 for n in grid)) > longest / math.exp(1 / len(grid)) or periods == 1


def test_grid_codes_are_cosines_and_sines_of_growing_waves() -> None:
    f_NF = grid_code.features((9,), 4.0)
    for n in range(9):
        waves = [4.0 * math.e**s for s in range(3)]
        expected = [f(2 * math.pi * n / w) for w in waves for f in (math.cos, math.sin)]
        assert f_NF[n].tolist() == pytest.approx(expected)


def test_digits_are_those_of_the_index_along_every_axis() -> None:
    assert sequence_code.digits((120,), 4)[[0, 7, 119]].tolist() == [[0, 0, 0, 0], [0, 0, 0, 7], [0, 1, 1, 9]]
    assert sequence_code.digits((2, 12), 2)[[0, 11, 12, 23]].tolist() == [
        [0, 0, 0, 0],
        [0, 0, 1, 1],
        [0, 1, 0, 0],
        [0, 1, 1, 1],
    ]


def test_one_set_of_weights_is_a_table_for_any_length() -> None:
    short, long = made("sequence_code", (24,)).eval(), made("sequence_code", (131,)).eval()
    long.load_state_dict(short.state_dict())
    torch.testing.assert_close(long.position()[:24], short.position())


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("sequence_code", {"digits": 1}, "1 digits are too few for 23 tokens"),
        ("sequence_code", {"width": 3}, "width is 3; it must be even"),
        ("time2vec", {"waves": 0}, ">= 1.*waves"),
        ("grid_code", {"finest": 0.0}, "> 0.*finest"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        made(name, (23,), **settings)
