"""Heads: levels of a forecast never cross and are trained to hold, anomalies score by how badly they are told again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from edgepass import models, source
from edgepass.errors import InputError
from edgepass.judging.comparison import compare
from edgepass.models import pair as pairs
from edgepass.models import parts
from edgepass.models.config import Config, PassConfig
from edgepass.models.forecaster import Forecaster
from edgepass.models.heads import anomaly, quantile
from edgepass.models.parts import Tokens
from edgepass.models.passformer import Passformer
from edgepass.samples import Samples
from edgepass.series import levels as quantiles
from edgepass.series import run
from edgepass.series.fit import fit
from runtime_tests.conftest import Done

LOCAL = PassConfig(mixer={"name": "local_attention", "heads": 2, "window": 4}, channel_mixer={"name": "feed_forward"})


def head(name: str, tokens: Tokens, shape: tuple[int, int], outputs: int, **settings: Any) -> Any:
    return parts.make("heads", {"name": name, **settings}, tokens, shape, outputs)


def forecaster(embedding: str = "patch", horizon: int = 5, channels: int = 3, **settings: Any) -> Forecaster:
    table: dict[str, Any] = {"name": embedding} if embedding == "inverted" else {"name": embedding, "size": 4}
    config = Config(dim=8, embedding=table, passes=(LOCAL,), head={"name": "quantile", **settings})
    return models.create(config, lookback=23, horizon=horizon, channels=channels)


LEVELS = st.lists(st.sampled_from([0.01, 0.1, 0.25, 0.6, 0.75, 0.9, 0.99]), unique=True, max_size=6)


@given(others=LEVELS, scale=st.sampled_from([0.0, 1e-3, 1.0, 300.0]), dtype=st.sampled_from(["float32", "float16"]))
@settings(max_examples=40)
def test_levels_never_cross_and_the_median_is_among_them(others: list[float], scale: float, dtype: str) -> None:
    levels = sorted({0.5, *others})
    module = head("quantile", Tokens((6,), 8, folded=3), (24, 3), 5, levels=levels).to(getattr(torch, dtype))
    x_SND = (torch.randn(6, 6, 8) * scale).to(getattr(torch, dtype))
    y_BQHC = module(x_SND)
    assert y_BQHC.shape == (2, len(levels), 5, 3)
    assert torch.isfinite(y_BQHC).all()
    ulp = torch.finfo(y_BQHC.dtype).eps * y_BQHC.abs().max()  # of two sums that add the same in another order
    assert (y_BQHC.diff(dim=1) >= -ulp).all()


def test_the_levels_are_the_median_and_softplus_steps_away_from_it() -> None:
    module = head("quantile", Tokens((6,), 8), (24, 1), 2, levels=[0.05, 0.2, 0.5, 0.8, 0.9, 0.95]).double()
    x_SND = torch.randn(3, 6, 8, dtype=torch.float64)
    u_BHQ = module.project(x_SND.reshape(3, 48)).reshape(3, 2, 6)
    steps = functional.softplus(u_BHQ)
    expected = [u_BHQ[..., 2]]
    for q in (3, 4, 5):
        expected.append(expected[-1] + steps[..., q])
    for q in (1, 0):
        expected.insert(0, expected[0] - steps[..., q])
    torch.testing.assert_close(module(x_SND)[..., 0], torch.stack(expected, dim=1))


@pytest.mark.parametrize("embedding", ["patch", "patch_grid", "inverted"])
def test_a_forecaster_of_levels_gives_raw_levels_of_every_series(embedding: str) -> None:
    model = forecaster(embedding)
    assert model.levels == (0.1, 0.5, 0.9)
    model.set_scaler([3.0, -2.0, 100.0], [4.0, 5.0, 0.1])
    x_BLC = torch.randn(4, 23, 3) * 3
    y_BQHC = model(x_BLC)
    assert y_BQHC.shape == (4, 3, 5, 3)
    assert (y_BQHC.diff(dim=1) >= 0).all()
    torch.testing.assert_close(model(x_BLC + 7), y_BQHC + 7, rtol=1e-3, atol=1e-3)
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(model, (x_BLC,), dynamic_shapes=(batch,), strict=False)
    torch.testing.assert_close(program.module()(x_BLC[:1]), y_BQHC[:1])


def test_series_that_are_apart_keep_their_own_levels() -> None:
    model = forecaster()
    x_BLC = torch.randn(2, 23, 3)
    z_BLC = x_BLC.clone()
    z_BLC[..., 1] = torch.randn(2, 23)
    assert (model(x_BLC) == model(z_BLC)).all(dim=(0, 1, 2)).tolist() == [True, False, True]


def test_the_median_of_a_model_that_starts_from_a_linear_map_is_that_map() -> None:
    model = forecaster(channels=2)
    weight_HL = torch.randn(5, 23) / 23
    model.start_from(weight_HL)
    x_BLC = torch.randn(4, 23, 2)
    mean_B1C = x_BLC.mean(dim=1, keepdim=True)
    expected = torch.einsum("blc,hl->bhc", x_BLC - mean_B1C, weight_HL) + mean_B1C
    low, median, high = model(x_BLC).unbind(dim=1)
    torch.testing.assert_close(median, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(high - median, median - low)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_pinball_is_least_at_the_quantile_and_both_of_its_forms_agree(level: float) -> None:
    happened = np.random.default_rng(0).exponential(size=2001)
    forecasts = np.linspace(0, 4, 401)
    losses = [quantiles.pinball((happened - f)[:, None, None], [level]).mean() for f in forecasts]
    assert forecasts[int(np.argmin(losses))] == pytest.approx(np.quantile(happened, level), abs=0.02)
    missed_BQHC = torch.randn(4, 3, 5, 2, dtype=torch.float64)
    both = quantile.pinball(missed_BQHC, [0.1, 0.5, level]).numpy()
    np.testing.assert_allclose(both, quantiles.pinball(missed_BQHC.numpy(), [0.1, 0.5, level]))
    np.testing.assert_allclose(both[:, 1], 0.5 * np.abs(missed_BQHC.numpy()[:, 1]))


@pytest.mark.parametrize(
    ("levels", "says"),
    [
        ([0.1, 0.9], "levels are 0.1, 0.9; 0.5, the forecast itself, must be one of them"),
        ([0.5, 0.1], "let each be above the one before"),
        ([0.5, 0.5], "let each be above the one before"),
        ([], "levels are none"),
        ([0.5, 1.0], "< 1"),
        ([0.0, 0.5], "> 0"),
    ],
)
def test_levels_that_cannot_be_are_refused(levels: list[float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        head("quantile", Tokens((6,), 8), (24, 1), 2, levels=levels)


PRESET = """
name = "levels"
dim = 8
embedding = { name = "patch", size = 4 }
head = { name = "quantile", levels = [0.05, 0.5, 0.95] }

