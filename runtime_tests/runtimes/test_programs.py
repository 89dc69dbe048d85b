"""A .pt2 is data: what in it would run code is refused before it is loaded."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepass.errors import ArtifactError
from edgepass.runtimes.eager import _archive


class TestPrograms:
    """A .pt2 that would run code of its own is refused before it is loaded."""

    def test_pickled_sample_inputs(self, files: Path, tmp_path: Path) -> None:
        made = tmp_path / "made"
        attack = b"cos\nmkdir\n(S'" + str(made).encode() + b"'\ntR."  # a pickle that calls os.mkdir
        path = _rewrite(files / "float.pt2", tmp_path, lambda n, b: attack if "sample_inputs" in n else b)
        with pytest.raises(ArtifactError, match="sample inputs is no whole zip archive"):
            _archive.load_program(path)
        assert not made.exists()

    def test_pickled_weights(self, files: Path, tmp_path: Path) -> None:
        def edit(name: str, data: bytes) -> bytes:
            return data.replace(b'"use_pickle": false', b'"use_pickle": true ') if "weights_config" in name else data

        with pytest.raises(ArtifactError, match=r"conv\.weight' is pickled"):
            _archive.load_program(_rewrite(files / "float.pt2", tmp_path, edit))

    @pytest.mark.parametrize("target", ["torch.os.system", "torch.ops.load_library", "torch.hub.load", "#x:y"])
    def test_calls_that_are_no_operators(self, files: Path, tmp_path: Path, target: str) -> None:
        def edit(name: str, data: bytes) -> bytes:
            return (
                data.replace(b"torch.ops.aten.relu.default", target.encode()) if name.endswith("model.json") else data
            )

        with pytest.raises(ArtifactError, match="is no operator"):
            _archive.load_program(_rewrite(files / "float.pt2", tmp_path, edit))

    @pytest.mark.parametrize("shape", ["__import__('os')", "Symbol('a b')", "lambdify(1)", "Symbol.__class__", "(", 3])
    def test_shapes_that_are_no_expressions(self, files: Path, tmp_path: Path, shape: object) -> None:
        def edit(name: str, data: bytes) -> bytes:
            if not name.endswith("models/model.json"):
                return data
            program = json.loads(data)
            todo = [program]
            while todo:
                item = todo.pop()
                if isinstance(item, dict):
                    item.update({"expr_str": shape} if "expr_str" in item else {})
                    todo.extend(item.values())
                elif isinstance(item, list):
                    todo.extend(item)
            return json.dumps(program).encode()

        with pytest.raises(ArtifactError, match="no expression of known symbols"):
            _archive.load_program(_rewrite(files / "dynamic.pt2", tmp_path, edit))

    @pytest.mark.parametrize(
        "part", ["data/aotinductor/model/x.so", "data/weights/model.pt", "data/constants/opaque_obj_0"]
    )
    def test_parts_that_hold_code(self, files: Path, tmp_path: Path, part: str) -> None:
        path = _rewrite(files / "float.pt2", tmp_path, lambda n, b: b, part)
        with pytest.raises(ArtifactError, match="can hold code"):
            _archive.load_program(path)

    def test_guards_are_not_executed(self, files: Path, tmp_path: Path, samples: np.ndarray) -> None:
        import torch

        made = tmp_path / "made"

        def edit(name: str, data: bytes) -> bytes:
            if not name.endswith("models/model.json"):
                return data
            return json.dumps({**json.loads(data), "guards_code": [f"__import__('os').mkdir({str(made)!r})"]}).encode()

        program = _archive.load_program(_rewrite(files / "float.pt2", tmp_path, edit))
        assert len(program.module()(torch.from_numpy(samples[0]))) == 2
        assert not made.exists()


def _rewrite(source: Path, folder: Path, edit: Callable[[str, bytes], bytes], *parts: str) -> Path:
    """A copy of the archive with every part edited, and new parts added."""
    path = folder / source.name
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(name, old.read(name)))
        root = old.namelist()[0].split("/")[0]
        for part in parts:
            new.writestr(f"{root}/{part}", b"x")
    return path
