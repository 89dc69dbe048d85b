"""Channel mixers compute the formulas that they cite, and keep their promises of size, range and exactness."""

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgepass.errors import InputError
from edgepass.models import create, parts
from edgepass.models.channel_mixers import adapter, polynomial, sparse_relu
from edgepass.models.config import Config, PassConfig
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass

ALL = [
    {"name": "feed_forward"},
    *({"name": "gated", "activation": a} for a in ("sigmoid", "gelu", "silu", "relu")),
    {"name": "adapter"},
    {"name": "polynomial", "form": "relu"},
    {"name": "polynomial", "form": "norm"},
    {"name": "sparse_relu"},
]


def made(choice: dict[str, Any], dim: int = 8, tokens: int = 7) -> nn.Module:
    module: nn.Module = parts.make("channel_mixers", choice, Tokens((tokens,), dim))
    for parameter in module.parameters():  # none of them at a start that would hide a term
        nn.init.normal_(parameter, std=0.5)
    return module.double()


@pytest.mark.parametrize("choice", ALL)
def test_each_token_is_mixed_for_itself_whatever_the_batch(choice: dict[str, Any]) -> None:
    module = made(choice)
    x_BND = torch.randn(3, 7, 8, dtype=torch.float64)
    y_BND = module(x_BND)
    torch.testing.assert_close(module(x_BND[1:2, 4:5]), y_BND[1:2, 4:5])
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(module, (x_BND,), dynamic_shapes=(batch,), strict=False)
    torch.testing.assert_close(program.module()(x_BND[:1]), y_BND[:1])


@pytest.mark.parametrize(
    ("activation", "function"),
    [("sigmoid", torch.sigmoid), ("gelu", functional.gelu), ("silu", functional.silu), ("relu", torch.relu)],
)
def test_gated_is_the_gated_linear_unit_of_its_activation(activation: str, function: Any) -> None:
    module: Any = made({"name": "gated", "activation": activation})
    x_BND = torch.randn(2, 7, 8, dtype=torch.float64)
    w = dict(module.named_parameters())
    both = function(x_BND @ w["gate.weight"].T + w["gate.bias"]) * (x_BND @ w["value.weight"].T + w["value.bias"])
    torch.testing.assert_close(module(x_BND), both @ w["narrow.weight"].T + w["narrow.bias"])
    if activation == "sigmoid":
        halves = torch.cat([module.value(x_BND), module.gate(x_BND)], dim=-1)
        torch.testing.assert_close(module(x_BND), module.narrow(functional.glu(halves)))


def poly_relu(h: Tensor, a: list[Tensor]) -> Tensor:
    return sum((a[i] * torch.relu(h) ** (i + 1) for i in range(3)), torch.zeros(()))


def poly_norm(h: Tensor, a: list[Tensor]) -> Tensor:
    """As published, but with no epsilon."""
    powers = [h ** (i + 1) for i in range(3)]
    return sum((a[i] * p / p.square().mean(-1, keepdim=True).sqrt() for i, p in enumerate(powers)), torch.zeros(()))


@pytest.mark.parametrize(("form", "reference"), [("relu", poly_relu), ("norm", poly_norm)])
@pytest.mark.parametrize("dim", [8, 200])
def test_polynomial_is_the_published_activation_between_two_linear_maps(
    form: str, reference: Any, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polynomial, "EPSILON", 0.0)
    monkeypatch.setattr(polynomial, "SMALLEST", 0.0)
    module: Any = made({"name": "polynomial", "form": form}, dim)
    x_BND = torch.randn(2, 7, dim, dtype=torch.float64) / math.sqrt(dim)
    a = [module.first, module.second, module.third]
    expected = module.narrow(reference(module.widen(x_BND), a))
    torch.testing.assert_close(module(x_BND), expected, rtol=1e-10, atol=1e-10)
    fresh: Any = parts.make("channel_mixers", {"name": "polynomial", "form": form}, Tokens((7,), dim))
    assert [a.item() for a in (fresh.first, fresh.second, fresh.third)] == pytest.approx([1 / 3] * 3)


@given(scale=st.floats(1e-3, 200.0), dim=st.sampled_from([4, 32, 96]), form=st.sampled_from(["relu", "norm"]))
@settings(max_examples=30)
def test_no_intermediate_of_a_polynomial_leaves_float16(scale: float, dim: int, form: str) -> None:
    """Hidden values up to 200; and one that stands alone among zeros, the worst that a normalised value can be."""
    module: Any = parts.make("channel_mixers", {"name": "polynomial", "form": form}, Tokens((3,), dim))
    h_BNF = torch.randn(2, 3, 2 * dim).clamp(-1, 1) * scale
    h_BNF[0, 0], h_BNF[0, 1] = 0.0, 0.0
    h_BNF[0, 1, 0] = scale
    function = module._of_relu if form == "relu" else module._of_norms
    exact, half = function(h_BNF), function_in_half(module, form, h_BNF)
    assert torch.isfinite(half).all()
    stops = (h_BNF.abs() < 31).all(-1, keepdim=True) if form == "relu" else torch.ones(1, dtype=torch.bool)
    error, size = ((half - exact) * stops).square().mean(), (exact * stops).square().mean()
    assert error <= 1e-4 * size + 1e-9  # 40 dB


def function_in_half(module: nn.Module, form: str, h_BNF: Tensor) -> Tensor:
    half: Any = copy.deepcopy(module).half()
    result: Tensor = (half._of_relu if form == "relu" else half._of_norms)(h_BNF.half())
    return result.float()


