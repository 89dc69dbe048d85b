"""What a Core ML package holds, its hash, and that a damaged one is refused in a sentence."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepass.errors import ArtifactError
from edgepass.runtimes import coreml
from edgepass.runtimes.coreml._file import open_package, quiet
from edgepass.runtimes.coreml._hash import content_sha256
from runtime_tests.conftest import ROOT

with quiet():
    import coremltools as ct
from runtime_tests.runtimes.coreml.converted import make
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS

pytestmark = COREMLTOOLS_WARNS


def test_absent_damaged_and_other_files_are_refused(whole: Path, tmp_path: Path) -> None:
    weights = whole / "Data/com.apple.CoreML/weights/weight.bin"
    content, model = weights.read_bytes(), whole / "Data/com.apple.CoreML/model.mlmodel"

    def refused(match: str, path: Path = whole) -> None:
        for use in (lambda p: coreml.load(p, 1), coreml.inspect, content_sha256):
            with pytest.raises(ArtifactError, match=match):
                use(path)

    refused("does not exist", tmp_path / "none.mlpackage")
    (tmp_path / "empty.mlpackage").mkdir()
    refused(r"not a complete .mlpackage \(no Manifest.json\)", tmp_path / "empty.mlpackage")
    (tmp_path / "file.mlpackage").write_bytes(b"\x00" * 64)
    refused("not a complete .mlpackage", tmp_path / "file.mlpackage")
    for size in (0, 64, 100, len(content) // 2, len(content) - 64):
        weights.write_bytes(content[:size])
        refused("cut short or damaged")
    weights.write_bytes(bytes(64) + b"\xff" * (len(content) - 64))
    refused("cut short or damaged")
    weights.unlink()
    refused("lacks its weights weight.bin")
    weights.write_bytes(content)
    coreml.load(whole, 1)
    kept = model.read_bytes()
    model.write_bytes(b"\xff" * 100)
    refused("not a Core ML protobuf")
    model.write_bytes(kept[: len(kept) // 2])
    refused("not a Core ML protobuf")
    model.write_bytes(b"")
    refused("holds no model")
    model.unlink()
    refused("no model.mlmodel")
    (whole / "Manifest.json").write_text("{")
    refused("Manifest.json is damaged")


def test_a_neural_network_is_refused_by_name(whole: Path) -> None:
    spec = ct.proto.Model_pb2.Model()
    spec.specificationVersion = 4
    spec.neuralNetwork.layers.add(name="nothing")
    (whole / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())
    with pytest.raises(ArtifactError, match="holds a Core ML neuralNetwork, not an ML program; convert it with"):
        coreml.load(whole, 1)


def test_contents_are_read_from_the_file(packages: Callable[..., Path]) -> None:
    contents = coreml.inspect(packages("transformer"))
    model = make("transformer")
    assert [(s.name, s.shape, s.dtype) for s in contents.inputs] == [("x_bt", (1, 12, 5), "float32")]
    assert [(s.shape, s.dtype) for s in contents.outputs] == [((1, 12, 3), "float32")]
    assert sum(np.prod(w.shape) for w in contents.weights) == sum(p.numel() for p in model.parameters())
    assert {w.dtype for w in contents.weights} == {"float32"}
    assert contents.ops["linear"] == 5
    assert "const" not in contents.ops
    assert contents.flops["linear"] == 2 * 12 * (5 * 16 + 16 * 48 + 16 * 32 + 32 * 16 + 16 * 3)
    assert contents.flops["scaled_dot_product_attention"] == 2 * 2 * 2 * 12 * 12 * 8
    # While qkv is made its input, its output and the residual are alive: 12 steps of 16 + 48 + 16 floats.
    assert contents.planned_bytes >= 12 * (16 + 48 + 16) * 4
    assert contents.planned_bytes <= 12 * (16 + 48 + 48 + 16) * 4
    assert (contents.delegated_flops, contents.fallbacks) == (None, [])


def test_dynamic_dimensions_are_null_in_the_contents(packages: Callable[..., Path]) -> None:
    contents = coreml.inspect(packages("transformer", dynamic=True))
    assert contents.inputs[0].shape == (None, 12, 5)


ELSEWHERE = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
import numpy as np
from edgepass.runtimes import coreml
there, here = Path(sys.argv[1]), Path(sys.argv[2])
coreml.prepare(Path())
coreml.inspect(here)
coreml.load(here, 1)([np.zeros((1, 12, 5), np.float32)])
for stream in (sys.stdout, sys.stderr):
    print("judged", file=stream, flush=True)
warnings.simplefilter("ignore")
from runtime_tests.runtimes.coreml.converted import convert, ct, make
convert(make("transformer"), ct.precision.FLOAT16).save(str(there))
"""


@pytest.fixture(scope="module")
def elsewhere(packages: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Another process that judges a package, then converts the same model; the new package and what it printed."""
    there = tmp_path_factory.mktemp("elsewhere") / "there.mlpackage"
    arguments = [str(there), str(packages("transformer", "FLOAT16"))]
    command = [sys.executable, "-c", ELSEWHERE, *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    return there, done.stdout, done.stderr


def test_judging_prints_nothing_and_warns_of_nothing(elsewhere: tuple[Path, str, str]) -> None:
    _, out, err = elsewhere
    assert out.startswith("judged")
    assert err.startswith("judged")


def test_the_hash_is_equal_across_processes_and_tells_models_apart(
    packages: Callable[..., Path], elsewhere: tuple[Path, str, str]
) -> None:
    here, there = packages("transformer", "FLOAT16"), elsewhere[0]
    manifests = [json.loads((p / "Manifest.json").read_bytes())["rootModelIdentifier"] for p in (here, there)]
    assert manifests[0] != manifests[1]
    assert content_sha256(here) == content_sha256(there)
    assert len({content_sha256(p) for p in (here, packages("transformer"), packages("convolutions", "FLOAT16"))}) == 3


def test_the_hash_sees_one_changed_weight_and_one_changed_operation(whole: Path) -> None:
    before = content_sha256(whole)
    weights = whole / "Data/com.apple.CoreML/weights/weight.bin"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = content_sha256(whole)
    content[-1] ^= 1
    weights.write_bytes(content)
    assert content_sha256(whole) == before != changed
    model = whole / "Data/com.apple.CoreML/model.mlmodel"
    spec = open_package(whole).spec
    spec.description.metadata.author = "someone"
    model.write_bytes(spec.SerializeToString())
    assert content_sha256(whole) == before
    (function,) = spec.mlProgram.functions.values()
    operations = function.block_specializations[function.opset].operations
    next(o for o in operations if o.type == "gelu").type = "silu"
    model.write_bytes(spec.SerializeToString())
    assert content_sha256(whole) != before
