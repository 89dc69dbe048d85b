"""Hierarchies compute their formulas at any length, keep variates apart, and route within fixed shapes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgepass import catalog
from edgepass.errors import InputError
from edgepass.models import create, parts
from edgepass.models.cells import Cells
from edgepass.models.config import Config, PassConfig
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass
from edgepass.models.passformer import Passformer

D = 8
FEED = PassConfig(channel_mixer={"name": "feed_forward"})
NAMES = (
    "distilling",
    "hierarchy",
    "latents",
    "mixed_spans",
    "nested",
    "sliced_recursion",
    "token_merging",
    "two_resolutions",
)
SERIES, VARIATES, VIDEO = Tokens((23,), D), Tokens((3, 23), D, variates=3), Tokens((2, 5, 7), D)
INVERTED = Tokens((7,), D, variates=7)
CROSS = {"name": "cross_attend", "heads": 2}
HEADS = {"latents": {"read": CROSS, "write": CROSS}, "two_resolutions": {"cross": CROSS}}
"""Settings that fit 8 channels."""


def local(window: int) -> PassConfig:
    """A pass of attention in blocks."""
    return PassConfig(mixer={"name": "local_attention", "heads": 2, "window": window}, channel_mixer=FEED.channel_mixer)


def make(name: str, tokens: Tokens, *passes: PassConfig, **chosen: Any) -> Any:
    """A topology in float64; it does nothing where its passes are Passes of scale 0."""
    return parts.make("topologies", {"name": name, **HEADS.get(name, {}), **chosen}, tokens, passes).double()


def values(*shape: int) -> Tensor:
    """Standard normal float64."""
    return torch.randn(*shape, dtype=torch.float64)


def felt(module: nn.Module, x_BND: Tensor, token: int) -> list[int]:
    """The tokens that change with one."""
    z_BND = x_BND.clone()
    z_BND[:, token] += values(D)
    changed_N = (module(x_BND) != module(z_BND)).any(dim=2).any(dim=0)
    return [token for token, changed in enumerate(changed_N) if changed]


def windows(passes: Any) -> list[int]:
    """Of the mixer of each pass."""
    return [p.mixer.window for p in passes]


def zero(module: nn.Module) -> None:
    """All its parameters, so that it adds nothing."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()


def members(tokens: Tokens, size: int) -> list[list[int]]:
    """The tokens of each cell, by counting: cells end where their axis ends, and the first may be short."""
    apart = tokens.count // tokens.grid[-1] if tokens.variates > 1 or len(tokens.grid) == 1 else tokens.grid[0]
    rows = tokens.count // apart // tokens.grid[-1]

    def runs(length: int) -> list[range]:
        width = min(size, length)
        stops = range(length, 0, -width)
        return [range(max(0, stop - width), stop) for stop in reversed(stops)]

    number = torch.arange(tokens.count).reshape(apart, rows, -1)
    return [
        [int(number[outer, r, c]) for r in run for c in across]
        for outer in range(apart)
        for run in runs(rows)
        for across in runs(tokens.grid[-1])
    ]


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


# Mixed spans


@pytest.mark.promise("R1")
def test_a_few_passes_span_everything_and_the_others_a_window() -> None:
    def spans(**chosen: Any) -> list[int]:
        return windows(make("mixed_spans", SERIES, local(4), local(5), **chosen).passes)

    assert spans(depth=5, full_every=3) == [4, 5, 23, 5, 4]
    assert spans(depth=3, full=(1, 2)) == [23, 23, 4]
    assert spans(depth=4, full_every=2, window=6) == [6, 23, 6, 23]
    x_BND = values(2, 23, D)
    assert felt(make("mixed_spans", SERIES, local(4), depth=3, full_every=4), x_BND, 9) == [8, 9, 10, 11]
    assert felt(make("mixed_spans", SERIES, local(4), depth=3, full_every=2), x_BND, 9) == list(range(23))


@pytest.mark.parametrize("mixer", [None, *catalog.names("mixers")])
def test_mixed_spans_are_of_mixers_with_a_window(mixer: str | None) -> None:
    has = mixer is not None and "window" in catalog.load("mixers", mixer).Settings.__struct_fields__
    if not has:
        p = PassConfig(mixer=None if mixer is None else {"name": mixer}, channel_mixer=FEED.channel_mixer)
        sentence = (
            f"its passes need a mixer with a window, and {mixer or 'none'} is not one; there is: .*local_attention"
        )
        with pytest.raises(InputError, match=sentence):
            make("mixed_spans", SERIES, p)


# Sliced recursion


