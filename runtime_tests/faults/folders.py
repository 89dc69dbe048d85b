"""In a folder that was written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from edgepass.judging import manifest
from runtime_tests.faults.fault import Fault, lister
from runtime_tests.faults.models import small

FAULTS: list[Fault] = []
fault = lister(FAULTS)


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The manifest, as a hand would."""
    path = folder / manifest.FILE
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


def first(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Of the first artifact."""
    return lambda content: change(content["artifacts"][0])


@fault("folder")
def golden_sample_stale(folder: Path) -> None:
    """A golden output is that of another run."""
    tensors = load_file(folder / manifest.GOLDEN)
    name = next(name for name in sorted(tensors) if name[0] not in "ir")
    save_file({**tensors, name: tensors[name] + np.float32(0.5)}, folder / manifest.GOLDEN)


@fault("folder")
def ratio_edited(folder: Path) -> None:
    """The manifest says 20 dB more."""
    edited(folder, first(lambda a: a["parity"].update(sqnr_db=a["parity"]["sqnr_db"] + 20)))


@fault("folder")
def size_edited(folder: Path) -> None:
    """The manifest says half the bytes."""
    edited(folder, first(lambda a: a.update(bytes=a["bytes"] // 2)))


@fault("folder")
def hash_edited(folder: Path) -> None:
    """The manifest has another content hash."""
    edited(folder, first(lambda a: a.update(content_sha256="0" * 64)))


@fault("folder")
def data_hash_edited(folder: Path) -> None:
    """The manifest has another hash of the evaluation data."""
    edited(folder, lambda content: content["data"][-1].update(sha256="0" * 64))


@fault("folder")
def failure_of_the_export(folder: Path) -> None:
    """The first file failed when it was exported, by its target's float32 file, which only an export makes."""
    why = "conversion: output_0 of this target's float32 file is 20.0 dB, less than 80.0 dB"
    edited(folder, first(lambda a: a.update(verdict="fail", reasons=[why])))


@fault("folder")
def recipe_edited(folder: Path) -> None:
    """The manifest says int8 of a float32 file."""
    edited(folder, first(lambda a: a.update(recipe="static_wi8_ai8")))


@fault("folder")
def target_edited(folder: Path) -> None:
    """The manifest names a target that there is not."""
    edited(folder, first(lambda a: a.update(target="nonsense")))


@fault("folder")
def schema_edited(folder: Path) -> None:
    """The manifest says that it is of schema 2."""
    edited(folder, lambda content: content.update(schema=2))


@fault("folder")
def name_leaves_the_folder(folder: Path) -> None:
    """The manifest lists a file beside the folder."""
    name = json.loads((folder / manifest.FILE).read_bytes())["artifacts"][0]["file"]
    shutil.copy(folder / name, folder.parent / name)
    edited(folder, first(lambda a: a.update(file=f"../{name}")))


@fault("folder")
def file_unlisted(folder: Path) -> None:
    """A file lies there that the manifest does not list."""
    (folder / "other.onnx").write_bytes(next(folder.glob("*.onnx")).read_bytes())


@fault("folder")
def file_removed(folder: Path) -> None:
    """A file that the manifest lists is gone."""
    next(folder.glob("*.onnx")).unlink()


@fault("folder")
def byte_edited(folder: Path) -> None:
    """One bit of the file's last weight is another."""
    file = next(folder.glob("*.onnx"))
    content = bytearray(file.read_bytes())
    weight = small().get_parameter("square.weight").detach().numpy()
    place = max(content.find(w.tobytes()) for w in (weight, np.ascontiguousarray(weight.T)))
    assert place > 0
    content[place] ^= 1
    file.write_bytes(bytes(content))


@fault("folder")
def files_exchanged(folder: Path) -> None:
    """Two files of one format have each other's name."""
    one, two = sorted(folder.glob("*.onnx"))
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)
