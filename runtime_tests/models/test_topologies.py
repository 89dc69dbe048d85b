"""Topologies compute their formulas and keep their promises."""

import itertools
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from edgepass.errors import InputError
from edgepass.models import parts
from edgepass.models.config import Config, PassConfig
from edgepass.models.mixers import local_attention
from edgepass.models.parts import Tokens
from edgepass.models.passformer import Passformer
from edgepass.models.topologies import asymmetric
from runtime_tests.models.topologies import COUNTS, FEED, LOCAL, ONLY_FEED, PASS, D, same, stirred, topology, values

# Wide


@pytest.mark.parametrize("count", COUNTS)
def test_wide_attention_is_the_sum_of_the_attentions_that_it_holds(count: int) -> None:
    """Heads meet in the map out only, so attention with all heads is the sum of what any two halves of them give."""
    wide = topology("wide", Tokens((count,), D), PassConfig(mixer=LOCAL, norm=False, skip=False), depth=2).layer.mixer
    x_BND = values(2, count, D)
    halves = []
    for rows in (slice(0, D), slice(D, 2 * D)):
        half = local_attention.Mixer(Tokens((count,), D), local_attention.Settings(heads=2, window=4)).double()
        for name in ("query", "key", "value"):
            getattr(half, name).weight.data = getattr(wide, name).weight.data[rows]
            getattr(half, name).bias.data = getattr(wide, name).bias.data[rows]
        half.out.weight.data, half.out.bias.data = wide.out.weight.data[:, rows], wide.out.bias.data / 2
        halves.append(half(x_BND))
    torch.testing.assert_close(wide(x_BND), halves[0] + halves[1])
    same(wide, x_BND)


def test_a_wide_pass_has_as_many_heads_of_one_width_as_the_stack_that_it_stands_for() -> None:
    deep = topology("stack", Tokens((7,), D), PASS, repeat=3)
    wide = topology("wide", Tokens((7,), D), PASS, depth=3)
    assert wide.layer.mixer.heads == sum(layer.mixer.heads for layer in deep.passes) == 6
    attention = [sum(p.numel() for p in layer.mixer.query.parameters()) for layer in (*deep.passes, wide.layer)]
    assert sum(attention[:3]) == attention[3]
    assert wide.layer.channel_mixer.widen.out_features == deep.passes[0].channel_mixer.widen.out_features
    given_width = PassConfig(mixer=LOCAL | {"heads": 3, "head_dim": 5})
    assert topology("wide", Tokens((7,), D), given_width, depth=2).layer.mixer.query.out_features == 2 * 3 * 5


# Parallel


def scaled(p: PassConfig) -> PassConfig:
    return msgspec.structs.replace(p, scale=0.5)


MIXED = (
    scaled(PASS),
    PassConfig(mixer=LOCAL | {"heads": 3, "head_dim": 4}, channel_mixer={"name": "feed_forward", "ratio": 0.4}),
    PassConfig(mixer=LOCAL | {"window": 3}, gate="values", channel_mixer=FEED),
    PassConfig(mixer=LOCAL, gate="pass", channel_mixer=FEED),
    PassConfig(gate="values"),
)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_parallel_is_the_input_and_the_sum_of_all_parts_of_one_norm(norm: bool, skip: bool) -> None:
    passes = [msgspec.structs.replace(p, norm=norm, skip=skip) for p in MIXED]
    module = topology("parallel", Tokens((7,), D), *passes)
    x_BND = values(2, 7, D)
    n_BND = nn.functional.layer_norm(x_BND, (D,), module.norm.weight, module.norm.bias) if norm else x_BND
    total = sum(branch(n_BND) for branch in module.branches)
    assert len(module.branches) == 9
    assert not any(isinstance(m, nn.LayerNorm) for m in module.branches.modules())
    torch.testing.assert_close(module(x_BND), x_BND + total if skip else total)
    same(module, x_BND)


