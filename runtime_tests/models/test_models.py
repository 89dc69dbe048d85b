"""Passformers build, run and export at awkward sizes, and do what their parts promise."""

import itertools
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepass import catalog
from edgepass.errors import InputError
from edgepass.models import config as configs
from edgepass.models import create, parts
from edgepass.models.config import Config, PassConfig
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass

PARAMETERS = {
    "single-s": (100_000, 200_000),
    "single-xs": (0, 60_000),
    "multi-s": (200_000, 215_000),
    "hierarchical-s": (180_000, 195_000),
    "looped-s": (160_000, 175_000),
    "variate-s": (140_000, 155_000),
    "gated-s": (170_000, 185_000),
}
LOCAL = {"name": "local_attention", "heads": 2, "window": 4}


def tiny(*passes: PassConfig, patch: int = 4, direct: bool = True) -> Config:
    return Config(dim=8, embedding={"name": "patch", "size": patch}, passes=passes, direct=direct)


def attention(tokens: int, window: int) -> Any:
    choice = {"name": "local_attention", "heads": 2, "window": window}
    return parts.make("mixers", choice, Tokens((tokens,), 8))


@pytest.mark.parametrize("preset", catalog.names("presets"))
def test_every_preset_has_the_size_it_promises_and_its_own_name(preset: str) -> None:
    low, high = PARAMETERS[preset]
    assert low <= create(preset, lookback=336, horizon=96).parameter_count() <= high
    assert configs.read(preset).name == preset


@pytest.mark.parametrize("preset", catalog.names("presets"))
@pytest.mark.parametrize(("lookback", "channels"), list(itertools.product((1, 63, 97), (1, 7))))
def test_every_preset_runs_and_exports_at_awkward_sizes(preset: str, lookback: int, channels: int) -> None:
    model = create(preset, lookback=lookback, horizon=13, channels=channels)
    x_BLC = torch.randn(3, lookback, channels)
    y_BHC = model(x_BLC)
    assert y_BHC.shape == (3, 13, channels)
    assert torch.isfinite(y_BHC).all()
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(model, (x_BLC[:2],), dynamic_shapes=(batch,), strict=False)
    torch.testing.assert_close(program.module()(x_BLC), y_BHC)
    ranks = [n.meta["val"].ndim for n in program.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)]
    assert max(ranks) <= 4
    static = torch.export.export(model, (x_BLC[:1],), strict=False)
    torch.testing.assert_close(static.module()(x_BLC[:1]), y_BHC[:1])


@pytest.mark.promise("R1")
@given(tokens=st.integers(1, 67), window=st.integers(1, 70), token=st.integers(0, 66))
@settings(max_examples=40)
def test_a_token_is_felt_in_its_own_window_and_nowhere_else(tokens: int, window: int, token: int) -> None:
    token %= tokens
    module = attention(tokens, window)
    x_BND = torch.randn(2, tokens, 8)
    z_BND = x_BND.clone()
    z_BND[:, token] += 1.0
    felt = (module(x_BND) != module(z_BND)).any(dim=(0, 2)).nonzero().flatten().tolist()
    start = token // window * window
    assert module(x_BND).shape == x_BND.shape
    assert set(felt) <= set(range(start, min(start + window, tokens)))
    assert token in felt


def test_a_window_as_wide_as_the_sequence_is_full_attention() -> None:
    torch.manual_seed(0)
    narrow = attention(5, window=5)
    x_BND = torch.randn(2, 5, 8)
    wide = attention(5, window=99)
    wide.load_state_dict(narrow.state_dict())
    torch.testing.assert_close(narrow(x_BND), wide(x_BND))
    # Against the definition, one head at a time.
    q, k, v = (f(x_BND).reshape(2, 5, 2, 4).transpose(1, 2) for f in (wide.query, wide.key, wide.value))
    mixed = torch.softmax(q @ k.transpose(-1, -2) / 2.0, dim=-1) @ v
    torch.testing.assert_close(wide(x_BND), wide.out(mixed.transpose(1, 2).reshape(2, 5, 8)))


PARTS = [
    PassConfig(mixer=LOCAL),
    PassConfig(gate="values"),
    PassConfig(channel_mixer={"name": "feed_forward", "ratio": 1.5}),
    PassConfig(mixer=LOCAL, gate="values", channel_mixer={"name": "feed_forward"}),
]


@pytest.mark.promise("S7")
@pytest.mark.promise("S8")
@pytest.mark.promise("S10")
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_each_part_stands_alone_and_a_zeroed_pass_is_the_identity_with_skip(
    part: PassConfig, norm: bool, skip: bool
) -> None:
    config = msgspec.structs.replace(part, norm=norm, skip=skip)
    layer = Pass(Tokens((11,), 8), config)
    x_BND = torch.randn(2, 11, 8)
    assert not torch.equal(layer(x_BND), x_BND)
    assert any("norm" in name for name, _ in layer.named_parameters()) == norm
    alone = part.gate and part.mixer is None and part.channel_mixer is None
    if norm or not alone:  # a gate alone, without norm, halves its input when it is zero
        torch.nn.utils.vector_to_parameters(torch.zeros(sum(p.numel() for p in layer.parameters())), layer.parameters())
        assert torch.equal(layer(x_BND), x_BND if skip else torch.zeros_like(x_BND))
    model = create(tiny(config), lookback=23, horizon=5, channels=3)
    assert model(torch.randn(2, 23, 3)).shape == (2, 5, 3)


