"""Recurrent mixers are one thing all at once and token by token, feel no later token, and are what their papers say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepass import exporters, runtimes
from edgepass.errors import InputError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.models import parts
from edgepass.models.baking import Baked
from edgepass.models.config import PassConfig
from edgepass.models.mixers import legendre_memory, selective_scan
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass
from edgepass.models.streaming import OneStep
from edgepass.quantize import recipe
from runtime_tests.conftest import CONVERTERS_WARN

DIM = 32
RECURRENT: list[dict[str, Any]] = [
    {"name": "legendre_memory"},
    {"name": "legendre_memory", "order": 5, "theta": 300.0, "signals": 1},
    {"name": "linear_recurrence"},
    {"name": "linear_recurrence", "heads": 2, "memory": 1.0},
    {"name": "selective_scan"},
    {"name": "selective_scan", "state": 3, "expand": 1, "taps": 7},
]
CAUSAL = [*RECURRENT, {"name": "hyena"}, {"name": "hyena", "order": 3, "taps": 5, "short": 2}]
FEED = {"name": "feed_forward", "ratio": 2.0}


@pytest.fixture
def double() -> Iterator[None]:
    """Weights and constants in float64, so that a formula's own error is all there is."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def mixer(choice: dict[str, Any], tokens: int) -> Any:
    return parts.make("mixers", choice, Tokens((tokens,), DIM)).eval().requires_grad_(False)


def streamed(module: Any, x_BND: Tensor) -> Tensor:
    """y_BND, token by token."""
    state, rows = module.start(len(x_BND)), []
    with torch.no_grad():
        for x_BD in x_BND.unbind(1):
            y_BD, *state = module(x_BD, *state) if isinstance(module, OneStep) else module.step(x_BD, *state)
            rows.append(y_BD)
    return torch.stack(rows, dim=1)


def sqnr_db(wanted: Any, got: Any) -> float:
    return float(10 * np.log10(np.square(wanted).mean() / np.square(wanted - got).mean()))


@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 9, 17, 63, 1009])
@pytest.mark.parametrize("choice", RECURRENT, ids=str)
@pytest.mark.usefixtures("double")
def test_all_at_once_is_token_by_token(choice: dict[str, Any], tokens: int) -> None:
    module, x_BND = mixer(choice, tokens), torch.randn(2, tokens, DIM)
    torch.testing.assert_close(module(x_BND), streamed(module, x_BND), rtol=0, atol=1e-12)


