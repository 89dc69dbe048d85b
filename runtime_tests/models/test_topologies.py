"""Topologies and merges compute their formulas, keep their promises, and store shared weights once in every file."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepass import catalog, exporters
from edgepass.errors import InputError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import verdict
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import Weight
from edgepass.judging.verdict import Candidate, Standard
from edgepass.models import create, parts
from edgepass.models.config import Config, PassConfig
from edgepass.models.mixers import local_attention
from edgepass.models.parts import Tokens
from edgepass.models.passformer import Passformer
from edgepass.models.topologies import asymmetric, tied
from edgepass.quantize import audit, recipe
from edgepass.task import Samples, Task
from runtime_tests.matrix import TARGETS

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


# Merges


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.promise("V5")
def test_concat_is_one_linear_map_of_both_streams_side_by_side(count: int) -> None:
    module = merge("concat", Tokens((count,), D), Tokens((count,), 5))
    x_BND, z_BNE = values(3, count, D), values(3, count, 5)
    weight, bias = module.project.weight, module.project.bias
    torch.testing.assert_close(module(x_BND, z_BNE), x_BND @ weight[:, :D].T + z_BNE @ weight[:, D:].T + bias)
    same(module, x_BND, z_BNE)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.promise("V5")
def test_gate_blends_two_streams(count: int) -> None:
    module = merge("gate", Tokens((count,), D), Tokens((count,), D))
    x_BND, z_BND = values(3, count, D), values(3, count, D)
    g_BND = 1 / (1 + torch.exp(-(x_BND @ module.first.weight.T + z_BND @ module.second.weight.T + module.first.bias)))
    torch.testing.assert_close(module(x_BND, z_BND), g_BND * x_BND + (1 - g_BND) * z_BND)
    low, high = torch.minimum(x_BND, z_BND), torch.maximum(x_BND, z_BND)
    assert ((module(x_BND, z_BND) >= low - 1e-12) & (module(x_BND, z_BND) <= high + 1e-12)).all()
    same(module, x_BND, z_BND)


@given(count=st.integers(1, 23), other=st.integers(1, 23), width=st.integers(1, 17))
@settings(max_examples=20)
@pytest.mark.promise("V5")
def test_cross_attend_lets_tokens_ask_a_stream_of_any_shape(count: int, other: int, width: int) -> None:
    module = merge("cross_attend", Tokens((count,), D), Tokens((other,), width), heads=2)
    x_BND, z_BMC = values(2, count, D), values(2, other, width)
    n_BND, n_BMC = module.norm_into(x_BND), module.norm_other(z_BMC)
    heads = []
    for head in range(2):
        own = slice(4 * head, 4 * head + 4)
        q, k, v = (f(n)[..., own] for f, n in ((module.query, n_BND), (module.key, n_BMC), (module.value, n_BMC)))
        heads.append(torch.softmax(q @ k.mT / 2, dim=-1) @ v)
    torch.testing.assert_close(module(x_BND, z_BMC), x_BND + module.out(torch.cat(heads, dim=-1)))


def test_cross_attend_exports_with_a_batch_that_varies() -> None:
    same(merge("cross_attend", Tokens((7,), D), Tokens((3,), 5), heads=2), values(3, 7, D), values(3, 3, 5))


@pytest.mark.parametrize(
    ("name", "other", "chosen", "sentence"),
    [
        ("add", Tokens((6,), D), {}, "6 tokens of 8 channels cannot be merged into 7 of 8; cross_attend"),
        ("gate", Tokens((7,), 5), {}, "7 tokens of 5 channels cannot be merged into 7 of 8; cross_attend"),
        ("concat", Tokens((6,), D), {}, "6 tokens cannot stand beside 7; cross_attend"),
        ("cross_attend", Tokens((6,), 5), {"heads": 3}, "3 heads do not divide 8 channels"),
    ],
)
def test_merges_refuse_streams_that_they_cannot_join(
    name: str, other: Tokens, chosen: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=f"merge '{name}': {sentence}"):
        parts.make("merges", {"name": name, **chosen}, Tokens((7,), D), other)


@pytest.mark.parametrize("name", catalog.names("merges"))
@pytest.mark.promise("V5")
def test_how_branches_are_merged_is_a_matter_of_configuration(name: str) -> None:
    choice = {"name": "branches", "merge": {"name": name}}
    config = Config(dim=D, embedding={"name": "patch", "size": 4}, topology=choice, passes=(PASS, ONLY_FEED, PASS))
    y_BHC = create(config, lookback=23, horizon=5, channels=3)(torch.randn(2, 23, 3))
    assert y_BHC.shape == (2, 5, 3)
    assert torch.isfinite(y_BHC).all()


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


# Looped


def test_a_looped_topology_mixes_its_streams_after_each_loop() -> None:
    begin, middle, end = ONLY_FEED, PASS, ONLY_FEED
    module = topology("looped", Tokens((7,), D), begin, middle, end, loops=3, streams=4)
    x_BND = values(2, 7, D)
    streams = [module.begin(x_BND)] * 4
    for read, mix in zip(module.reads, module.mixes, strict=True):
        u_BND = sum(w * s for w, s in zip(read, streams, strict=True))
        f_BND = module.middle(u_BND) - u_BND
        streams = [sum(mix[j, i] * s for j, s in enumerate([*streams, f_BND])) for i in range(4)]
    last = sum(w * s for w, s in zip(module.last, streams, strict=True))
    torch.testing.assert_close(module(x_BND), module.end(last))
    same(module, x_BND)


@pytest.mark.parametrize("streams", [1, 2, 3])
@pytest.mark.parametrize("loops", [1, 5])
@pytest.mark.promise("V2")
def test_a_looped_topology_starts_as_a_plain_loop_with_weights_for_one(loops: int, streams: int) -> None:
    choice = {"name": "looped", "loops": loops, "streams": streams}
    module = parts.make("topologies", choice, Tokens((7,), D), (ONLY_FEED, PASS, ONLY_FEED)).double()
    x_BND = values(2, 7, D)
    y_BND = module.begin(x_BND)
    for _ in range(loops):
        y_BND = module.middle(y_BND)
    torch.testing.assert_close(module(x_BND), module.end(y_BND))
    passes = sum(p.numel() for part in (module.begin, module.middle, module.end) for p in part.parameters())
    connections = 0 if streams == 1 else loops * streams * (streams + 2) + streams
    assert sum(p.numel() for p in module.parameters()) == passes + connections


# Tied


@pytest.mark.promise("V2")
def test_a_tied_pass_is_a_stack_whose_linear_layers_differ_by_matrices_of_low_rank() -> None:
    full = PassConfig(mixer=LOCAL, gate="values", channel_mixer=FEED)
    module = topology("tied", Tokens((7,), D), full, ONLY_FEED, depth=3, rank=2)
    stack = topology("stack", Tokens((7,), D), full, ONLY_FEED, repeat=3)
    x_BND = values(2, 7, D)
    for index, layer in enumerate(stack.passes):
        depth, origin = divmod(index, 2)
        merged = {k: v for k, v in module.passes[origin].state_dict().items() if k in layer.state_dict()}
        assert merged.keys() == layer.state_dict().keys()
        for path, linear in module.passes[origin].named_modules():
            if isinstance(linear, tied.Relaxed):
                delta = linear.up[depth].weight @ linear.down[depth].weight
                assert torch.linalg.matrix_rank(delta) == 2
                merged[f"{path}.weight"] = linear.weight + delta
        layer.load_state_dict(merged)
    torch.testing.assert_close(module(x_BND), stack(x_BND))
    same(module, x_BND)


@pytest.mark.parametrize("rank", [0, 1, 99])
def test_a_tied_pass_starts_as_one_pass_repeated(rank: int) -> None:
    choice = {"name": "tied", "depth": 3, "rank": rank}
    module = parts.make("topologies", choice, Tokens((7,), D), (PASS,)).double()
    x_BND = values(2, 7, D)
    torch.testing.assert_close(module(x_BND), module.passes(module.passes(module.passes(x_BND))))
    tensors = list(module.state_dict().values())
    assert len({t.data_ptr() for t in tensors}) == len(tensors)  # each weight under one name, as a saved file wants


@pytest.mark.parametrize("kind", ["mixers", "channel_mixers"])
@pytest.mark.promise("S6")
def test_every_linear_layer_of_every_mixer_is_corrected_at_every_depth(kind: str) -> None:
    for name in catalog.names(kind):
        module = catalog.load(kind, name)
        tokens = Tokens((3, 8), 32, variates=3) if hasattr(module, "EXAMPLE") else Tokens((24,), 32)
        p = PassConfig(mixer={"name": name}) if kind == "mixers" else PassConfig(channel_mixer={"name": name})
        stack = parts.make("topologies", {"name": "tied", "depth": 2}, tokens, (p,))
        stirred(stack)(torch.randn(2, 24, 32)).square().sum().backward()
        still = [n for n, q in stack.named_parameters() if (".up." in n or ".down." in n) and q.grad is None]
        assert not still, name


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


# Files


def converts(test: Any) -> Any:
    """A test that converts: converters warn, of each other, and coremltools leaves its folder to the collector."""
    for category in ("DeprecationWarning", "FutureWarning", "UserWarning", "ResourceWarning"):
        test = pytest.mark.filterwarnings(f"ignore::{category}")(test)
    return pytest.mark.export(test)


def test_weights_of_equal_values_may_be_one_in_a_file() -> None:
    """As the corrections of a tied pass are before it is trained: all zero."""
    model = Passformer(
        Config(dim=D, embedding={"name": "patch", "size": 4}, topology={"name": "tied"}, passes=(ONLY_FEED,)),
        shape=(12, 1),
        outputs=3,
    )
    wanted = audit.requested(capture(model, (torch.randn(1, 12, 1),)).exported, recipe.read("fp32"))
    up = [w for w in wanted if ".widen.up." in w.name]
    assert len(up) == 2
    assert len({w.values for w in up}) == 1
    kept = {w.values: Weight(name="", shape=w.shape, dtype="float32") for w in wanted}
    assert len(kept) == len(wanted) - 2  # one for widen, one for narrow
    assert audit.audit("fp32", wanted, list(kept.values())).coverage == 1
    unequal = [replace(w, values=str(i)) for i, w in enumerate(wanted)]
    found = audit.audit("fp32", unequal, list(kept.values()))
    assert found.coverage is not None
    assert found.coverage < 1
    assert [w.dtype for w in found.weights].count("absent") == 2


WIDTH = 192
SHARED: dict[str, dict[str, Any]] = {"looped": {"begin": 0, "end": 0}, "tied": {"rank": 2}}
KNOBS = {"looped": "loops", "tied": "depth"}
SAMPLE = {("looped", "onnx", "fp32"), ("tied", "executorch", "fp32")}


def size(path: Path) -> int:
    return sum(f.stat().st_size for f in (path, *path.rglob("*")) if f.is_file())


class Twice(nn.Module):
    """One layer at two depths, the second time with inputs a hundred times smaller."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x * 20)) * 0.1)


