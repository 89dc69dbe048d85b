"""fit writes a folder that stands alone, continues to the same bits after kill -9, and refuses in sentences."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from edgepass.errors import InputError
from edgepass.series import run
from edgepass.series.fit import FitResult, fit

PRESET = """
name = "tiny"
dim = 8
embedding = { name = "patch", size = 4 }
head = { name = "forecast", dropout = 0.1 }

[[passes]]
mixer = { name = "local_attention", heads = 2, window = 3 }
channel_mixer = { name = "feed_forward", ratio = 1.0 }
"""


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two series that fold back whenever they grow too large, which no linear map foresees, on a daily wave."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    noise, folded = rng.normal(size=(900, 2)), np.zeros((900, 2))
    for t in range(1, 900):
        folded[t] = 4 - np.abs(2 * np.abs(folded[t - 1]) - 3) + 0.1 * noise[t]
    wave = np.sin(2 * np.pi * np.arange(900) / 24)
    values = np.stack([1e4 + 50 * (folded[:, 0] + wave), -1e-2 * (folded[:, 1] + wave)], axis=1)
    times = np.datetime64("2024-01-01T00") + np.arange(900) * np.timedelta64(1, "h")
    lines = [f"{time},{a:.4f},{b:.6f}" for time, (a, b) in zip(times, values, strict=True)]
    (folder / "waves.csv").write_text("date,a,b\n" + "\n".join(lines) + "\n")
    (folder / "tiny.toml").write_text(PRESET)
    return {
        "csv": folder / "waves.csv",
        "preset": str(folder / "tiny.toml"),
        "horizon": 5,
        "lookback": 30,
        "epochs": 3,
        "batch": 16,
    }


@pytest.fixture(scope="session")
def finished(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fit(**inputs, out=tmp_path_factory.mktemp("run") / "RUN")


@pytest.fixture
def copy(finished: FitResult, tmp_path: Path) -> Path:
    """A finished folder to spoil."""
    for file in finished.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_the_folder_holds_three_files_and_the_table_four_rows(finished: FitResult) -> None:
    assert sorted(f.name for f in finished.folder.iterdir()) == ["model.safetensors", "series.safetensors", "spec.json"]
    assert [r.name for r in finished.rows] == ["naive", "seasonal naive (24)", "ridge", "tiny"]
    assert all(np.isfinite([r.mse, r.mae]).all() for r in finished.rows)
    assert finished.parameters == run.load(finished.folder).model.parameter_count()


def test_a_loaded_run_forecasts_what_was_measured(finished: FitResult) -> None:
    got = run.load(finished.folder)
    inputs, targets = got.evaluation()
    assert inputs.shape[1:] == (1, 30, 2)
    assert targets.shape[1:] == (1, 5, 2)
    assert len(inputs) == len(targets) == 180 - 5 + 1
    with torch.inference_mode():
        outputs = got.model(torch.from_numpy(inputs[:, 0])).numpy()
    assert got.error(outputs, targets) == pytest.approx(finished.rows[-1].mse, rel=1e-4)
    assert got.error(targets, targets) == 0
    assert not got.model.training
    assert got.spec.columns == ("a", "b")
    assert [b.name for b in got.baselines()] == ["mse: naive", "mse: seasonal naive (24)", "mse: ridge"]
    assert all(b.samples == 176 and b.reference == finished.rows[-1].mse for b in got.baselines())
    assert [(d.role, d.rows) for d in got.data()] == [("train", 630), ("calibration", 630), ("evaluation", 210)]
    assert len({d.sha256 for d in got.data()}) == 2


def test_samples_are_spread_over_their_own_rows(finished: FitResult, inputs: dict[str, Any]) -> None:
    got = run.load(finished.folder)
    (x_1LC,) = got.example_args()
    assert x_1LC.shape == (1, 30, 2)
    assert x_1LC.dtype == torch.float32
    drawn = got.calibration(7)
    assert drawn.shape == (7, 1, 30, 2)
    assert drawn.dtype == np.float32
    last = got.values_TC[630 - 5 - 30 : 630 - 5].astype(np.float32)
    assert np.array_equal(drawn[-1, 0], last)
    some, followed = got.evaluation(3)
    assert len(some) == len(followed) == 3
    assert np.array_equal(followed[-1, 0], got.values_TC[-5:].astype(np.float32))


def test_training_starts_at_ridge_and_keeps_the_best_epoch(inputs: dict[str, Any], tmp_path: Path) -> None:
    seen: list[tuple[int, int, float, float]] = []
    still = fit(**{**inputs, "epochs": 0}, out=tmp_path / "still")
    ridge, model = still.rows[-2:]
    assert still.best_epoch == 0
    assert "ridge on test: its MSE is " in still.notes[0]
    assert still.notes[1] == "no epoch was better on validation than ridge, so tiny forecasts what ridge does"
    assert model.mse == pytest.approx(ridge.mse, rel=2e-3)  # apart by the epsilon of the normalisation and float32
    fit(**{**inputs, "epochs": 8}, out=tmp_path / "moved", progress=lambda *a: seen.append(a))
    assert [s[:2] for s in seen] == [(epoch, 8) for epoch in range(1, 9)]
    got = run.load(tmp_path / "moved")
    losses = [s[3] for s in seen]
    assert got.spec.best_epoch == 1 + int(np.argmin(losses)) > 0  # above 0: better than ridge on validation


def test_the_same_command_gives_the_same_bits_and_another_seed_others(
    finished: FitResult, inputs: dict[str, Any], tmp_path: Path
) -> None:
    fit(**inputs, out=tmp_path / "again")
    fit(**inputs, out=tmp_path / "other", seed=1)
    for name in (run.MODEL, run.SERIES, run.SPEC):
        assert (tmp_path / "again" / name).read_bytes() == (finished.folder / name).read_bytes()
    assert (tmp_path / "other" / run.MODEL).read_bytes() != (finished.folder / run.MODEL).read_bytes()


def killed(inputs: dict[str, Any], out: Path, epoch: int, **more: Any) -> None:
    """Run fit in a process of its own that kills itself, without warning, after an epoch."""
    program = textwrap.dedent(f"""
        import json, os, signal, sys, torch
        from pathlib import Path
        from edgepass.series.fit import fit
        torch.set_num_threads({torch.get_num_threads()})
        settings = json.loads(sys.argv[1])
        settings["csv"] = Path(settings["csv"])
        def progress(at, *_):
            if at == {epoch}:
                os.kill(os.getpid(), signal.SIGKILL)
        fit(**settings, out=Path({str(out)!r}), progress=progress)
    """)
    settings = json.dumps({**inputs, **more, "csv": str(inputs["csv"])})
    done = subprocess.run([sys.executable, "-c", program, settings], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_run_continues_to_the_bits_of_one_that_was_not(
    finished: FitResult, inputs: dict[str, Any], tmp_path: Path, epoch: int
) -> None:
    killed(inputs, tmp_path / "RUN", epoch)
    assert [f.name for f in (tmp_path / "RUN").iterdir()] == [run.STATE]
    with pytest.raises(InputError, match="not finished; run the same `edgepass fit` again"):
        run.load(tmp_path / "RUN")
    with pytest.raises(InputError, match=r"unfinished run of another command \(it differs in horizon\)"):
        fit(**{**inputs, "horizon": 6}, out=tmp_path / "RUN")
    seen: list[int] = []
    fit(**inputs, out=tmp_path / "RUN", progress=lambda at, *_: seen.append(at))
    assert seen == list(range(epoch + 1, 4))
    for name in (run.MODEL, run.SPEC):
        assert (tmp_path / "RUN" / name).read_bytes() == (finished.folder / name).read_bytes()
    assert not (tmp_path / "RUN" / run.STATE).exists()


def test_a_spoilt_state_is_refused_and_overwrite_starts_over(
    finished: FitResult, inputs: dict[str, Any], tmp_path: Path
) -> None:
    for spoilt in (b"", b"nonsense" * 9):
        (tmp_path / run.STATE).write_bytes(spoilt)
        with pytest.raises(InputError, match=r"no training state .* start over with --overwrite"):
            fit(**inputs, out=tmp_path)
    fit(**inputs, out=tmp_path, overwrite=True)
    assert (tmp_path / run.MODEL).read_bytes() == (finished.folder / run.MODEL).read_bytes()


def test_a_finished_folder_is_kept_unless_told_otherwise(copy: Path, inputs: dict[str, Any]) -> None:
    before = (copy / run.SPEC).read_bytes()
    with pytest.raises(InputError, match="already holds a finished run"):
        fit(**inputs, out=copy, seed=3)
    assert (copy / run.SPEC).read_bytes() == before
    fit(**inputs, out=copy, seed=3, overwrite=True)
    assert run.load(copy).spec.seed == 3


def test_folders_that_are_something_else_are_left_alone(tmp_path: Path, inputs: dict[str, Any]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files \(thesis.tex\)"):
        fit(**inputs, out=tmp_path)
    with pytest.raises(InputError, match="cannot be made a folder"):
        fit(**inputs, out=tmp_path / "thesis.tex")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": -1}, "epochs is -1"),
        ({"batch": 0}, "batch is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"lookback": 700}, "900 rows; lookback 700 and horizon 5 with split 70/10/20 need 1008"),
        ({"split": "ett"}, "900 rows; .* need 14400"),
        ({"preset": "single-z"}, "no preset 'single-z'"),
        ({"columns": ["c"]}, "no column 'c'"),
        ({"preset": "looped-s", "passes": 2}, "the passes of 'looped-s' are arranged as 'looped'"),
        ({"preset": "odd.toml"}, "3 heads do not divide 10 channels"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: dict[str, Any], change: dict[str, Any], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd.toml").write_text('dim = 10\npasses = [{ mixer = { name = "local_attention", heads = 3 } }]\n')
    with pytest.raises(InputError, match=says):
        fit(**{**inputs, **change}, out=tmp_path / "RUN")
    assert not (tmp_path / "RUN").exists()


@pytest.mark.parametrize("name", [run.MODEL, run.SERIES, run.SPEC])
def test_a_file_that_is_cut_short_is_refused(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    for cut in (whole[:-1], whole[: len(whole) // 2], b"", bytes([whole[0] ^ 1]) + whole[1:]):
        if cut.strip() == whole.strip():
            continue
        (copy / name).write_bytes(cut)
        with pytest.raises(InputError, match=name):
            run.load(copy)
    (copy / name).unlink()
    with pytest.raises(InputError, match=name):
        run.load(copy)


def test_a_spec_of_another_model_is_refused(copy: Path) -> None:
    spec = json.loads((copy / run.SPEC).read_bytes())
    for change, says in (
        ({"horizon": 6}, "does not hold the model"),
        ({"rows": 5}, "not what spec.json tells of"),
        ({"config": {**spec["config"], "dim": 7}}, "2 heads do not divide 7 channels"),
        ({"schema": 2}, "cannot be understood"),
        ({"scaler": None}, "cannot be understood"),
    ):
        (copy / run.SPEC).write_text(json.dumps({**spec, **change}))
        with pytest.raises(InputError, match=says):
            run.load(copy)
    (copy / run.SPEC).write_text(json.dumps({**spec, "added_later": 1}))
    assert run.load(copy).spec.horizon == 5


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="is no RUN/ folder"):
            run.load(folder)


def test_the_spec_says_where_everything_came_from(finished: FitResult) -> None:
    spec = msgspec.json.decode((finished.folder / run.SPEC).read_bytes())
    assert spec["schema"] == 1
    assert spec["split"] == "70/10/20"
    assert set(spec["versions"]) == {"edgepass", "python", "numpy", "torch"}
    assert len(spec["data_sha256"]) == 64
    assert spec["metrics"][-1]["name"] == "tiny"
    weights = load_file(finished.folder / run.MODEL)
    assert weights["normalise.mean_C"].tolist() == pytest.approx(spec["scaler"]["mean"], rel=1e-6)