def by_lists(one: nn.Module, x_BND: Tensor, groups: list[list[int]]) -> Tensor:
    """The pass on each group, picked token by token."""
    y_BND = torch.empty_like(x_BND)
    for group in groups:
        y_BND[:, group] = one(x_BND[:, group])
    return y_BND


@pytest.mark.parametrize("recursions", [1, 2, 3])
def test_recursion_applies_one_pass_to_runs_of_neighbours_and_to_tokens_far_apart(recursions: int) -> None:
    module = make("sliced_recursion", SERIES, local(3), local(5), recursions=recursions, group=7)
    x_BND = values(2, 23, D)
    # 23 tokens in groups of at most 7 are 4 groups of 6, so one token of zeros comes first.
    y_BND = torch.cat([torch.zeros(2, 1, D, dtype=torch.float64), x_BND], dim=1)
    near = [list(range(start, start + 6)) for start in range(0, 24, 6)]
    far = [list(range(start, 24, 4)) for start in range(4)]
    for one, between in zip(module.passes, module.between, strict=True):
        y_BND = by_lists(one, y_BND, near)
        for time, p in enumerate(between, start=1):
            y_BND = y_BND + p.narrow(functional.gelu(p.widen(p.norm(y_BND))))
            y_BND = by_lists(one, y_BND, far if time % 2 else near)
    torch.testing.assert_close(module(x_BND), y_BND[:, 1:])
    assert len(module.passes) == 2


@pytest.mark.promise("R2")
@pytest.mark.promise("R4")
def test_a_token_is_felt_in_its_group_and_after_a_second_time_everywhere() -> None:
    x_BND = values(2, 24, D)
    once = make("sliced_recursion", Tokens((24,), D), local(99), recursions=1, group=6)
    assert felt(once, x_BND, 8) == [6, 7, 8, 9, 10, 11]
    twice = make("sliced_recursion", Tokens((24,), D), local(99), recursions=2, group=6)
    assert felt(twice, x_BND, 8) == list(range(24))
    assert torch.equal(twice(x_BND), twice(x_BND))


def test_more_recursions_share_the_weights_of_the_pass() -> None:
    def count(recursions: int) -> int:
        module = make("sliced_recursion", SERIES, local(4), recursions=recursions)
        return sum(p.numel() for name, p in module.named_parameters() if name.startswith("passes"))

    assert count(1) == count(4)


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


# Latents


def latents(tokens: Tokens, **chosen: Any) -> Any:
    return make("latents", tokens, local(99), local(99), group=6, **chosen)


def test_latents_read_their_group_meet_and_write_it_back() -> None:
    module = latents(Tokens((12,), D), latents=3)
    x_BND = values(2, 12, D)
    groups = [module.local[0](x) for x in x_BND.split(6, dim=1)]
    starts = [x.mean(dim=1, keepdim=True) + module.latents_LD for x in x_BND.split(6, dim=1)]
    z_BLD = torch.cat([module.read[0](z, x) for z, x in zip(starts, groups, strict=True)], dim=1)
    z_BLD = module.everywhere[0](z_BLD)
    y = [module.write[0](x, z) for x, z in zip(groups, z_BLD.split(3, dim=1), strict=True)]
    torch.testing.assert_close(module(x_BND), torch.cat(y, dim=1))


@pytest.mark.promise("S5")
def test_groups_meet_through_their_latents_alone() -> None:
    module, x_BND = latents(Tokens((23,), D)), values(2, 23, D)
    assert felt(module, x_BND, 9) == list(range(23))
    zero(module.everywhere)
    assert felt(module, x_BND, 9) == [5, 6, 7, 8, 9, 10]
    zero(module.write)
    zero(module.local)
    assert torch.equal(module(x_BND), x_BND)


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


# Token merging


@pytest.mark.parametrize("count", [1, 7, 23])
@pytest.mark.promise("R4")
def test_merged_tokens_are_means_by_an_assignment_that_each_takes_its_changes_back_by(count: int) -> None:
    module = make("token_merging", Tokens((count,), D), local(3), merged=5)
    x_BND, kept = values(2, count, D), min(5, count)
    scores = x_BND @ module.assign.weight.T + module.assign.bias
    g_BNP = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
    torch.testing.assert_close(g_BNP.sum(dim=-1), torch.ones(2, count, dtype=torch.float64))
    z_BPD = torch.einsum("bnp,bnd->bpd", g_BNP, x_BND) * kept / count
    changed = module.passes(z_BPD) - z_BPD
    torch.testing.assert_close(module(x_BND), x_BND + torch.einsum("bnp,bpd->bnd", g_BNP, changed))


