"""Fused passes: the operation is the pass, whatever its form and length; and it goes wherever the pass goes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgepass import exporters, models, runtimes
from edgepass.errors import InputError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.kernels.fused_pass import fused_pass, names
from edgepass.models.config import PassConfig
from edgepass.models.fusing import FusedPass, fused
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass
from edgepass.quantize import recipe
from runtime_tests.conftest import CONVERTERS_WARN

FORMS = [tuple(n == on for n in range(4)) for on in range(-1, 4)] + [(True,) * 4]  # causal, gate, gated, rms


def weights(dim: int, hidden: int, *, gate: bool, gated: bool, rms: bool) -> list[Tensor]:
    """Of all sizes that the names imply, float64."""
    widths = {"widen": (hidden, dim), "multiply": (hidden, dim), "narrow": (dim, hidden)}
    made = []
    for name in names(gate=gate, gated=gated, rms=rms):
        layer, part = name.split(".")
        out, into = widths.get(layer, (dim, dim))
        vector = part == "bias" or layer.startswith("norm")
        made.append(
            torch.randn(out, dtype=torch.float64) if vector else torch.randn(out, into, dtype=torch.float64) / 4
        )
    return made


def stirred(module: Any) -> Any:
    """`module` in float64 with every parameter drawn, scales and biases too."""
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return module


@given(
    tokens=st.sampled_from([1, 2, 7, 8, 13, 63]),
    window=st.sampled_from([1, 4, 7, 64]),
    gate=st.booleans(),
    channel_mixer=st.sampled_from(["feed_forward", "gated"]),
    skip=st.booleans(),
    scale=st.sampled_from([None, 0.5]),
)
@settings(max_examples=40)
def test_a_fused_pass_is_the_pass(
    tokens: int, window: int, gate: bool, channel_mixer: str, skip: bool, scale: float | None
) -> None:
    config = PassConfig(
        mixer={"name": "local_attention", "heads": 3, "window": window},
        gate="values" if gate else None,
        channel_mixer={"name": channel_mixer, "ratio": 1.5},
        skip=skip,
        scale=scale,
    )
    whole = stirred(Pass(Tokens((tokens,), 12), config))
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    x_BND = torch.randn(2, tokens, 12, dtype=torch.float64)
    torch.testing.assert_close(FusedPass(whole)(x_BND), whole(x_BND))
    assert all(torch.equal(before[name], value) for name, value in whole.state_dict().items()), "the pass is untouched"


@pytest.mark.parametrize(
    ("causal", "gate", "gated", "rms"),
    [pytest.param(*form, marks=() if len(set(form)) == 1 else (pytest.mark.slow,)) for form in FORMS],
)
def test_the_operation_is_a_good_one_in_every_form(causal: bool, gate: bool, gated: bool, rms: bool) -> None:
    x = torch.randn(2, 7, 4, dtype=torch.float64, requires_grad=True)
    tensors = [w.requires_grad_() for w in weights(4, 6, gate=gate, gated=gated, rms=rms)]
    arguments = (x, tensors, 2, 3, causal, gate, gated, rms, True, 1e-5)
    torch.library.opcheck(fused_pass, arguments)
    assert torch.autograd.gradcheck(lambda x, *w: fused_pass(x, w, *arguments[2:]), (x, *tensors), fast_mode=True)


def test_no_token_sees_another_window_or_with_causal_a_later_token() -> None:
    form = {"gate": True, "gated": False, "rms": True}
    tensors = weights(4, 6, **form)
    for causal, felt in ((False, [4, 5, 6, 7]), (True, [6, 7])):
        x_BND = torch.randn(1, 11, 4, dtype=torch.float64)
        z_BND = x_BND.clone()
        z_BND[:, 6] += 1
        y, z = (fused_pass(v, tensors, 2, 4, causal, *form.values(), True, 1e-5) for v in (x_BND, z_BND))
        assert (y != z).any(dim=2)[0].nonzero().flatten().tolist() == felt


def test_with_rms_the_norms_are_rms_norms() -> None:
    form = {"gate": False, "gated": True, "rms": True}
    w = dict(zip(names(**form), weights(4, 6, **form), strict=True))
    x = torch.randn(1, 1, 4, dtype=torch.float64)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    n = functional.rms_norm(x, (4,), w["norm_mix.weight"], 1e-5)
    a = x + linear("out", linear("value", n))  # one token attends to itself alone
    m = functional.rms_norm(a, (4,), w["norm_feed.weight"], 1e-5)
    wanted = a + linear("narrow", functional.silu(linear("widen", m)) * linear("multiply", m))
    torch.testing.assert_close(fused_pass(x, list(w.values()), 2, 4, False, *form.values(), True, 1e-5), wanted)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree
def test_one_captured_program_serves_every_length_and_batch() -> None:
    config = PassConfig(mixer={"name": "local_attention", "heads": 2, "window": 5}, channel_mixer={"name": "gated"})
    module = FusedPass(stirred(Pass(Tokens((20,), 8), config)))
    sizes = {0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("tokens", min=1, max=4096)}
    program = torch.export.export(module, (torch.randn(2, 20, 8).double(),), dynamic_shapes=(sizes,), strict=False)
    assert [str(n.target) for n in program.graph.nodes if "edgepass" in str(n.target)] == [
        "edgepass.fused_pass.default"
    ]
    for batch, tokens in ((1, 1), (3, 63), (2, 1009)):
        x_BND = torch.randn(batch, tokens, 8, dtype=torch.float64)
        torch.testing.assert_close(program.module()(x_BND), module(x_BND))


def test_training_goes_through_a_fused_pass() -> None:
    config = PassConfig(mixer={"name": "local_attention", "heads": 2}, channel_mixer={"name": "feed_forward"})
    whole = stirred(Pass(Tokens((9,), 8), config))
    x_BND = torch.randn(2, 9, 8, dtype=torch.float64)
    grads = []
    for module in (whole, FusedPass(whole)):
        module.zero_grad()
        module(x_BND).square().sum().backward()
        grads.append(whole.channel_mixer.widen.weight.grad.clone())
    torch.testing.assert_close(*grads)


def test_a_fused_model_is_the_model_and_shares_what_it_shared() -> None:
    for preset, operations in (("single-s", 1), ("gated-s", 1), ("looped-s", 1)):
        model = models.create(preset, lookback=96, horizon=5, channels=2).eval()
        copied = fused(model)
        x_BLC = torch.randn(2, 96, 2)
        torch.testing.assert_close(copied(x_BLC), model(x_BLC))
        found = [m for m in copied.modules() if isinstance(m, FusedPass)]
        assert len(found) >= operations
        assert sum(p.numel() for p in copied.parameters()) <= sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"mixer": {"name": "pooling"}, "channel_mixer": {"name": "feed_forward"}}, "not local_attention"),
        ({"mixer": {"name": "local_attention"}, "channel_mixer": {"name": "polynomial"}}, "neither feed_forward nor"),
        ({"mixer": {"name": "local_attention"}}, "neither feed_forward nor"),
        (
            {"mixer": {"name": "local_attention"}, "channel_mixer": {"name": "gated", "activation": "relu"}},
            "has relu and not silu",
        ),
        (
            {"mixer": {"name": "local_attention", "head_dim": 9}, "channel_mixer": {"name": "gated"}},
            "wider or narrower",
        ),
        ({"mixer": {"name": "local_attention"}, "channel_mixer": {"name": "gated"}, "norm": False}, "no norm"),
        ({"mixer": {"name": "local_attention"}, "channel_mixer": {"name": "gated"}, "gate": "pass"}, "whole pass"),
    ],
)
def test_what_cannot_be_fused_is_told_in_a_sentence(config: dict[str, Any], says: str) -> None:
    whole = Pass(Tokens((9,), 8), PassConfig(**config))
    with pytest.raises(InputError, match=f"this pass cannot be fused: .*{says}"):
        FusedPass(whole)
    with pytest.raises(InputError, match=f"no pass of the model can be fused: .*{says}"):
        fused(nn.Sequential(whole))


def test_a_model_without_passes_is_told_in_a_sentence() -> None:
    with pytest.raises(InputError, match="no passes to fuse"):
        fused(nn.Linear(2, 2))


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("target", ["executorch", "coreml", "tflite", "onnx"])
def test_a_fused_model_lowers_as_what_it_was_made_of(target: str, tmp_path: Path) -> None:
    model = models.create("single-xs", lookback=48, horizon=5).eval()
    x_BLC = torch.randn(1, 48, 1)
    job = Job(capture(fused(model), (x_BLC,)), recipe.read("fp32"), lambda: [(x_BLC,)])
    path = tmp_path / f"fused{exporters.target(target).suffix}"
    assert exporters.export(target, job, path).fallbacks == []
    runtime = runtimes.runtime(exporters.target(target).runtime)
    runtime.prepare(path)  # executorch registers its kernels here
    with torch.no_grad():
        wanted = model(x_BLC)
    torch.testing.assert_close(torch.from_numpy(runtime.load(path, 1)([x_BLC.numpy()])[0]), wanted, rtol=0, atol=1e-5)
