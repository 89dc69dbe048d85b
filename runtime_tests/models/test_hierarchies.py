"""Hierarchies compute their formulas at any length and keep variates apart."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from edgepass import catalog
from edgepass.errors import InputError
from edgepass.models import create
from edgepass.models.cells import Cells
from edgepass.models.config import Config
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass
from edgepass.models.passformer import Passformer
from runtime_tests.models.hierarchies import (
    CROSS,
    FEED,
    HEADS,
    INVERTED,
    NAMES,
    SERIES,
    VARIATES,
    VIDEO,
    D,
    felt,
    local,
    make,
    members,
    values,
    windows,
)

# Cells


@given(
    tokens=st.one_of(
        st.builds(lambda n: Tokens((n,), D), st.integers(1, 30)),
        st.builds(lambda v, n: Tokens((v, n), D, variates=v), st.integers(2, 3), st.integers(1, 30)),
        st.builds(lambda f, r, c: Tokens((f, r, c), D), st.integers(1, 2), st.integers(1, 6), st.integers(1, 6)),
    ),
    size=st.integers(1, 9),
)
@settings(max_examples=60)
def test_cells_are_cut_joined_averaged_and_spread_as_counting_says(tokens: Tokens, size: int) -> None:
    cells = Cells(tokens, size).double()
    x_BND, y_BMD = values(2, tokens.count, D), values(2, cells.coarse.count, D)
    held = members(tokens, size)
    assert len(held) == cells.coarse.count
    assert torch.equal(cells.join(cells.split(x_BND)), x_BND)
    torch.testing.assert_close(cells.mean(x_BND), torch.stack([x_BND[:, m].mean(dim=1) for m in held], dim=1))
    spread = torch.empty_like(x_BND)
    for number, cell in enumerate(held):
        spread[:, cell] = y_BMD[:, number : number + 1]
        full = cells.split(x_BND).reshape(2, -1, cells.inside.count, D)[:, number]
        assert torch.equal(full[:, full.abs().sum(dim=(0, 2)) > 0], x_BND[:, cell])
    assert torch.equal(cells.spread(y_BMD), spread)


# What they have in common


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("embedding", ["patch", "patch_grid"])
@pytest.mark.parametrize("lookback", [1, 28, 89])
def test_a_series_of_any_length_is_forecast(name: str, embedding: str, lookback: int) -> None:
    topology = {"name": name, **HEADS.get(name, {})}
    config = Config(
        dim=D, embedding={"name": embedding, "size": 4}, topology=topology, passes=(local(4), local(4)), direct=False
    )
    y_BHC = create(config, lookback=lookback, horizon=5, channels=3)(torch.randn(2, lookback, 3))
    assert y_BHC.shape == (2, 5, 3)
    assert torch.isfinite(y_BHC).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.promise("A3")
def test_a_video_is_classified(name: str) -> None:
    topology = {"name": name, **HEADS.get(name, {})}
    config = Config(
        dim=D,
        embedding={"name": "frames", "size": 2},
        topology=topology,
        passes=(local(4), local(4)),
        head={"name": "classify"},
    )
    y_BK = Passformer(config, shape=(3, 10, 6), outputs=4)(torch.randn(2, 3, 10, 6))
    assert y_BK.shape == (2, 4)
    assert torch.isfinite(y_BK).all()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"mixed_spans"}))
def test_no_variate_is_felt_by_another(name: str) -> None:
    module = make(name, VARIATES, FEED, FEED)
    x_BND = values(2, 69, D)
    z_BND = x_BND.clone()
    z_BND[:, 23:46] += values(2, 23, D)
    each = module.tokens.count // 3
    assert module.tokens.variates == 3
    assert module.tokens.grid[0] == 3
    same = (module(x_BND) == module(z_BND)).reshape(2, 3, each, D).all(dim=3).all(dim=2).all(dim=0)
    assert same.tolist() == [True, False, True]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [VARIATES, VIDEO])
def test_what_is_exported_takes_any_batch_in_at_most_four_axes_with_no_sort_and_no_gather(
    name: str, tokens: Tokens
) -> None:
    module = make(name, tokens, local(4), local(4)).eval()
    x_BND = values(3, tokens.count, D)
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(module, (x_BND[:2],), dynamic_shapes=(batch,), strict=False)
    torch.testing.assert_close(program.module()(x_BND), module(x_BND))
    ranks = [n.meta["val"].ndim for n in program.graph.nodes if isinstance(n.meta.get("val"), Tensor)]
    assert max(ranks) <= 4
    called = {str(n.target).split(".")[1] for n in program.graph.nodes if n.op == "call_function" and "aten" in str(n)}
    assert not called & {"topk", "sort", "gather", "index", "index_select", "scatter", "rand", "randperm", "cumsum"}


@pytest.mark.parametrize(
    ("name", "tokens", "passes", "chosen", "sentence"),
    [
        ("distilling", SERIES, 1, {}, "it halves between passes and needs at least 2; there is 1"),
        ("hierarchy", SERIES, 1, {}, "it needs 1 for each of at least 2 scales; 1 passes do not give that"),
        ("hierarchy", SERIES, 3, {"per_scale": 2}, "it needs 2 for each of at least 2 scales; 3 passes do not"),
        ("hierarchy", SERIES, 2, {"spread": False}, "merge 'add': 12 tokens of 8 channels cannot be merged into 23"),
        ("latents", SERIES, 3, {}, "its passes are local, global, local, global; it needs an even number.*has 3"),
        ("nested", SERIES, 1, {}, "its passes are inner, outer, inner, outer; it needs an even number.*has 1"),
        ("two_resolutions", SERIES, 5, {}, "its passes are fine, coarse, fine, coarse; .*has 5"),
        ("mixed_spans", SERIES, 1, {"depth": 2, "full": (3,)}, "full lists pass 3, and there are 2"),
        ("sliced_recursion", SERIES, 1, {"ratio": 0.01}, "ratio 0.01 of 8 channels is a hidden width below 1"),
        *(
            (name, INVERTED, 2, {}, "each of the 7 tokens is a whole variate, .*patch or patch_grid gives")
            for name in ("distilling", "hierarchy", "latents", "nested", "token_merging", "two_resolutions")
        ),
    ],
)
def test_what_cannot_be_arranged_is_refused_in_a_sentence(
    name: str, tokens: Tokens, passes: int, chosen: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=f"^topology '{name}': {sentence}"):
        make(name, tokens, *[local(4)] * passes, **chosen)


# Nested


@pytest.mark.parametrize("count", [1, 2, 7, 23])
def test_nested_passes_are_those_of_each_outer_token_and_of_all_outer_tokens(count: int) -> None:
    module = make("nested", Tokens((count,), D), local(2), local(3), local(2), local(3), group=3, dim=6)
    width = min(3, count)
    x_BND = values(2, count, D)
    short = -count % width
    full = torch.cat([torch.zeros(2, short, D, dtype=torch.float64), x_BND], dim=1)
    inner = list(full.split(width, dim=1))
    z_BME = torch.zeros(2, len(inner), 6, dtype=torch.float64)
    for inside, lift, outer in zip(module.inner, module.lift, module.outer, strict=True):
        inner = [inside(y) for y in inner]
        z_BME = outer(z_BME + torch.stack([lift(y.reshape(2, -1)) for y in inner], dim=1))
    torch.testing.assert_close(module(x_BND), z_BME)
    assert module.tokens == Tokens((len(inner),), 6)
    assert windows(module.inner) == [2, 2]
    assert windows(module.outer) == [3, 3]


# Two resolutions


def test_two_resolutions_are_joined_by_their_summaries_and_at_the_end() -> None:
    module = make("two_resolutions", SERIES, local(5), local(3), local(5), local(3), factor=4)
    x_BND = values(2, 23, D)
    full = torch.cat([torch.zeros(2, 1, D, dtype=torch.float64), x_BND], dim=1)
    first = torch.zeros(2, 1, D, dtype=torch.float64)
    coarse = torch.stack([module.coarsen(cell.reshape(2, -1)) for cell in full.split(4, dim=1)], dim=1)
    f = torch.cat([first + module.begin_fine.summary_1D, x_BND], dim=1)
    c = torch.cat([first + module.begin_coarse.summary_1D + module.coarsen.bias, coarse], dim=1)
    for number in range(2):
        f, c = module.fine[number](f), module.coarse[number](c)
        seen_f, seen_c = torch.cat([f[:, :1], c[:, 1:]], dim=1), torch.cat([c[:, :1], f[:, 1:]], dim=1)
        f = torch.cat([module.into_fine[number](f[:, :1], seen_f), f[:, 1:]], dim=1)
        c = torch.cat([module.into_coarse[number](c[:, :1], seen_c), c[:, 1:]], dim=1)
    spread = (c[:, 1:] + c[:, :1]).repeat_interleave(4, dim=1)[:, 1:]
    torch.testing.assert_close(module(x_BND), f[:, 1:] + f[:, :1] + spread)


# Distilling


@pytest.mark.parametrize(("grid", "left"), [((1,), (1,)), ((7,), (2,)), ((23,), (6,)), ((2, 5, 7), (2, 2, 2))])
def test_halving_is_a_convolution_an_elu_and_the_largest_of_three_at_every_second(
    grid: tuple[int, ...], left: tuple[int, ...]
) -> None:
    tokens = Tokens(grid, D)
    module = make("distilling", tokens, local(3), FEED, local(3))
    assert module.tokens == Tokens(left, D)
    x_BND = values(2, tokens.count, D)
    y_BND = x_BND
    rows, columns = (1, *grid)[-2:]
    for layer in module.passes:
        if isinstance(layer, Pass):
            y_BND = layer(y_BND)
            continue
        grid4 = y_BND.reshape(-1, rows, columns, D).permute(0, 3, 1, 2)
        weight = layer.conv.weight if rows > 1 else functional.pad(layer.conv.weight, (0, 0, 1, 1))
        grid4 = functional.max_pool2d(
            functional.elu(functional.conv2d(grid4, weight, layer.conv.bias, padding=1)), 3, stride=2, padding=1
        )
        rows, columns = grid4.shape[-2:]
        y_BND = grid4.permute(0, 2, 3, 1).reshape(2, -1, D)
    torch.testing.assert_close(module(x_BND), y_BND)


# Hierarchy


@pytest.mark.parametrize("tokens", [SERIES, VARIATES])
@pytest.mark.promise("V3")
def test_coarser_times_are_passed_and_merged_back_into_the_finer(tokens: Tokens) -> None:
    check_scales(tokens)


@pytest.mark.promise("V4")
def test_coarser_planes_are_passed_and_merged_back_into_the_finer() -> None:
    check_scales(VIDEO)


def check_scales(tokens: Tokens) -> None:
    """Three scales of two passes against cells found by counting."""
    module = make("hierarchy", tokens, *[local(n) for n in range(1, 7)], per_scale=2)
    assert [windows(scale) for scale in module.scales] == [[1, 2], [3, 4], [5, 6]]
    x_BND = values(2, tokens.count, D)
    streams, held = [module.scales[0](x_BND)], []
    for cells, scale in zip(module.cells, list(module.scales)[1:], strict=True):
        held.append(members(cells.fine, 2))
        coarse = torch.stack([streams[-1][:, cell].mean(dim=1) for cell in held[-1]], dim=1)
        streams.append(scale(coarse))
    assert [s.shape[1] for s in streams] == sorted({s.shape[1] for s in streams}, reverse=True)
    y = streams.pop()
    while streams:
        fine = streams.pop()
        for number, cell in enumerate(held.pop()):
            fine[:, cell] = fine[:, cell] + y[:, number : number + 1]
        y = fine
    torch.testing.assert_close(module(x_BND), y)


@pytest.mark.promise("V3")
def test_each_scale_sees_further() -> None:
    tokens, x_BND = Tokens((32,), D), values(2, 32, D)
    reach = [len(felt(make("hierarchy", tokens, *[local(4)] * n), x_BND, 17)) for n in (2, 3, 4)]
    assert reach == [8, 16, 32]


@pytest.mark.parametrize("name", catalog.names("merges"))
@pytest.mark.promise("V5")
def test_how_scales_are_merged_is_a_matter_of_configuration(name: str) -> None:
    merge = CROSS if name == "cross_attend" else {"name": name}
    module, x_BND = make("hierarchy", VIDEO, local(4), local(4), merge=merge), values(2, 70, D)
    assert module(x_BND).shape == x_BND.shape


def test_a_merge_may_take_the_coarser_tokens_as_they_are() -> None:
    tokens, x_BND = Tokens((24,), D), values(2, 24, D)
    narrow = make("hierarchy", tokens, local(4), local(4), merge=CROSS, spread=False)
    wide = make("hierarchy", tokens, local(4), local(4), merge=CROSS)
    wide.load_state_dict(narrow.state_dict())
    given: list[int] = []
    for module in (narrow, wide):
        module.merges[0].register_forward_pre_hook(lambda _, streams: given.append(streams[1].shape[1]))
    # Asking each coarser token twice is asking it once.
    torch.testing.assert_close(narrow(x_BND), wide(x_BND))
    assert given == [12, 24]