@pytest.mark.parametrize("choice", RECURRENT, ids=str)
def test_in_float32_a_thousand_steps_do_not_drift(choice: dict[str, Any]) -> None:
    module, x_BND = mixer(choice, 1009), torch.randn(1, 1009, DIM)
    wanted = module(x_BND)
    error_N = (streamed(module, x_BND) - wanted).abs().amax(dim=(0, 2)) / wanted.abs().max()
    assert error_N.max() < 1e-5
    assert error_N[-100:].max() < 4 * error_N[:100].max()


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("choice", CAUSAL, ids=str)
@pytest.mark.parametrize("tokens", [2, 23, 80])
def test_no_token_feels_a_later_one(choice: dict[str, Any], tokens: int) -> None:
    module, x_BND = mixer(choice, tokens), torch.randn(2, tokens, DIM)
    for token in {0, tokens // 2, tokens - 1}:
        z_BND = x_BND.clone()
        z_BND[:, token] += 1.0
        moved_N = (module(z_BND) - module(x_BND)).abs().amax(dim=(0, 2))
        assert not moved_N[:token].gt(1e-13).any()
        assert moved_N[token] > 1e-6


@pytest.mark.parametrize("choice", RECURRENT, ids=str)
def test_a_step_is_exported_with_any_batch(choice: dict[str, Any]) -> None:
    step = OneStep(mixer(choice, 24)).eval()
    args = (torch.randn(3, DIM), *(torch.randn_like(s) for s in step.start(3)))
    batch = {0: torch.export.Dim("batch", min=1, max=9)}
    shapes = (batch, tuple(batch for _ in args[1:]))  # forward takes x and *state
    program = torch.export.export(step, tuple(a[:2] for a in args), dynamic_shapes=shapes, strict=False)
    torch.testing.assert_close(program.module()(*args), step(*args))
    assert max(n.meta["val"].ndim for n in program.graph.nodes if isinstance(n.meta.get("val"), Tensor)) <= 4


@pytest.mark.usefixtures("double")
def test_the_legendre_delay_is_the_closed_form_held_over_a_token() -> None:
    order, theta = 6, 5.0
    a_MM, b_M = legendre_memory.delay(order)
    for i in range(order):
        assert b_M[i] == (2 * i + 1) * (-1) ** i
        for j in range(order):
            assert a_MM[i, j] == (2 * i + 1) * (-1 if i < j else (-1) ** (i - j + 1))
    held_MM, held_M = legendre_memory.held(a_MM, b_M, theta)
    torch.testing.assert_close(held_MM, torch.linalg.matrix_exp(a_MM / theta))
    inverse = torch.linalg.inv(a_MM)
    torch.testing.assert_close(held_M, inverse @ (held_MM - torch.eye(order)) @ b_M)


@pytest.mark.usefixtures("double")
def test_the_legendre_memory_solves_its_differential_equation() -> None:
    order, theta, parts_of_a_token = 6, 5.0, 400
    a_MM, b_M = (x / theta for x in legendre_memory.delay(order))
    held_MM, held_M = legendre_memory.held(*legendre_memory.delay(order), theta)
    solved_M = stepped_M = torch.zeros(order)
    for u in torch.randn(7):
        for _ in range(parts_of_a_token):  # Runge-Kutta of the fourth order
            h = 1 / parts_of_a_token
            k1 = a_MM @ solved_M + b_M * u
            k2 = a_MM @ (solved_M + h / 2 * k1) + b_M * u
            k3 = a_MM @ (solved_M + h / 2 * k2) + b_M * u
            k4 = a_MM @ (solved_M + h * k3) + b_M * u
            solved_M = solved_M + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        stepped_M = held_MM @ stepped_M + held_M * u
        torch.testing.assert_close(stepped_M, solved_M, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("double")
def test_the_legendre_memory_holds_its_window() -> None:
    theta, order = 40.0, 16
    held_MM, held_M = legendre_memory.held(*legendre_memory.delay(order), theta)
    wave = torch.sin(torch.arange(200.0) / 9)
    m_M = torch.zeros(order)
    for u in wave:
        m_M = held_MM @ m_M + held_M * u
    for age in (1.0, 13.0, 27.0, 39.0):
        at = torch.tensor(2 * age / theta - 1)
        read = sum(m * torch.special.legendre_polynomial_p(at, i) for i, m in enumerate(m_M))
        assert abs(read - np.sin((199.5 - age) / 9)) < 0.02  # a held signal is the wave half a token before


@pytest.mark.usefixtures("double")
def test_the_legendre_memory_is_its_formula() -> None:
    module, x_ND = mixer({"name": "legendre_memory"}, 23), torch.randn(23, DIM)
    a_MM, b_M = legendre_memory.held(*legendre_memory.delay(16), 24.0)
    m_SM, rows = torch.zeros(4, 16), []
    for x_D in x_ND:
        u_S = torch.relu(module.signal(x_D))
        m_SM = m_SM @ a_MM.T + u_S[:, None] * b_M
        rows.append(torch.relu(module.recall.weight @ m_SM.flatten() + module.out(x_D)))
    torch.testing.assert_close(module(x_ND[None])[0], torch.stack(rows))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("tokens", [1, 31, 33, 97])
def test_retention_is_its_parallel_form(tokens: int) -> None:
    module, x_ND = mixer({"name": "linear_recurrence"}, tokens), torch.randn(tokens, DIM)
    q_HNE, k_HNE, v_HNE = (f(x_ND).reshape(-1, 4, 8).transpose(0, 1) for f in (module.query, module.key, module.value))
    n = torch.arange(tokens)
    heads = []
    for head, gamma in enumerate([1 - 2.0**-5, 1 - 2.0**-6, 1 - 2.0**-7, 1 - 2.0**-8]):
        decay_NN = torch.where(n[:, None] >= n, gamma ** (n[:, None] - n).double(), 0.0)
        o_NE = (q_HNE[head] @ k_HNE[head].T * decay_NN) @ v_HNE[head]
        heads.append((o_NE - o_NE.mean(1, keepdim=True)) / (o_NE.var(1, correction=0, keepdim=True) + 1e-5).sqrt())
    wanted = module.out(torch.nn.functional.silu(module.gate(x_ND)) * torch.cat(heads, dim=1))
    torch.testing.assert_close(module(x_ND[None])[0], wanted)


@given(tokens=st.integers(1, 40), back=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_doubling_is_the_recurrence(tokens: int, back: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.rand(2, 1, tokens, 2, 3, generator=generator, dtype=torch.float64)
    h, rows = torch.zeros(1, 2, 3, dtype=torch.float64), {}
    for n in reversed(range(tokens)) if back else range(tokens):
        rows[n] = h = a[:, n] * h + b[:, n]
    wanted = torch.stack([rows[n] for n in range(tokens)], dim=1)
    torch.testing.assert_close(selective_scan.scan(a, b, back=back), wanted)


@pytest.mark.usefixtures("double")
def test_the_selective_scan_is_its_formula() -> None:
    scan, x_ND = mixer({"name": "selective_scan"}, 13).ahead, torch.randn(13, DIM)
    silu, softplus = torch.nn.functional.silu, torch.nn.functional.softplus
    taps_EK, late_NE, h_EM, rows = scan.conv.weight[:, 0, 0], scan.value(x_ND), torch.zeros(64, 16), []
    for n, x_D in enumerate(x_ND):
        seen = [taps_EK[:, 3 - k] * late_NE[n - k] for k in range(4) if n >= k]
        v_E = silu(torch.stack(seen).sum(0) + scan.conv.bias)
        rate_E1 = softplus(scan.rate(scan.rate_low(v_E)))[:, None]
        h_EM = torch.exp(-rate_E1 * torch.exp(scan.log_decay_EM)) * h_EM + rate_E1 * v_E[:, None] * scan.write(v_E)
        rows.append(scan.out((h_EM @ scan.read(v_E) + scan.direct_E * v_E) * silu(scan.gate(x_D))))
    torch.testing.assert_close(mixed := scan(x_ND[None])[0], torch.stack(rows))
    assert mixed.abs().max() > 1e-3


@pytest.mark.usefixtures("double")
def test_the_scan_from_the_end_is_the_scan_of_the_reversed_tokens() -> None:
    module, x_BND = mixer({"name": "selective_scan", "both_ways": True}, 13), torch.randn(2, 13, DIM)
    weights = module.back.state_dict()
    weights["conv.weight"] = weights["conv.weight"].flip(3)
    turned = selective_scan.Scan(DIM, selective_scan.Settings())
    turned.load_state_dict(weights)
    torch.testing.assert_close(module(x_BND), module.ahead(x_BND) + turned(x_BND.flip(1)).flip(1))
    with pytest.raises(InputError, match="leave both_ways out"):
        module.start(1)


def test_the_selective_scan_is_finite_in_float16_for_large_tokens() -> None:
    module = mixer({"name": "selective_scan"}, 63).half()
    y_BND = module(4 * torch.randn(1, 63, DIM).half())
    assert torch.isfinite(y_BND).all()


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("order", "taps"), [(1, 512), (2, 512), (3, 5)])
def test_hyena_is_its_formula(order: int, taps: int) -> None:
    tokens = 11
    module = mixer({"name": "hyena", "order": order, "taps": taps}, tokens)
    x_ND, kept = torch.randn(tokens, DIM), min(taps, tokens)
    t_K = torch.arange(kept) / kept

    def convolved(h_DK: Tensor, z_ND: Tensor) -> Tensor:
        ages = range(h_DK.shape[1])
        return torch.stack([sum(h_DK[:, k] * z_ND[n - k] for k in ages if n >= k) for n in range(tokens)])  # type: ignore[arg-type]

    z_ND, *gates = (convolved(s.short.weight[:, 0, 0].flip(1), s.project(x_ND)) + s.short.bias for s in module.streams)
    for gate_ND, baked in zip(gates, module.filters, strict=True):
        f = baked.generator
        waves = [t_K, *(torch.cos(2 * torch.pi * i * t_K) for i in (1, 2, 3, 4))]
        waves += [torch.sin(2 * torch.pi * i * t_K) for i in (1, 2, 3, 4)]
        hidden = torch.sin(f.frequency * f.first(torch.stack(waves, dim=1)))
        h_KD = f.third(torch.sin(f.frequency * f.second(hidden)))
        rate_D = np.log(100) * torch.linspace(1 / 1.5, 1 / 0.3, DIM)
        h_KD = h_KD * torch.exp(-rate_D * t_K[:, None])
        h_KD[0] += f.direct_D111.flatten()
        z_ND = gate_ND * convolved(h_KD.T, z_ND)
    torch.testing.assert_close(module(x_ND[None])[0], module.out(z_ND))


def test_an_exported_hyena_holds_the_filters_of_the_weights_it_has_now() -> None:
    x = (torch.randn(1, 24, DIM),)
    module, other = mixer({"name": "hyena"}, 24), mixer({"name": "hyena"}, 24)
    module.load_state_dict(other.state_dict())
    assert not any("table" in name for name in module.state_dict())
    program = torch.export.export(module, x, strict=False)
    torch.testing.assert_close(program.module()(*x), other(*x))
    assert "sin" not in str(program.graph)
    with torch.no_grad():
        for baked in module.filters:
            assert isinstance(baked, Baked)
            baked.generator.direct_D111.mul_(2)
    torch.testing.assert_close(torch.export.export(module.eval(), x, strict=False).module()(*x), module(*x))


def test_hyena_reaches_as_far_as_its_taps() -> None:
    module, x_BND = mixer({"name": "hyena", "order": 1, "taps": 5, "short": 3}, 24), torch.randn(1, 24, DIM)
    z_BND = x_BND.clone()
    z_BND[:, 3] += 1.0
    felt = (module(x_BND) - module(z_BND)).abs().amax(dim=(0, 2)) > 1e-7
    assert felt.nonzero().flatten().tolist() == list(range(3, 3 + 5 - 1 + 3))


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"name": "linear_recurrence", "heads": 5}, "5 heads do not divide 32 channels"),
        ({"name": "linear_recurrence", "memory": 0.5}, "memory"),
        ({"name": "selective_scan", "taps": 1}, "taps"),
        ({"name": "legendre_memory", "order": 0}, "order"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_a_sentence(choice: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        mixer(choice, 24)


def passes(tokens: int, **changes: Any) -> list[Pass]:
    """One pass for each recurrent mixer, and one that mixes channels alone."""
    names: list[Any] = ["legendre_memory", "linear_recurrence", "selective_scan"]
    tables = [{"mixer": {"name": name}, "gate": "values", "channel_mixer": FEED, **changes} for name in names]
    configs = [msgspec.convert(table, PassConfig) for table in [*tables, {"channel_mixer": FEED, "scale": 0.5}]]
    return [Pass(Tokens((tokens,), DIM), config) for config in configs]


@pytest.mark.usefixtures("double")
def test_a_row_of_passes_streams() -> None:
    row, x_BND = nn.Sequential(*passes(63)).eval(), torch.randn(2, 63, DIM)
    step = OneStep(row).eval()
    with torch.no_grad():
        torch.testing.assert_close(streamed(step, x_BND), row(x_BND), rtol=0, atol=1e-12)
        torch.testing.assert_close(streamed(OneStep(row[0]), x_BND), row[0](x_BND), rtol=0, atol=1e-12)
    assert [len(argument) for argument in step.stream(x_BND.transpose(0, 1).numpy())] == [63] * 5


def test_a_pass_that_needs_all_tokens_does_not_stream() -> None:
    with pytest.raises(InputError, match='pass 1: its gate weighs all tokens at once; take gate = "values"'):
        OneStep(nn.Sequential(*passes(24, gate="pass")))
    with pytest.raises(InputError, match="pass 1: its mixer has no step"):
        OneStep(passes(24, mixer={"name": "hyena"})[0])
    with pytest.raises(InputError, match="leave both_ways out"):
        OneStep(passes(24, mixer={"name": "selective_scan", "both_ways": True})[0])
    with pytest.raises(InputError, match="Linear is no pass; give a recurrent mixer, a pass, or a row of passes"):
        OneStep(nn.Sequential(nn.Linear(3, 3)))


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize(
    ("target", "name", "bound_db"),
    [
        ("onnx", "fp32", 90),
        ("executorch", "fp32", 90),
        ("onnx", "static_wi8_ai8", 15),
        pytest.param("tflite", "static_wi8_ai8", 15, marks=pytest.mark.slow),
    ],
)
def test_a_thousand_steps_through_a_file_stay_near_the_whole_window(
    target: str, name: str, bound_db: float, tmp_path: Path
) -> None:
    tokens = 1009
    row = nn.Sequential(*passes(tokens)).eval()
    step = OneStep(row).eval()
    x_TBD = np.random.default_rng(0).standard_normal((tokens, 1, DIM)).astype(np.float32)
    with torch.no_grad():
        wanted_TBD = row(torch.from_numpy(x_TBD).transpose(0, 1)).transpose(0, 1).numpy()
    columns = [torch.from_numpy(column) for column in step.stream(x_TBD[:64])]
    job = Job(capture(step, tuple(c[0] for c in columns)), recipe.read(name), lambda: list(zip(*columns, strict=True)))
    module = exporters.target(target)
    path = tmp_path / f"step{module.suffix}"
    exporters.export(target, job, path)
    runtime = runtimes.runtime(module.runtime)
    runtime.prepare(path)  # executorch registers its kernels here
    session = runtime.load(path, 1)
    state = [s.numpy() for s in step.start(1)]
    rows = []
    for x_BD in x_TBD:
        y_BD, *state = session([x_BD, *state])
        rows.append(y_BD)
    got_TBD = np.stack(rows)
    contents = runtime.inspect(path)
    ends = [x.dtype for x in (*contents.inputs, *contents.outputs)]
    assert ends == ["float32"] * len(ends), "what leaves as state can enter as state"
    early, late = (sqnr_db(wanted_TBD[part], got_TBD[part]) for part in (slice(0, 200), slice(-200, None)))
    assert late > bound_db
    assert late > early - 3, "the error does not grow with the stream"
