"""A model of several files is measured, hashed and confined as one."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepass.errors import ArtifactError
from edgepass.judging import files
from edgepass.runtimes import _child


def written(folder: Path) -> tuple[Path, Path]:
    """An .onnx that adds a constant which lies beside it, and that file."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.external_data_helper import set_external_data

    weight = numpy_helper.from_array(np.arange(63, dtype=np.float32), "w")
    data = folder / "weights.bin"
    data.write_bytes(weight.raw_data)
    set_external_data(weight, "weights.bin")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [63]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path, data


def test_size_and_hash_cover_the_weights_beside_an_onnx(tmp_path: Path) -> None:
    path, data = written(tmp_path)
    contents = _child.inspect("onnx", path)
    assert contents.beside == [data.name]
    assert files.size(path, contents.beside) == path.stat().st_size + 63 * 4
    before = files.sha256(path, contents.beside)
    data.write_bytes(data.read_bytes()[:-4] + b"\0\0\0\x40")
    assert files.sha256(path, contents.beside) != before
    assert files.sha256(path) == files.sha256(path, ())


@pytest.mark.parametrize("way", ["up", "absolute", "link"])
def test_weights_outside_the_folder_are_not_opened(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    location = {"up": "../weights.bin", "absolute": str(tmp_path / "weights.bin"), "link": "weights.bin"}[way]
    path, data = written(folder)
    os.replace(data, tmp_path / "weights.bin")
    if way == "link":
        data.symlink_to(tmp_path / "weights.bin")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    for use in (
        lambda: _child.inspect("onnx", path),
        lambda: _child.run("onnx", path, [np.zeros((1, 63), np.float32)]),
    ):
        with pytest.raises(ArtifactError, match="which is no file of its folder"):
            use()


def test_weights_that_are_not_there_are_told(tmp_path: Path) -> None:
    path, data = written(tmp_path)
    data.unlink()
    with pytest.raises(ArtifactError, match=r"lacks the file of its weights, weights\.bin"):
        _child.inspect("onnx", path)