@pytest.mark.promise("R4")
@pytest.mark.promise("R5")
def test_what_goes_where_depends_on_the_input_and_how_much_does_not() -> None:
    module = make("token_merging", VARIATES, local(3), merged=5, unmerge=False)
    assert module.tokens == Tokens((3, 5), D, variates=3)
    x_BND = values(4, 69, D)
    assert module(x_BND).shape == (4, 15, D)
    route = module.assignment(x_BND.reshape(12, 23, D))
    assert route.shape == (12, 23, 5)
    assert (route[0] - route[1]).abs().max() > 0.05


@pytest.mark.promise("S10")
def test_passes_that_change_nothing_leave_every_token_as_it_was() -> None:
    module, x_BND = make("token_merging", SERIES, local(3)), values(2, 23, D)
    zero(module.passes)
    assert torch.equal(module(x_BND), x_BND)


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


# Gates of whole passes


@pytest.mark.promise("R5")
def test_how_much_a_pass_adds_depends_on_its_input() -> None:
    config = PassConfig(mixer=local(4).mixer, gate="pass", channel_mixer=FEED.channel_mixer)
    one = Pass(SERIES, config).double()
    x_BND = values(64, 23, D) + 3 * values(64, 1, D)
    assert one.whole_gate is not None
    assert one.mixer is not None
    zero(one.channel_mixer or one)
    added_BND = one.mixer(functional.layer_norm(x_BND, (D,)))
    gate_BND = (one(x_BND) - x_BND) / added_BND
    gate_B11 = gate_BND[:, :1, :1]
    torch.testing.assert_close(gate_BND, gate_B11.expand_as(gate_BND), rtol=1e-6, atol=1e-6)
    assert gate_B11.max() - gate_B11.min() > 0.3
    assert gate_B11.min() > 0
    assert gate_B11.max() < 1
    with torch.no_grad():
        one.whole_gate.weight.zero_()
        one.whole_gate.bias.fill_(-1000.0)
    assert torch.equal(one(x_BND), x_BND)


# Accuracy on longer sequences


class Recall(nn.Module):
    """Reads the class of the first token off the last."""

    def __init__(self, tokens: int, topology: dict[str, Any], passes: tuple[PassConfig, ...]) -> None:
        super().__init__()
        over = Tokens((tokens,), 32)
        self.embed = nn.Linear(5, 32)
        self.encoding = parts.make("encodings", {"name": "learned"}, over)
        self.topology = parts.make("topologies", topology, over, passes)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.topology(self.encoding(self.embed(x)))[:, -1]))
        return y


FORMS: dict[str, Callable[[int], tuple[dict[str, Any], tuple[PassConfig, ...]]]] = {
    "local": lambda n: ({"name": "stack"}, (local(8),) * 3),
    "full": lambda n: ({"name": "stack"}, (local(n),) * 3),
    "token_merging": lambda n: ({"name": "token_merging"}, (local(8),) * 3),
    "latents": lambda n: ({"name": "latents"}, (local(8), local(n))),
    "hierarchy": lambda n: ({"name": "hierarchy", "factor": 4}, (local(8),) * 3),
}
"""Three passes at most; `n` tokens. Windows are of 8 but for what is full, and for the 2 latents of every 8 tokens."""


def recalled(form: str, tokens: int, steps: int, rate: float) -> float:
    """Share of 1,000 new sequences whose first token is told from the last, after `steps` of 32."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)

    def sequences(count: int) -> tuple[Tensor, Tensor]:
        y_B = torch.randint(0, 4, (count,), generator=generator)
        x = torch.randn(count, tokens, 5, generator=generator) * 0.5
        x[:, 0, :4] += 2.0 * functional.one_hot(y_B, 4)
        return x, y_B

    model = Recall(tokens, *FORMS[form](tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(steps):
        x, y_B = sequences(32)
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y_B).backward()
        optimizer.step()
    with torch.no_grad():
        x, y_B = sequences(1000)
        return float((model(x).argmax(dim=1) == y_B).double().mean())


@pytest.mark.promise("R6")
def test_merged_tokens_recall_what_is_far_and_a_window_does_not() -> None:
    assert recalled("token_merging", 48, steps=150, rate=3e-3) > 0.9
    assert recalled("local", 48, steps=20, rate=3e-3) < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [24, 48, 96])
@pytest.mark.promise("R6")
def test_what_is_routed_keeps_its_accuracy_on_longer_sequences(tokens: int) -> None:
    accuracy = {form: recalled(form, tokens, steps=500, rate=1e-3) for form in FORMS}
    assert accuracy["local"] < 0.4  # of 4 classes, 0.25 is chance
    for form in ("token_merging", "latents", "hierarchy"):
        assert accuracy[form] > 0.9, accuracy
        assert accuracy[form] > accuracy["full"] - 0.08, accuracy