def linears(module: nn.Module) -> int:
    return sum(isinstance(m, nn.Linear) for m in module.modules())


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("passes", "before", "after"), [((PASS, PASS, scaled(PASS)), 18, 6), (MIXED, 28, 20)])
def test_collapsed_branches_give_the_same_from_fewer_linear_layers(
    count: int, passes: tuple[PassConfig, ...], before: int, after: int
) -> None:
    module = topology("parallel", Tokens((count,), D), *passes)
    wide = module.collapsed()
    x_BND = values(2, count, D)
    torch.testing.assert_close(wide(x_BND), module(x_BND), rtol=1e-12, atol=1e-12)
    assert (linears(module), linears(wide)) == (before, after)
    assert not {p.data_ptr() for p in wide.parameters()} & {p.data_ptr() for p in module.parameters()}
    # What it became can be configured, so it can be saved and loaded as any other model.
    again = topology("parallel", Tokens((count,), D), *wide.passes)
    again.load_state_dict(wide.state_dict())
    torch.testing.assert_close(again(x_BND), wide(x_BND))
    same(wide, x_BND)


def test_only_attention_of_one_window_and_head_width_is_stacked() -> None:
    apart = [LOCAL, LOCAL | {"window": 5}, LOCAL | {"heads": 4}, LOCAL | {"heads": 4, "head_dim": 4}]
    module = topology("parallel", Tokens((7,), D), *(PassConfig(mixer=m) for m in apart))
    assert [p.mixer for p in module.collapsed().passes] == [LOCAL | {"heads": 6, "head_dim": 4}, *apart[1:3]]


# Temporal, then variate


@pytest.mark.promise("S6")
def test_a_temporal_pass_sees_time_and_a_variate_pass_sees_variates() -> None:
    variates, moments = 3, 5
    full = PassConfig(mixer=LOCAL | {"window": 99})
    module = topology("temporal_variate", Tokens((variates, moments), D, variates=variates), full, full)
    x_BND = values(2, variates * moments, D)
    gates, (temporal, variate) = module.merges, module.passes

    x_BCKD = x_BND.reshape(2, variates, moments, D)
    a_BCKD = torch.stack([temporal(x_BCKD[:, c]) for c in range(variates)], dim=1)
    z_BCKD = gates[0](x_BCKD, a_BCKD)
    v_BCKD = torch.stack([variate(z_BCKD[:, :, k]) for k in range(moments)], dim=2)
    torch.testing.assert_close(module(x_BND), gates[1](z_BCKD, v_BCKD).reshape(x_BND.shape))
    same(module, x_BND)


@pytest.mark.parametrize(("variates", "moments"), [(1, 1), (1, 7), (7, 1), (3, 23)])
def test_temporal_variate_keeps_the_grid_and_mixes_all_of_it(variates: int, moments: int) -> None:
    full = PassConfig(mixer=LOCAL | {"window": 99}, channel_mixer=FEED)
    tokens = Tokens((variates, moments), D, variates=variates)
    module = topology("temporal_variate", tokens, *(full,) * 4, merge={"name": "add"})
    x_BND = values(2, tokens.count, D)
    z_BND = x_BND.clone()
    z_BND[:, 0] = values(2, D)
    assert module.tokens == tokens
    assert ((module(x_BND) - module(z_BND)).abs() > 1e-9).any(dim=2).all()


# Asymmetric

GRIDS = [
    (Tokens((24,), D), (12,), "V3"),
    (Tokens((23,), D, folded=3), (12,), "V3"),
    (Tokens((1,), D), (1,), "V3"),
    (Tokens((3, 7), D, variates=3), (3, 4), "V3"),
    (Tokens((5, 7), D), (3, 4), "V4"),
    (Tokens((2, 5, 4), D), (2, 3, 2), "V4"),
]


@pytest.mark.parametrize(
    ("tokens", "grid"), [pytest.param(t, g, marks=pytest.mark.promise(mark)) for t, g, mark in GRIDS]
)
def test_asymmetric_stages_halve_the_axes_that_may_be_merged(tokens: Tokens, grid: tuple[int, ...]) -> None:
    module = topology("asymmetric", tokens, PASS, PASS, PASS, widen=1.5)
    assert module.tokens == replace_tokens(tokens, grid=grid, dim=12)
    assert [len(stage) for stage in module.stages] == [1, 2]
    x_BND = values(3, tokens.count, D)
    y_BME = module(x_BND)
    assert y_BME.shape == (3, module.tokens.count, 12)
    same(module, x_BND)


