"""The command line: exit codes, and the sentences a person sees."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgepass.errors import InputError
from runtime_tests.conftest import Done

Cli = Callable[..., Done]

FULL_DISK = ["sh", "-c", 'trap "" XFSZ; ulimit -f 4; exec "$@"', "sh", sys.executable, "-m", "edgepass"]
"""edgepass where no file grows beyond 2 kB; set by a shell, as a fork of these tests warns beside a loaded JAX."""

LINEAR = """
import torch
class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)
    def forward(self, x):
        {body}
def get_model():
    torch.manual_seed(0)
    return Small()
def get_args():
    return (torch.ones(1, 8),)
"""


def user_file(folder: Path, body: str = "return self.layer(x)", more: str = "") -> str:
    path = folder / "small.py"
    path.write_text(LINEAR.format(body=body) + more)
    return f"{path}:get_model"


def test_no_arguments_show_the_help(edgepass: Cli) -> None:
    done = edgepass()
    assert done.code == 3
    assert "export" in done.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["exprot"], "No such command 'exprot'"),
        (["export", "single-s"], "Missing option '-o'"),
        (["export", "single-s", "-o", "o", "--max-size", "12 stone"], "is not a size; write it as 300KB"),
        (["export", "single-s", "-o", "o", "--max-latency", "12"], "is not a time; write it as 2ms"),
        (["export", "single-s", "-o", "o", "--target", "tflight"], "no target 'tflight'; did you mean 'tflite'?"),
        (["export", "single-s", "-o", "o", "--recipe", "static_wi8"], "did you mean 'static_wi8_ai8'?"),
        (["export", "singel-s", "-o", "o"], "no preset 'singel-s'; did you mean 'single-s'?"),
        (["export", "nowhere/run", "-o", "o"], "no nowhere/run; give a preset, a RUN/ folder"),
        (["export", "model.py", "-o", "o"], "name the function in it that gives the model: model.py:get_model"),
        (["export", "model.py:get_model", "-o", "o"], "no file model.py"),
        (["export", "model.pt", "-o", "o"], "may be a pickle, which can run any code, so it is never opened"),
        (["export", "model.pt2", "-o", "o"], "no file model.pt2"),
        (["list", "mixer"], "no kind 'mixer'; did you mean 'mixers'?"),
        (["report", "nowhere"], "nowhere holds no manifest.json"),
        (["inspect", "a.txt"], "a.txt is of no kind that is known here"),
        (["inspect", "a.pte"], "no file a.pte"),
        (["validate", "a.pte"], "no file a.pte"),
        (["fit", "nowhere.csv", "--horizon", "8", "-o", "o"], "nowhere.csv"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_sentence_and_exit_3(
    edgepass: Cli, arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = edgepass(*arguments)
    assert done.code == 3, done
    assert sentence in done.sentence
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.parametrize(
    ("target", "recipe", "nearest"),
    [
        ("executorch", "weight_only_wi8_afp32", "dynamic_wi8_afp32"),
        ("coreml", "dynamic_wi8_afp32", "weight_only_wi8_afp32"),
    ],
)
def test_a_combination_that_a_target_cannot_do_is_refused_with_the_nearest(
    edgepass: Cli, target: str, recipe: str, nearest: str, tmp_path: Path
) -> None:
    done = edgepass("export", "single-s", "-o", tmp_path / "o", "--target", target, "--recipe", recipe)
    assert done.code == 3
    assert f"{target} cannot do {recipe}" in done.sentence
    assert f"the nearest recipe that it can is {nearest}" in done.sentence


def test_a_dynamic_batch_is_refused_where_no_target_can_hold_it(edgepass: Cli, tmp_path: Path) -> None:
    done = edgepass("export", "single-s", "-o", tmp_path / "o", "--target", "executorch:vulkan", "--max-batch", 4)
    assert done.code == 3
    assert "executorch:vulkan cannot hold a batch that varies" in done.sentence


@pytest.mark.parametrize(
    ("body", "more", "sentence"),
    [
        ("return self.layer(x)", "1 / 0", "small.py:14, `1 / 0` raises ZeroDivisionError"),
        ("return self.layer(x)", "get_model = 3", "there is no function 'get_model' in the file"),
        ("return self.layer(x)", "def get_model(): return 3", "gives a int; it must give a torch.nn.Module"),
        (
            "return self.layer(x)",
            "def get_args(): return 'x'",
            "must give a tuple of tensors, or a dictionary of arguments by name; it gives str",
        ),
        ("return self.layer(x) / 0 * 0", "", "the float32 model itself gives NaN or infinity in output 0"),
        (
            "self.seen = torch.cat([self.seen, x]); return self.layer(self.seen.sum(0))",
            "def get_model():\n m = Small(); m.register_buffer('seen', torch.zeros(1, 8)); return m",
            "makes its buffer seen, which is [1, 8], [2, 8] in forward, and a file has one shape for each tensor",
        ),
        ("return self.layer(x.T)", "", "small.py:8, `return self.layer(x.T)`: RuntimeError: "),
        (
            "return x if x.sum() > 0 else self.layer(x)",
            "",
            "small.py:8, `return x if x.sum() > 0 else self.layer(x)`: the control flow depends on the values of a",
        ),
        (
            "return self.layer(x)",
            "def get_eval_data(): return [(torch.ones(1, 9),)]",
            "sample 0 is float32[1, 9], but the model was called with float32[1, 8]",
        ),
        (
            "return self.layer(x)",
            "def get_eval_data(): return [(torch.ones(1, 8, dtype=torch.float64),)]",
            "sample 0 is float64[1, 8], but the model was called with float32[1, 8]",
        ),
        ("return self.layer(x)", "import sys; sys.exit(0)", "`import sys; sys.exit(0)` raises SystemExit: 0"),
        (
            "return self.layer(x)",
            "def get_eval_data(): return 3",
            "get_eval_data gives int; it must give argument tuples",
        ),
        (
            "return self.layer(x)",
            "def get_eval_data(): yield 1 / 0",
            "get_eval_data(): yield 1 / 0` raises ZeroDivision",
        ),
        (
            "return self.layer(x)",
            "def get_eval_data(): return [((torch.ones(1, 8),), torch.ones(n)) for n in (1, 2)]",
            "get_eval_data gives targets of different shapes",
        ),
        (
            "return self.layer(x)",
            "def get_eval_data(): return [((torch.ones(1, 8),), torch.ones(3))]",
            "targets float32[1, 3] do not fit outputs float32[1, 4]; give targets shaped as the first output",
        ),
        (
            "return self.layer(x)",
            "def get_args(): return (torch.ones(1, 8, dtype=torch.bfloat16),)",
            "small.py:get_args gives bfloat16, which no target takes as an input; let the model take float32",
        ),
    ],
)
def test_a_model_that_cannot_be_used_is_one_sentence(
    edgepass: Cli, body: str, more: str, sentence: str, tmp_path: Path
) -> None:
    done = edgepass("export", user_file(tmp_path, body, more), "-o", tmp_path / "o", "--recipe", "fp32")
    assert done.code == 3, done
    assert sentence in done.sentence
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["small.py"]


def test_that_there_are_no_calibration_data_is_told_before_any_work(edgepass: Cli, tmp_path: Path) -> None:
    done = edgepass("export", user_file(tmp_path, "return self.layer(x)", ""), "-o", tmp_path / "o")
    assert done.code == 3, done
    assert "static_wi8_ai8 needs calibration data; give --calibration-data" in done.sentence
    assert "capturing" not in done.err


def test_an_output_folder_that_exists_is_kept(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "precious").write_text("mine")
    for option in ("--json", "--overwrite"):
        done = edgepass("export", "single-s", "-o", tmp_path / "o", option)
        assert done.code == 3
        assert "o exists and is not an export's alone: it holds precious; name another -o" in done.sentence
        assert (tmp_path / "o" / "precious").read_text() == "mine"


def test_only_what_an_export_wrote_is_ever_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepass import staging

    out = tmp_path / "o"
    text = b"""{"verdict": "pass", "model": {"name": "m", "source": "m", "inputs": [], "outputs": [], "parameters": 1},
        "versions": {}, "seed": 0, "gates": {}, "data": [], "artifacts": []}"""
    with staging.folder(out) as folder:
        (folder / "manifest.json").write_bytes(text)
    with pytest.raises(InputError, match="add --overwrite"):
        staging.refuse_existing(out, overwrite=False)
    with staging.folder(out, overwrite=True) as folder:
        (folder / "manifest.json").write_bytes(text + b" ")
    assert (out / "manifest.json").read_bytes() == text + b" "
    assert [p.name for p in tmp_path.iterdir()] == ["o"]
    (out / "notes.txt").touch()
    (tmp_path / "link").symlink_to("nowhere")
    monkeypatch.chdir(out)
    for place in (out, Path("."), Path(".."), Path("/"), Path("/tmp"), Path.home(), tmp_path / "link"):
        with pytest.raises(InputError, match="name a"):
            staging.refuse_existing(place, overwrite=True)  # only asked, never let loose on such places


def test_a_users_file_may_import_its_neighbours_late_and_be_called_like_a_package(
    edgepass: Cli, tmp_path: Path
) -> None:
    (tmp_path / "neighbour.py").write_text("width = 4")
    text = LINEAR.format(body="return self.layer(x)").replace("return Small()", "import neighbour; return Small()")
    (tmp_path / "safetensors.py").write_text(text)
    done = edgepass("export", f"{tmp_path}/safetensors.py:get_model", "-o", tmp_path / "o", "--eval-data", "absent.npz")
    assert "no file absent.npz" in done.sentence, "all before the data went well"
    assert not hasattr(sys.modules["safetensors"], "get_model")
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize("name", ["bad.npz", "bad.safetensors", "bad.csv", "bad.txt", "absent.npz"])
def test_data_that_cannot_be_read_is_one_sentence(edgepass: Cli, name: str, tmp_path: Path) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"\x00not data\n" * 9)
    done = edgepass("export", user_file(tmp_path), "-o", tmp_path / "o", "--eval-data", tmp_path / name)
    assert done.code == 3
    assert name in done.sentence


def test_an_npz_that_is_empty_or_an_npy_is_one_sentence(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty.npz").touch()
    with (tmp_path / "npy.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    for name in ("empty.npz", "npy.npz"):
        done = edgepass("export", user_file(tmp_path), "-o", tmp_path / "o", "--eval-data", tmp_path / name)
        assert done.code == 3
        assert f"{name} is not an .npz of plain arrays" in done.sentence


def test_inputs_of_a_file_are_in_the_order_of_their_numbers() -> None:
    from edgepass.samples import natural

    assert sorted([f"input_{i}" for i in range(12)], key=natural) == [f"input_{i}" for i in range(12)]


def test_an_npz_with_pickled_objects_is_refused(edgepass: Cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", input_0=np.array([{"a": 1}], dtype=object))
    done = edgepass("export", user_file(tmp_path), "-o", tmp_path / "o", "--eval-data", tmp_path / "x.npz")
    assert done.code == 3
    assert "x.npz is not an .npz of plain arrays" in done.sentence


@pytest.mark.parametrize("suffix", [".pte", ".tflite", ".onnx", ".pt2", ".mlpackage"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"PK\x03\x04truncated"])
def test_a_broken_artifact_is_one_sentence(edgepass: Cli, suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    done = edgepass("inspect", path)
    assert done.code == 3, done
    assert path.name in done.sentence


def test_a_pt2_with_a_pickle_inside_is_not_opened(edgepass: Cli, tmp_path: Path) -> None:
    path, witness = tmp_path / "evil.pt2", tmp_path / "ran"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/data.pkl", f"cos\nsystem\n(S'touch {witness}'\ntR.")
        archive.writestr("evil/version", "3\n")
    done = edgepass("export", path, "-o", tmp_path / "o")
    assert done.code == 3
    assert "evil.pt2" in done.sentence
    assert not witness.exists()


def test_list_and_json_are_plain(edgepass: Cli) -> None:
    assert "static_wi8_ai8" in [line.split()[0] for line in edgepass("list", "recipes").out.splitlines()]
    targets = json.loads(edgepass("list", "targets", "--json").out)
    names = ["coreml", "executorch", "executorch:coreml", "executorch:vulkan", "onnx", "tflite"]
    assert [target["name"] for target in targets] == names


def test_a_missing_extra_names_the_pip_line(edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    done = edgepass("export", user_file(tmp_path), "-o", tmp_path / "o", "--target", "tflite", "--recipe", "fp32")
    assert done.code == 4
    assert "litert-torch is not installed: pip install 'edgepass[tflite]'" in done.sentence
    assert not (tmp_path / "o").exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    model = user_file(tmp_path)
    command = [*FULL_DISK, "export", model, "-o", "o", "--target", "onnx", "--recipe", "fp32"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "no room to write" in Done(3, "", done.stderr).sentence
    assert not [p for p in tmp_path.iterdir() if p.name not in ("small.py", "__pycache__")]


@pytest.mark.export
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_export_leaves_nothing_that_looks_finished(sign: signal.Signals, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "edgepass",
        "export",
        "single-xs",
        "-o",
        "o",
        "--target",
        "tflite",
        "--recipe",
        "fp32",
    ]
    child = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("writing"):
            break
    os.kill(child.pid, sign)
    rest = child.stderr.read()
    code = child.wait(60)
    child.stderr.close()
    assert not (tmp_path / "o").exists()
    if sign == signal.SIGINT:
        assert code == 130
        assert "stopped; nothing that looks finished was left" in rest
        assert not list(tmp_path.iterdir())
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["o"], "what the killed run left is gone"


def test_the_published_schema_holds_the_manifest() -> None:
    from edgepass.judging.manifest import Manifest, schema

    properties = schema()["$defs"]["Manifest"]["properties"]
    assert {"schema", "verdict", "model", "versions", "seed", "data", "artifacts"} <= set(properties)
    assert msgspec.json.schema(Manifest) == schema()


def test_a_full_disk_stops_a_fit_in_one_sentence(tmp_path: Path) -> None:
    rows = [f"{i % 7 + 0.1 * (i % 5)}" for i in range(200)]
    (tmp_path / "x.csv").write_text("\n".join(["a", *rows]))
    command = [*FULL_DISK, "fit", "x.csv", "-o", "o", "--horizon", "2", "--lookback", "8"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "no room to write o" in Done(3, "", done.stderr).sentence


def test_a_folder_whose_model_is_elsewhere_says_so(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(
        """{"verdict": "pass", "model": {"name": "m", "source": "gone/run", "inputs": [], "outputs": [],
        "parameters": 1}, "versions": {}, "seed": 0, "gates": {}, "data": [], "artifacts": []}"""
    )
    done = edgepass("validate", tmp_path)
    assert done.code == 3
    assert "was made from gone/run, which cannot be had here" in done.sentence
    assert done.sentence.endswith("or give --reference")


def test_a_sample_of_a_scalar_is_a_tensor() -> None:
    from edgepass.samples import Samples

    (arguments,) = Samples(inputs=[np.ones((1,), np.float32)]).arguments()
    assert arguments[0].shape == ()


def test_a_header_may_hold_quoted_commas(tmp_path: Path) -> None:
    from edgepass.series.table import read_csv

    (tmp_path / "ä b.csv").write_text('"day, é","x,1"\n2024-01-01,1\n2024-01-02,2\n')
    assert read_csv(tmp_path / "ä b.csv").columns == ("x,1",)