[[passes]]
mixer = { name = "local_attention", heads = 2, window = 3 }
channel_mixer = { name = "feed_forward", ratio = 1.0 }
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two waves under noise whose deviations are 1 and 3: what is uncertain can be told, the rest can be forecast."""
    folder = tmp_path_factory.mktemp("levels")
    t, noise = np.arange(3000), np.random.default_rng(0).normal(size=(3000, 2))
    values = 4 * np.sin(2 * np.pi * t / 24)[:, None] + noise * [1.0, 3.0]
    (folder / "waves.csv").write_text("a,b\n" + "\n".join(f"{a:.4f},{b:.4f}" for a, b in values) + "\n")
    (folder / "levels.toml").write_text(PRESET)
    preset = str(folder / "levels.toml")
    return {"csv": folder / "waves.csv", "preset": preset, "horizon": 4, "lookback": 32, "epochs": 8, "batch": 32}


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fit(**inputs, out=tmp_path_factory.mktemp("run") / "RUN")


def test_fit_trains_levels_that_hold_on_what_it_never_saw(
    finished: Any, inputs: dict[str, Any], tmp_path: Path
) -> None:
    assert [level.level for level in finished.levels] == [0.05, 0.5, 0.95]
    for level in finished.levels:
        assert level.coverage == pytest.approx(level.level, abs=0.03)
    assert finished.best_epoch > 0
    assert finished.rows[-1].mse <= 1.1 * finished.rows[-2].mse  # of the median, which squared error is not trained for
    still = fit(**{**inputs, "epochs": 0}, out=tmp_path / "still")
    assert sum(s.pinball for s in finished.levels) < sum(s.pinball for s in still.levels)


def test_a_loaded_run_of_levels_is_judged_by_their_pinball_loss(finished: Any) -> None:
    got = run.load(finished.folder)
    assert got.spec.levels == finished.levels
    raw, targets = got.evaluation()
    with torch.inference_mode():
        outputs = got.model(torch.from_numpy(raw[:, 0])).numpy()
    whole = source.load(str(finished.folder))
    assert whole.score is not None
    assert whole.score.name == "pinball"
    comparison, _ = compare(whole.score, Samples(inputs=[raw], targets=targets), [outputs[:, None]])
    assert comparison is not None
    assert comparison.float_measure.value == pytest.approx(np.mean([s.pinball for s in finished.levels]), rel=1e-4)
    task = source.load(str(finished.folder), evaluation_samples=8)
    assert task.levels == (0.05, 0.5, 0.95)
    assert task.evaluation is not None
    comparison, _ = compare(task.score, task.evaluation, task.reference(task.evaluation))
    assert comparison is not None
    assert 0 < comparison.float_measure.value < 1


def test_an_untrained_preset_of_levels_is_judged_by_their_pinball_loss(inputs: dict[str, Any]) -> None:
    task = source.load(inputs["preset"], evaluation_samples=3)
    assert task.evaluation is not None
    assert task.score is not None
    assert task.score.name == "pinball"
    comparison, _ = compare(task.score, task.evaluation, task.reference(task.evaluation))
    assert comparison is not None
    assert np.isfinite(comparison.float_measure.value)


def test_the_command_says_how_well_each_level_is_kept(
    edgepass: Callable[..., Done], inputs: dict[str, Any], tmp_path: Path
) -> None:
    call = ("fit", inputs["csv"], "--preset", inputs["preset"], "--horizon", 4, "--lookback", 32, "--epochs", 1)
    said = edgepass(*call, "-o", tmp_path / "RUN")
    assert said.code == 0, said.err
    assert "pinball loss" in said.out
    assert "0.95" in said.out
    told = edgepass(*call, "-o", tmp_path / "again", "--json")
    assert [level["level"] for level in json.loads(told.out)["levels"]] == [0.05, 0.5, 0.95]


@pytest.mark.export
def test_a_file_of_levels_is_judged_and_reported(
    edgepass: Callable[..., Done], finished: Any, inputs: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "OUT"
    said = edgepass("export", finished.folder, "-o", out, "--target", "onnx", "--recipe", "fp32", "--eval-samples", 8)
    assert said.code == 0, said.err
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["model"]["levels"] == [0.05, 0.5, 0.95]
    assert manifest["artifacts"][0]["metric"]["name"] == "pinball"
    page = (out / "report.html").read_text()
    assert "Of the levels 0.05, 0.5, 0.95 the lines are the median" in page


def detector(outputs: int, bottleneck: int = 2, channels: int = 2) -> Passformer:
    config = Config(
        dim=8,
        embedding={"name": "patch", "size": 4},
        passes=(LOCAL,),
        head={"name": "anomaly", "bottleneck": bottleneck},
    )
    return Passformer(config, shape=(24, channels), outputs=outputs).eval()


@pytest.mark.parametrize("outputs", [1, 5, 24])
@pytest.mark.parametrize("embedding", ["patch", "patch_grid", "inverted"])
def test_a_score_is_the_mean_squared_error_of_each_span(outputs: int, embedding: str) -> None:
    table: dict[str, Any] = {"name": embedding} if embedding == "inverted" else {"name": embedding, "size": 5}
    config = Config(dim=8, embedding=table, passes=(LOCAL,), head={"name": "anomaly"})
    model: Any = Passformer(config, shape=(24, 3), outputs=outputs).double().eval()
    z_BLC = torch.randn(2, 24, 3, dtype=torch.float64)
    x_SND = model.norm(model.represent(z_BLC))
    told = model.head.widen(model.head.squeeze(x_SND.reshape(6, -1))).reshape(2, 3, 24).transpose(1, 2)
    error_BLC = (z_BLC - told) ** 2
    spans = np.array_split(np.arange(24), outputs) if 24 % outputs == 0 else [[*range(5)], [*range(5, 10)]]
    for o, rows in enumerate(spans):
        expected = error_BLC[:, rows].mean(dim=1)
        torch.testing.assert_close(model(z_BLC)[:, o], expected, rtol=1e-6, atol=1e-6)
    assert model(z_BLC).shape == (2, outputs, 3)
    assert (model(z_BLC) >= 0).all()


@given(lookback=st.integers(1, 60), outputs=st.integers(1, 60))
def test_spans_share_the_window_out_evenly(lookback: int, outputs: int) -> None:
    outputs = min(outputs, lookback)
    mean_OL = anomaly.spans(lookback, outputs)
    torch.testing.assert_close(mean_OL.sum(dim=1), torch.ones(outputs))
    assert ((mean_OL > 0).sum(dim=0) == 1).all()
    lengths = (mean_OL > 0).sum(dim=1)
    assert lengths.max() - lengths.min() <= 1


def test_what_was_never_seen_scores_higher_where_it_happens() -> None:
    torch.manual_seed(0)
    model = detector(outputs=4, channels=1)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2)

    def waves(count: int) -> torch.Tensor:
        phase = 6.28 * torch.rand(count, 1, 1)
        return 1.4 * torch.sin(torch.arange(24)[None, :, None] * 6.28 / 12 + phase) + 0.05 * torch.randn(count, 24, 1)

    for _ in range(150):
        optimizer.zero_grad()
        model(waves(64)).mean().backward()
        optimizer.step()
    model.eval()
    usual, odd = waves(200), waves(200)
    odd[:, 12:18] = odd[:, 12:13]  # a sensor that sticks for a quarter of the window
    with torch.no_grad():
        usual_BO, odd_BO = model(usual)[..., 0], model(odd)[..., 0]
    higher = odd_BO.mean(dim=1)[:, None] > usual_BO.mean(dim=1)[None, :]
    assert higher.float().mean() > 0.95  # area under the ROC curve
    assert odd_BO.mean(dim=0).argmax() == 2


def test_a_score_needs_a_series_and_no_more_spans_than_rows() -> None:
    with pytest.raises(InputError, match="25 spans of a window of 24 rows"):
        detector(outputs=25)
    with pytest.raises(InputError, match="not an input of 1 axes"):
        parts.make("heads", {"name": "anomaly"}, Tokens((6,), 8), (24,), 2)
    with pytest.raises(InputError, match=r">= 1.*bottleneck"):
        detector(outputs=1, bottleneck=0)
    series = {"dim": 8, "embedding": {"name": "patch"}, "passes": []}
    pair = {"first": series, "second": series, "head": {"name": "anomaly"}}
    with pytest.raises(InputError, match="'anomaly' is for models of one input"):
        pairs.check(msgspec.convert(pair, pairs.PairConfig))