def test_an_adapter_starts_as_the_plain_part_and_learns_beside_it() -> None:
    torch.manual_seed(0)
    module: Any = parts.make("channel_mixers", {"name": "adapter"}, Tokens((7,), 8))
    x_BND = torch.randn(2, 7, 8)
    assert torch.equal(module(x_BND), module.plain(x_BND))
    nn.init.normal_(module.up.weight)
    nn.init.normal_(module.up.bias)
    bottleneck = torch.relu(x_BND @ module.down.weight.T + module.down.bias)
    added = 0.1 * (bottleneck @ module.up.weight.T + module.up.bias)
    torch.testing.assert_close(module(x_BND), module.plain(x_BND) + added)


def test_adapters_are_below_two_percent_of_the_source_s_model() -> None:
    """Twelve blocks of ViT-B, 768 wide, with bottlenecks of 64; its patch embedding and head are left out."""
    with torch.device("meta"):
        mixer = {"name": "local_attention", "heads": 12, "window": 197}
        feed = {"name": "adapter", "ratio": 4.0, "bottleneck": 64}
        layer = Pass(Tokens((197,), 768), PassConfig(mixer=mixer, channel_mixer=feed))
    whole, added = (sum(p.numel() for p in ps) for ps in (layer.parameters(), adapter.own(layer).values()))
    assert added == 2 * 768 * 64 + 768 + 64
    assert added / (whole - added) < 0.02


def adapted() -> nn.Module:
    passes = tuple(PassConfig(channel_mixer={"name": "adapter", "bottleneck": 2}) for _ in range(2))
    config = Config(dim=8, embedding={"name": "patch", "size": 4}, passes=passes)
    return create(config, lookback=20, horizon=3)


def test_adapters_travel_alone_and_training_them_leaves_the_rest() -> None:
    backbone, tuned = adapted(), adapted()
    tuned.load_state_dict(backbone.state_dict())
    for parameter in tuned.parameters():
        parameter.requires_grad_(False)
    for parameter in adapter.own(tuned).values():
        parameter.requires_grad_(True)
    x_BLC = torch.randn(4, 20, 1)
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        tuned(x_BLC).square().mean().backward()
        optimizer.step()
    changed = {k for k, v in tuned.state_dict().items() if not torch.equal(v, backbone.state_dict()[k])}
    assert changed
    assert changed <= set(adapter.own(tuned)) <= set(tuned.state_dict())
    assert not torch.allclose(backbone(x_BLC), tuned(x_BLC))
    adapter.put(dict(adapter.own(tuned)), backbone)
    torch.testing.assert_close(backbone(x_BLC), tuned(x_BLC))


def test_adapters_of_another_model_are_refused() -> None:
    model = adapted()
    weights: dict[str, Tensor] = dict(adapter.own(model))
    name = next(iter(weights))
    for wrong in ({}, weights | {"more": torch.zeros(1)}, weights | {name: torch.zeros(3, 3)}):
        with pytest.raises(InputError, match="not of this model"):
            adapter.put(wrong, model)


def sparse(share: float) -> nn.Module:
    """Half of the hidden units never fire on values in [-1, 1]."""
    passes = (PassConfig(channel_mixer={"name": "sparse_relu", "ratio": 4.0}),)
    model = create(Config(dim=8, embedding={"name": "patch", "size": 4}, passes=passes), lookback=20, horizon=3)
    for module in model.modules():
        if isinstance(module, sparse_relu.Mixer):
            with torch.no_grad():
                module.widen.bias[: round(32 * share)] = -100.0
    return model.double()


@pytest.mark.parametrize(("share", "left"), [(0.5, (1, 16)), (1.0, (1, 1)), (0.0, (1, 32))])
def test_what_never_fires_goes_and_nothing_changes_where_it_was_measured(share: float, left: tuple[int, int]) -> None:
    model = sparse(share)
    inputs = [(torch.randn(5, 20, 1, dtype=torch.float64),) for _ in range(3)]
    smaller = sparse_relu.pruned(model, inputs)
    for x in inputs:
        torch.testing.assert_close(smaller(*x), model(*x), rtol=1e-12, atol=1e-12)
    before, after = (next(m for m in net.modules() if isinstance(m, sparse_relu.Mixer)) for net in (model, smaller))
    assert left[0] <= after.widen.out_features <= left[1]
    assert before.widen.out_features == 32
    assert after.widen.weight.shape == (after.narrow.weight.shape[1], 8)
    assert after.widen.out_features == after.widen.bias.numel() == after.narrow.in_features
    assert not after.training
    assert not after.widen._forward_hooks
    if share == 0.5:
        assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())


def test_a_unit_that_fires_once_stays() -> None:
    module = sparse_relu.Mixer(Tokens((3,), 4), sparse_relu.Settings(ratio=1.0))
    nn.init.eye_(module.widen.weight)
    nn.init.zeros_(module.widen.bias)
    x_BND = -torch.rand(2, 3, 4)
    x_BND[1, 2, 3] = 0.25
    assert sparse_relu.pruned(module, [(x_BND[:1],), (x_BND[1:],)]).widen.weight.tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_nothing_is_pruned_without_data() -> None:
    with pytest.raises(InputError, match="no calibration data"):
        sparse_relu.pruned(sparse(0.5), [])


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"name": "gated", "activation": "tanh"}, "Invalid enum value 'tanh'"),
        ({"name": "gated", "ratio": 0.01}, "hidden width below 1"),
        ({"name": "adapter", "bottleneck": 0}, ">= 1.*bottleneck"),
        ({"name": "adapter", "scale": 0.0}, "> 0.*scale"),
        ({"name": "polynomial", "form": "log"}, "Invalid enum value 'log'"),
    ],
)
def test_settings_that_cannot_be_are_refused(choice: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parts.make("channel_mixers", choice, Tokens((7,), 8))
