"""The number format of each weight, read from a file, beside the one that was asked for."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepass.describing import auditing
from edgepass.judging import manifest
from edgepass.judging.manifest import ArtifactRecord, Audit, Manifest, ModelInfo, Weight
from runtime_tests.conftest import Done

Cli = Callable[..., Done]


def written(path: Path, kinds: dict[str, type], table: int = 63) -> Path:
    """An .onnx of products with matrices [7, 7], each of its type, and a table that is only added."""
    nodes, constants, last = [], [], "x"
    for name, kind in kinds.items():
        values = np.arange(49).reshape(7, 7).astype(kind)
        constants.append(numpy_helper.from_array(values, name))
        read = name
        if kind is np.int8:
            constants.append(numpy_helper.from_array(np.float32(0.5), f"{name}_scale"))
            nodes.append(helper.make_node("DequantizeLinear", [name, f"{name}_scale"], [f"{name}_float"]))
            read = f"{name}_float"
        nodes.append(helper.make_node("MatMul", [last, read], [f"y_{name}"]))
        last = f"y_{name}"
    constants.append(numpy_helper.from_array(np.ones((table, 7), np.float32), "table"))
    nodes.append(helper.make_node("Add", [last, "table"], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [table, 7]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_what_no_operation_reads_as_a_weight_is_not_asked_for(tmp_path: Path) -> None:
    (found,) = auditing.audits(written(tmp_path / "m.onnx", {"a": np.int8, "b": np.int8}), "int8")
    assert (found.verdict, found.audit.coverage, found.audit.requested) == ("pass", 1.0, "static_wi8_ai8")
    assert {kind.dtype: kind.weights for kind in found.formats} == {"int8": 2, "float32": 1}
    assert sum(kind.share for kind in found.formats) == pytest.approx(1.0)


def test_a_weight_that_stayed_in_float_is_named(edgepass: Cli, tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", {"a": np.int8, "left": np.float32})
    done = edgepass("audit", str(path), "--recipe", "w8a8")
    assert done.code == 2
    assert "audited coverage is 50.0%, less than 100.0%: left is float32" in " ".join(done.out.split())
    assert "asked for: int8" in done.out
    (told,) = json.loads(edgepass("audit", str(path), "--recipe", "fp32", "--json").out)
    assert told["audit"]["coverage"] == 0.5


def test_a_file_alone_is_not_evaluated_without_a_recipe(edgepass: Cli, tmp_path: Path) -> None:
    done = edgepass("audit", str(written(tmp_path / "m.onnx", {"a": np.float32})))
    assert done.code == 5
    assert "nothing was asked for that could be held against it; give --recipe" in done.out


def test_the_manifest_says_what_was_asked_for_and_why_not(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", {"a": np.int8, "kept": np.float32})
    asked = Weight(name="net.a.weight", shape=(7, 7), dtype="int8", requested="int8")
    kept = Weight(name="net.kept.weight", shape=(7, 7), dtype="float32", reason="kept in float32 by the recipe")
    record = ArtifactRecord(
        target="onnx",
        file=path.name,
        bytes=path.stat().st_size,
        content_sha256="",
        recipe="static_wi8_ai8",
        verdict="pass",
        reasons=[],
        runtime="onnx",
        audit=Audit(requested="static_wi8_ai8", weights=[asked, kept], coverage=1.0),
    )
    model = ModelInfo(name="m", source="m", inputs=[], outputs=[], parameters=98)
    made = Manifest(verdict="pass", model=model, versions={}, seed=0, gates={}, data=[], artifacts=[record])
    made.write(tmp_path)
    for place in (tmp_path, path):
        (found,) = auditing.audits(place)
        assert (found.verdict, found.audit.coverage) == ("pass", 1.0)
        assert [w.reason for w in found.audit.weights[:2]] == [None, "kept in float32 by the recipe"]
    written(path, {"a": np.float32, "kept": np.float32})  # another file under the name
    (found,) = auditing.audits(path)
    assert found.verdict == "fail"
    assert "net.a.weight is float32" in found.reasons[0]
    unwritten = replace(record, file="", bytes=0, verdict="fail")
    replace(made, artifacts=[unwritten, record]).write(tmp_path)
    assert len(auditing.audits(tmp_path)) == 1
    assert manifest.read(tmp_path).artifacts[0] == unwritten


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["audit", "nowhere.onnx"], "no file nowhere.onnx"),
        (["audit", "."], "holds no manifest.json"),
        (["audit", "a.txt"], "is of no kind that is known here"),
        (["diff", "a.onnx", "b.onnx"], "no file a.onnx"),
        (["diff", "a.onnx"], "Missing argument 'B'"),
    ],
)
def test_bad_input_is_one_sentence(
    edgepass: Cli, arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = edgepass(*arguments)
    assert done.code == 3
    assert sentence in done.sentence
