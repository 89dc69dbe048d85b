"""A file that runs at one batch and not at another costs no more than the other: its outputs stay, and why is said."""

from pathlib import Path

import numpy as np
import pytest

from edgepass.runtimes import _child
from edgepass.runtimes._child import Limits

onnx = pytest.importorskip("onnx", reason="pip install 'edgepass[onnx]'")
ONE, TWO, THREE = (np.ones((4, rows, 1), np.float32) for rows in (1, 2, 3))


def written(path: Path, turns: int) -> Path:
    """x [B, 1] doubled, after turns (B - 1) idle ones."""
    from onnx import TensorProto, helper

    def constant(name: str, value: int) -> object:
        tensor = helper.make_tensor(name, TensorProto.INT64, [1], [value])
        return helper.make_node("Constant", [], [name], value=tensor)

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["going"]),
            helper.make_node("Identity", ["state"], ["stated"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("stated", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["rows"], start=0, end=1),
            constant("one", 1),
            constant("turns", turns),
            helper.make_node("Sub", ["rows", "one"], ["more"]),
            helper.make_node("Mul", ["more", "turns"], ["count"]),
            helper.make_node("Loop", ["count", "", "x"], ["same"], body=body),
            helper.make_node("Add", ["same", "x"], ["y"]),
        ],
        "idle",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


def test_batches_come_in_their_order(tmp_path: Path) -> None:
    done = _child.run("onnx", written(tmp_path / "x.onnx", 1), [ONE], batches=[[THREE], [TWO]], latency_runs=1)
    assert [y.shape for y in done.outputs] == [(4, 1, 1)]
    shapes = [[y.shape for y in ys] for ys in done.batches if not isinstance(ys, str)]
    assert shapes == [[(4, 3, 1)], [(4, 2, 1)]]


def test_one_that_the_file_refuses_is_said(tmp_path: Path) -> None:
    wide = np.ones((4, 1, 2), np.float32)
    done = _child.run("onnx", written(tmp_path / "x.onnx", 1), [ONE], batches=[[wide], [TWO]], latency_runs=1)
    refused, right = done.batches
    assert "Got: 2 Expected: 1" in refused
    assert not isinstance(right, str)
    np.testing.assert_array_equal(right[0], 2 * TWO)


def test_one_that_never_ends_takes_nothing_else_with_it(tmp_path: Path) -> None:
    path = written(tmp_path / "x.onnx", 10**12)
    done = _child.run("onnx", path, [ONE], batches=[[TWO], [ONE]], latency_runs=1, limits=Limits(seconds=12))
    np.testing.assert_array_equal(done.outputs[0], 2 * ONE)
    assert all("ended, or was stopped, without an answer" in str(why) for why in done.batches)