def replace_tokens(tokens: Tokens, **changes: Any) -> Tokens:
    return msgspec.structs.replace(tokens, **changes)


@pytest.mark.parametrize(("tokens", "grid"), [pytest.param(t, g) for t, g, _ in GRIDS])
def test_a_merge_is_a_convolution_with_a_stride_of_2_over_three_neighbours(
    tokens: Tokens, grid: tuple[int, ...]
) -> None:
    module = stirred(asymmetric.Halve(tokens, 5).double())
    x_BND = values(2, tokens.count, D)
    along = 2 if module.plane[0] > 1 else 1
    padded = nn.functional.pad(x_BND.reshape(2, *tokens.grid, D), (0, 0) + (1, 1) * along)
    kept = len(tokens.grid) - along
    weight_EDX = module.conv.weight if along == 2 else module.conv.weight[:, :, 0]
    y = torch.zeros(2, *grid, 5, dtype=torch.float64) + module.conv.bias
    for position in itertools.product(*(range(n) for n in grid)):
        for tap in itertools.product(range(3), repeat=along):
            at = position[:kept] + tuple(2 * p + t for p, t in zip(position[kept:], tap, strict=True))
            y[(slice(None), *position)] += padded[(slice(None), *at)] @ weight_EDX[(slice(None), slice(None), *tap)].T
    torch.testing.assert_close(module(x_BND), y.reshape(2, -1, 5))


@pytest.mark.promise("V3")
def test_depths_deal_the_passes_to_stages_of_ever_fewer_tokens() -> None:
    module = topology("asymmetric", Tokens((23,), D), *(ONLY_FEED, ONLY_FEED, PASS, PASS), depths=(2, 1, 1))
    assert [len(stage) for stage in module.stages] == [2, 1, 1]
    assert [m.tokens.grid for m in module.merges] == [(12,), (6,)]
    x_BND = values(2, 23, D)
    z_BND = x_BND.clone()
    z_BND[:, 22] = values(2, D)
    felt = (module(x_BND) != module(z_BND)).any(dim=(0, 2)).nonzero().flatten().tolist()
    # The last of 23 tokens is the last of 12, in a window of 8 to 11 there; of those come the last two of 6.
    assert felt == [4, 5]


# All of them


@pytest.mark.parametrize("name", ["stack", "branches", "parallel", "temporal_variate", "asymmetric", "looped", "tied"])
@pytest.mark.parametrize("mixer", [LOCAL, None])
@pytest.mark.promise("S6")
def test_any_pass_fits_any_topology_of_several(name: str, mixer: dict[str, Any] | None) -> None:
    first = PassConfig(mixer=mixer, gate="values", channel_mixer=FEED)
    tokens = Tokens((3, 8), D, variates=3)
    for order in itertools.permutations((first, ONLY_FEED, PASS, PassConfig(gate="values")), 4):
        module = parts.make("topologies", {"name": name}, tokens, order)
        y_BMD = module(torch.randn(2, 24, D))
        assert y_BMD.shape == (2, module.tokens.count, D)


@pytest.mark.parametrize(
    ("name", "knob", "own"), [("stack", "repeat", 4), ("looped", "loops", 1), ("tied", "depth", 1)]
)
@pytest.mark.promise("V2")
def test_the_number_of_passes_is_a_knob(name: str, knob: str, own: int) -> None:
    passes = (ONLY_FEED, PASS, ONLY_FEED) if name == "looped" else (PASS,)
    module = parts.make("topologies", {"name": name, knob: 4}, Tokens((7,), D), passes)
    mixers = [m for m in module.modules() if isinstance(m, local_attention.Mixer)]
    calls: list[nn.Module] = []
    for mixer in mixers:
        mixer.register_forward_hook(lambda mixer, args, y: calls.append(mixer))
    module(torch.randn(2, 7, D))
    assert (len(calls), len(mixers)) == (4, own)