@converts
@pytest.mark.parametrize(
    "target", [t if t == "executorch" else pytest.param(t, marks=pytest.mark.slow) for t in TARGETS]
)
@pytest.mark.parametrize("layer", [nn.Linear(16, 16), nn.Conv1d(4, 4, 3, padding=1)])
def test_a_layer_that_is_used_twice_keeps_its_bias_in_int8(layer: nn.Module, target: str, tmp_path: Path) -> None:
    assert isinstance(layer.bias, Tensor)
    nn.init.uniform_(layer.bias, -3, 3)
    arrays = torch.randn(8, 1, 4, 16).numpy()
    model, samples = Twice(layer).eval(), Samples(inputs=[arrays])
    task = Task(name="twice", source="test", model=model, args=samples.arguments()[0], evaluation=samples)
    job = Job(capture(model, task.args), recipe.read("static_wi8_ai8"), samples.arguments)
    module = exporters.target(target)
    path = tmp_path / f"twice{module.suffix}"
    exporters.export(target, job, path)
    standard = Standard(samples=samples, reference=task.reference(samples), score=None)
    candidate = Candidate(path=path, target=target, runtime=module.runtime, recipe=job.recipe)
    record, _ = verdict.judge(candidate, standard, Gates())
    assert record.parity is not None
    assert record.parity.sqnr_db > 30


