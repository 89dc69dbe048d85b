"""What cannot be used is one sentence with exit code 3, and names what is at fault."""

import os
import shutil
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from edgepass import pipeline, samples
from edgepass.errors import DamagedError, InputError, MissingExtraError, not_imported
from edgepass.models import training
from edgepass.plan import Plan
from edgepass.quantize import recipe as recipes
from edgepass.runtimes import _child
from edgepass.runtimes.coreml._file import open_package
from runtime_tests.cli.test_users_code import user_file
from runtime_tests.conftest import Done

Cli = Callable[..., Done]
FP16 = resources.files("edgepass.quantize.recipes").joinpath("fp16.toml").read_text()


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("def get_args(): return (torch.ones(1, 8, device='meta'),)", "get_args gives a tensor in meta"),
        ("def get_args(): return (torch.eye(8).to_sparse(),)", "get_args gives a tensor in a sparse layout"),
        (
            "def get_calibration_data(): return [(torch.full((1, 8), v),) for v in (1.0, float('nan'), 2.0)]",
            "the calibration data hold NaN or infinity in input 0 of 1 of 3 samples, first of 1; mend the data",
        ),
    ],
)
def test_tensors_that_are_no_data(edgepass: Cli, tmp_path: Path, module: str, said: str) -> None:
    path = user_file(tmp_path / "m", module=module)
    done = edgepass("export", f"{path}:get_model", "-o", tmp_path / "out", "--target", "onnx")
    assert done.code == 3
    assert said in done.sentence