@given(scale=st.floats(0.05, 1e6), shift=st.floats(-20, 20), direct=st.booleans())
@settings(max_examples=25)
def test_a_scaled_and_shifted_history_gives_the_scaled_and_shifted_forecast(
    scale: float, shift: float, direct: bool
) -> None:
    torch.manual_seed(1)
    model = create(tiny(PARTS[3], direct=direct), lookback=30, horizon=7, channels=2)
    model.set_scaler([3.0 * scale, -2.0 * scale], [4.0 * scale, 5.0 * scale])
    unit = create(tiny(PARTS[3], direct=direct), lookback=30, horizon=7, channels=2)
    unit.load_state_dict(model.state_dict())
    unit.set_scaler([3.0, -2.0], [4.0, 5.0])
    x_BLC = torch.randn(2, 30, 2) * 4
    y_BHC = unit(x_BLC)
    torch.testing.assert_close(unit(x_BLC + shift), y_BHC + shift, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(unit(x_BLC * 3), y_BHC * 3, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model(x_BLC * scale), y_BHC * scale, rtol=1e-3, atol=1e-3 * scale)


def test_channels_do_not_see_each_other() -> None:
    model = create("single-xs", lookback=48, horizon=6, channels=3)
    x_BLC = torch.randn(2, 48, 3)
    z_BLC = x_BLC.clone()
    z_BLC[..., 1] = torch.randn(2, 48)
    same = (model(x_BLC) == model(z_BLC)).all(dim=(0, 1))
    assert same.tolist() == [True, False, True]


def test_constant_and_huge_histories_stay_finite() -> None:
    model = create("single-xs", lookback=48, horizon=6)
    model.set_scaler([1e9], [1e8])
    for level in (0.0, 1e9, -1e12):
        y_BHC = model(torch.full((1, 48, 1), level))
        torch.testing.assert_close(y_BHC, torch.full_like(y_BHC, level), rtol=1e-5, atol=1e7)


def test_a_model_that_starts_from_a_linear_map_is_that_map() -> None:
    model = create("single-xs", lookback=48, horizon=6, channels=2)
    weight_HL = torch.randn(6, 48) / 48
    model.start_from(weight_HL)
    x_BLC = torch.randn(5, 48, 2)
    mean_B1C = x_BLC.mean(dim=1, keepdim=True)
    expected = torch.einsum("blc,hl->bhc", x_BLC - mean_B1C, weight_HL) + mean_B1C
    torch.testing.assert_close(model(x_BLC), expected, rtol=1e-4, atol=1e-4)


def test_what_quantisers_must_keep_float_is_there() -> None:
    model = create("single-xs", lookback=48, horizon=6)
    assert model.keep_float
    assert set(model.keep_float) <= {name for name, _ in model.named_children()}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"dim": 10, "passes": [{"mixer": {"name": "local_attention", "heads": 3}}]}, "3 heads do not divide 10 channels"),
    ({"dim": 8, "passes": [{"mixer": {"name": "local_attention", "window": 0}}]}, ">= 1.*window"),
    ({"dim": 8, "passes": [{"mixer": {"name": "local_attention", "heads": 0}}]}, ">= 1.*heads"),
    ({"dim": 8, "passes": [{"mixer": {"name": "local_atention"}}]}, "did you mean 'local_attention'"),
    ({"dim": 8, "passes": [{}]}, "pass 1: it does nothing"),
    ({"dim": 8, "passes": [{"channel_mixer": {"name": "feed_forward", "ratio": 0.01}}]}, "hidden width below 1"),
    ({"dim": 8, "passes": [{"channel_mixer": {"name": "feed_forward", "ratio": float("nan")}}]}, "ratio"),
    ({"dim": 0, "passes": []}, "model 'custom': dim is 0; it must be at least 1"),
    ({"dim": 8, "passes": [], "embedding": {"name": "patch", "size": 0}}, ">= 1.*size"),
    ({"dim": 8, "passes": [], "head": {"name": "forecast", "dropout": 1.0}}, "< 1.*dropout"),
]


@pytest.mark.promise("L2")
@pytest.mark.parametrize(("text", "says"), BAD)
def test_a_configuration_that_cannot_be_built_is_refused_in_a_sentence(text: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        create(msgspec.convert(text, Config), lookback=24, horizon=4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"dim = 8\npasses = []\nwidth = 3", "unknown field `width`"),
        (b"dim = '8'\npasses = []", "Expected `int`, got `str`"),
        (b"dim = ", "Invalid value"),
        (b"\xff\xfe", "cannot be used"),
    ],
)
def test_a_preset_file_that_says_something_else_is_refused_in_a_sentence(tmp_path: Any, text: bytes, says: str) -> None:
    (tmp_path / "mine.toml").write_bytes(text)
    with pytest.raises(InputError, match=says):
        create(str(tmp_path / "mine.toml"), lookback=24, horizon=4)


@pytest.mark.parametrize("what", ["lookback", "horizon", "channels"])
def test_sizes_below_one_are_refused(what: str) -> None:
    with pytest.raises(InputError, match=f"{what} is 0"):
        create("single-xs", **{"lookback": 24, "horizon": 4, "channels": 1, what: 0})


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'single-xs'"):
        create("single-x", lookback=24, horizon=4)