@pytest.mark.parametrize("name", ["stack", "looped", "tied", "parallel"])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.promise("S9")
def test_passes_stand_in_any_arrangement_with_or_without_skips(name: str, skip: bool) -> None:
    passes = [msgspec.structs.replace(PASS, skip=skip)] * 3
    module = parts.make("topologies", {"name": name}, Tokens((7,), D), passes)
    with torch.no_grad():
        for path, parameter in module.named_parameters():
            if not path.startswith(("reads", "mixes", "last")):
                parameter.zero_()
    x_BND = torch.randn(2, 7, D)
    torch.testing.assert_close(module(x_BND), x_BND if skip else torch.zeros_like(x_BND))


@pytest.mark.promise("S3")
def test_a_topology_cut_after_any_pass_gives_a_representation_that_a_head_takes() -> None:
    config = Config(dim=D, embedding={"name": "patch", "size": 4}, passes=(PASS, ONLY_FEED, PASS))
    model = Passformer(config, shape=(23, 3), outputs=5)
    x_BLC = torch.randn(2, 23, 3)
    x_SND = model.encoding(model.embedding(x_BLC))
    for layer in model.topology.passes:
        x_SND = layer(x_SND)
        assert model.head(model.norm(x_SND)).shape == (2, 5, 3)
    torch.testing.assert_close(x_SND, model.represent(x_BLC))


@pytest.mark.parametrize(
    ("name", "tokens", "passes", "chosen", "sentence"),
    [
        ("wide", Tokens((7,), D), (PASS, PASS), {}, "it widens one pass; there are 2"),
        ("wide", Tokens((7,), D), (ONLY_FEED,), {}, "it widens the attention of its pass, which has no mixer"),
        ("wide", Tokens((7,), 7), (PASS,), {}, "2 heads do not divide 7 channels; give a number that does, such as 1"),
        ("parallel", Tokens((7,), D), (PASS, PassConfig(mixer=LOCAL, skip=False)), {}, "share one norm and one skip"),
        ("parallel", Tokens((7,), D), (), {}, "it needs at least 1 pass"),
        ("temporal_variate", Tokens((7,), D), (PASS, PASS), {}, "grid of variates by time.*patch_grid gives one"),
        ("temporal_variate", Tokens((3, 7), D), (PASS, PASS), {}, "grid of variates by time.*patch_grid gives one"),
        ("temporal_variate", Tokens((3, 7), D, variates=3), (PASS,), {}, "passes in pairs.*there are 1"),
        ("asymmetric", Tokens((7,), D), (PASS,), {}, r"1 passes cannot be dealt to stages of 0 \+ 1"),
        ("asymmetric", Tokens((7,), D), (PASS, PASS), {"depths": (1, 2)}, r"2 passes cannot be dealt to .* 1 \+ 2"),
        (
            "asymmetric",
            Tokens((3,), D, variates=3),
            (PASS, PASS),
            {},
            "each of the 3 tokens is a whole variate.*patch or patch_grid",
        ),
        ("looped", Tokens((7,), D), (PASS, PASS), {}, "begin = 1 and end = 1 leave none of 2 passes to loop"),
    ],
)
def test_what_cannot_be_arranged_is_refused_in_a_sentence(
    name: str, tokens: Tokens, passes: tuple[PassConfig, ...], chosen: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=f"topology '{name}': .*{sentence}"):
        parts.make("topologies", {"name": name, **chosen}, tokens, passes)


def test_a_mixer_without_heads_of_its_own_width_is_not_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    class Headless(parts.Settings, frozen=True):
        """There is nothing to set."""

    monkeypatch.setattr(local_attention, "Settings", Headless)
    with pytest.raises(InputError, match="mixer 'local_attention' has no heads and head_dim of its own to widen"):
        topology("wide", Tokens((7,), D), PassConfig(mixer={"name": "local_attention"}))