@converts
@pytest.mark.parametrize(
    ("name", "target", "number_format"),
    [
        pytest.param(*row, marks=() if row in SAMPLE else pytest.mark.slow)
        for row in itertools.product(SHARED, TARGETS, ("fp32", "static_wi8_ai8"))
    ],
)
def test_a_file_holds_shared_weights_once(name: str, target: str, number_format: str, tmp_path: Path) -> None:
    """Three more loops add nodes to the file, but less than the weights of one pass; unshared ones would be three."""
    one = PassConfig(mixer={"name": "local_attention", "window": 8}, channel_mixer={"name": "feed_forward"})
    samples = [(torch.randn(1, 64, 2),) for _ in range(2)]
    sizes = []
    for times in (1, 4):
        choice = {"name": name, KNOBS[name]: times, **SHARED[name]}
        config = Config(dim=WIDTH, embedding={"name": "patch", "size": 8}, topology=choice, passes=(one,))
        model = Passformer(config, shape=(64, 2), outputs=8)
        job = Job(capture(model, samples[0]), recipe.read(number_format), lambda: samples)
        path = tmp_path / f"{times}{exporters.target(target).suffix}"
        exporters.export(target, job, path)
        sizes.append(size(path))
    values_of_a_pass = 4 * WIDTH * WIDTH + 2 * WIDTH * 2 * WIDTH
    assert sizes[1] - sizes[0] < values_of_a_pass * (4 if number_format == "fp32" else 1), sizes