def test_a_folder_whose_name_is_not_utf8(edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / os.fsdecode(b"nu\xff")
    path = user_file(place)
    (place / "a.onnx").touch()
    (tmp_path / "a.py").write_text(path.read_text())
    for args, advice in (
        (("export", f"{path}:get_model", "-o", tmp_path / "out"), "move the model, or rename what is not"),
        (("export", f"{tmp_path / 'a.py'}:get_model", "-o", place / "out"), "name another -o"),
        (("inspect", place / "a.onnx"), "move the file, or rename what is not"),
        (("validate", place / "a.onnx", "--reference", "single-xs"), "move the file, or rename what is not"),
    ):
        done = edgepass(*args)
        assert done.code == 3
        assert "nu�" in done.sentence
        assert done.sentence.endswith(f"has a name that is not UTF-8, and no converter can take it; {advice}")
    monkeypatch.chdir(place)
    assert "name another -o" in edgepass("export", "single-xs", "-o", "out").sentence
    assert sorted(f.name for f in place.iterdir()) == ["a.onnx", path.name]


def test_what_is_not_there_is_told_before_what_it_was_made_from(edgepass: Cli, tmp_path: Path) -> None:
    assert "is of no kind that is known here" in edgepass("validate", tmp_path / "none").sentence
    assert "no file" in edgepass("validate", tmp_path / "none.onnx").sentence
    (tmp_path / "some.onnx").touch()
    said = edgepass("validate", tmp_path / "some.onnx").sentence
    assert said.endswith("some.onnx does not say which model it was made from; name it with --reference MODEL")


def test_a_recipe_that_is_not_utf8(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b'summary = "\xff"')
    done = edgepass("export", "single-xs", "-o", tmp_path / "out", "--recipe", tmp_path / "mine.toml")
    assert done.code == 3
    assert "mine.toml is not a recipe" in done.sentence


def test_two_recipes_of_one_name(edgepass: Cli, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.toml").write_text(FP16)
    with pytest.raises(InputError, match="2 recipes are called 'mine' and would be one file; rename one of them"):
        Plan.of(["onnx"], [str(tmp_path / folder / "mine.toml") for folder in ("a", "b")])


def test_a_recipe_of_the_users_own_is_read_again_from_its_text(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(FP16)
    mine = recipes.read(str(tmp_path / "mine.toml"))
    assert recipes.read("mine", {mine.name: mine.text}) == mine
    assert recipes.read("fp16").text == ""


@pytest.mark.export
def test_a_folder_made_by_a_recipe_of_the_users_own_is_judged_again(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(FP16)
    path, out = user_file(tmp_path / "m"), tmp_path / "out"
    args = ("--target", "onnx", "--recipe", tmp_path / "mine.toml")
    assert edgepass("export", f"{path}:get_model", "-o", out, *args).code == 0
    (tmp_path / "mine.toml").unlink()
    done = edgepass("validate", out, "--trust")
    assert done.code == 0, done.err


def test_an_npz_of_another_zip_version(edgepass: Cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", input_0=np.ones((4, 1, 8), np.float32))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[content.rfind(b"PK\x01\x02") + 6] = 255
    (tmp_path / "x.npz").write_bytes(content)
    with (tmp_path / "x.npz").open("rb") as file, pytest.raises(NotImplementedError):
        zipfile.ZipFile(file)
    path = user_file(tmp_path / "m")
    done = edgepass("export", f"{path}:get_model", "-o", tmp_path / "out", "--eval-data", tmp_path / "x.npz")
    assert done.code == 3
    assert "x.npz is not an .npz of plain arrays" in done.sentence


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (np.array(3), "x.npz has 4 samples, but its target is a single number; give one to each: [4, ...]"),
        (np.arange(3), "x.npz has 4 samples but 3 targets"),
        (
            np.array(["cat", "dog", "cat", "cow"]),
            "x.npz holds a target of <U3, which are no numbers that a file holds; give numbers",
        ),
        (np.ones(4, np.complex64), "x.npz holds a target of complex64, which are no numbers"),
        (np.ones(4, np.longdouble), "x.npz holds a target of float128, which are no numbers that a file holds"),
        (np.zeros(4, "datetime64[s]"), "x.npz holds a target of datetime64[s], which are no numbers"),
    ],
)
def test_targets_of_an_npz_that_are_no_numbers(edgepass: Cli, tmp_path: Path, target: np.ndarray, said: str) -> None:
    np.savez(tmp_path / "x.npz", input_0=np.ones((4, 1, 8), np.float32), target=target)
    path = user_file(tmp_path / "m")
    args = ("--target", "onnx", "--eval-data", tmp_path / "x.npz")
    done = edgepass("export", f"{path}:get_model", "-o", tmp_path / "out", *args)
    assert done.code == 3, done.err
    assert said in done.sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(1,), ()])
def test_a_number_is_no_stack_of_samples(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"x\.npz: input 0 is a single number; stack samples on a first dimension"):
        samples.check_arrays([np.array(3.0, np.float32)], (torch.ones(shape),), "x.npz")
    assert samples.check_arrays([np.ones(3, np.float32)], (torch.ones(shape),), "x.npz")[0].shape == (3, *shape)


@pytest.mark.parametrize("dim", [pytest.param(48_000_000, marks=pytest.mark.slow), 100_000_000_000, 2**62])
def test_a_preset_that_memory_does_not_hold(edgepass: Cli, tmp_path: Path, dim: int) -> None:
    text = resources.files("edgepass.models.presets").joinpath("single-s.toml").read_text()
    (tmp_path / "big.toml").write_text(text.replace("dim = 48", f"dim = {dim}"))
    done = edgepass("describe", tmp_path / "big.toml")
    assert done.code == 3
    assert "it needs more memory than there is; make its sizes smaller" in done.sentence


def test_memory_that_ends_anywhere_is_one_sentence(
    edgepass: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pipeline, "export", ended)
    done = edgepass("export", f"{user_file(tmp_path / 'm')}:get_model", "-o", tmp_path / "out", "--target", "onnx")
    assert done.code == 3
    assert "there is not enough memory for this; free some, allow more (ulimit -v)" in done.sentence
    assert not (tmp_path / "out").exists()


def test_a_package_that_does_not_load_is_not_called_absent() -> None:
    absent = not_imported(ModuleNotFoundError("no"), "onnx", "onnx")
    assert isinstance(absent, MissingExtraError)
    small = not_imported(ImportError("x.so: failed to map segment from shared object"), "onnx", "onnx")
    assert small.exit_code == 3
    assert "onnx cannot be loaded: x.so: failed to map segment" in str(small)


def test_a_full_folder_for_answers_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk is filled: the child ends without an answer, and the folder is said to have no byte free."""
    (tmp_path / "m.onnx").touch()
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(_child, "_spawn", lambda folder, request: 1)
    monkeypatch.setattr(_child.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(InputError, match="where a child leaves its answer, is full; make room there"):
        _child.inspect("onnx", tmp_path / "m.onnx")


DEEP = 200_000


def test_toml_that_is_nested_too_deeply(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f"keep = {'[' * DEEP}{']' * DEEP}")
    done = edgepass("export", "single-xs", "-o", tmp_path / "out", "--recipe", tmp_path / "mine.toml")
    assert done.code == 3, done.err
    assert "mine.toml is not a recipe" in done.sentence
    done = edgepass("describe", tmp_path / "mine.toml")
    assert done.code == 3, done.err
    assert "mine.toml' cannot be used" in done.sentence


def test_a_run_that_is_nested_too_deeply(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(f'{{"more": {"[" * DEEP}{"]" * DEEP}}}')
    done = edgepass("describe", tmp_path)
    assert done.code == 3, done.err
    assert "spec.json cannot be understood" in done.sentence


def test_a_training_state_that_is_nested_too_deeply(tmp_path: Path) -> None:
    deep = "[" * DEEP + "]" * DEEP
    (tmp_path / "state").write_bytes(save({}, metadata={"command": "{}", "at": deep}))
    with pytest.raises(InputError, match="state is no training state"):
        training.read(tmp_path / "state", {})


def test_a_package_whose_manifest_is_nested_too_deeply(tmp_path: Path) -> None:
    package = tmp_path / "m.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Manifest.json").write_text("[" * DEEP + "]" * DEEP)
    with pytest.raises(DamagedError, match=r"is not a complete \.mlpackage"):
        open_package(package)
