"""A package is refused where Core ML refuses it, where it reaches out of itself, and where it says what is not so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepass.errors import ArtifactError
from edgepass.runtimes import coreml
from edgepass.runtimes.coreml._file import open_package


def edited(package: Path, change: Callable[[Any], None], encoding: str = "utf-8") -> None:
    path = package / "Manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_bytes(json.dumps(manifest).encode(encoding))


def respecified(package: Path, change: Callable[[Any], None]) -> None:
    spec = open_package(package).spec
    change(spec)
    (package / "Data/com.apple.CoreML/model.mlmodel").write_bytes(spec.SerializeToString())


@pytest.mark.parametrize(
    ("change", "encoding"),
    [
        (lambda m: None, "utf-16"),
        (lambda m: m.pop("fileFormatVersion"), "utf-8"),
        (lambda m: m.update(fileFormatVersion="9.0.0"), "utf-8"),
        (lambda m: m["itemInfoEntries"].update(more={"path": "none"}), "utf-8"),
    ],
)
def test_what_core_ml_refuses_is_refused(whole: Path, change: Callable[[Any], None], encoding: str) -> None:
    coreml.load(whole, 1)
    edited(whole, change, encoding)
    with pytest.raises(ArtifactError, match="refused by Core ML's package library"):
        coreml.load(whole, 1)


def test_a_model_outside_the_package_is_not_opened(whole: Path) -> None:
    def outside(manifest: Any) -> None:
        manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "../../model.mlmodel"

    (whole.parent / "model.mlmodel").write_bytes((whole / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    edited(whole, outside)
    with pytest.raises(ArtifactError, match="outside it"):
        coreml.inspect(whole)


def test_a_link_is_not_followed(whole: Path) -> None:
    weights = whole / "Data/com.apple.CoreML/weights/weight.bin"
    weights.rename(whole.parent / "weight.bin")
    weights.symlink_to(whole.parent / "weight.bin")
    for use in (coreml.inspect, lambda path: coreml.load(path, 1)):
        with pytest.raises(ArtifactError, match=r"holds a link, Data/com\.apple\.CoreML/weights/weight\.bin"):
            use(whole)


def test_an_operation_gives_what_it_declares(whole: Path) -> None:
    def other_size(spec: Any) -> None:
        function = spec.mlProgram.functions["main"]
        operations = function.block_specializations[function.opset].operations
        linear = next(o for o in operations if o.type == "linear")
        linear.outputs[0].type.tensorType.dimensions[-1].constant.size += 1

    respecified(whole, other_size)
    with pytest.raises(ArtifactError, match="Mismatch between var types"):
        coreml.inspect(whole)


@pytest.mark.parametrize("of", ["shape", "dataType"])
def test_an_output_is_what_the_package_declares(whole: Path, of: str) -> None:
    def other(spec: Any) -> None:
        array = spec.description.output[0].type.multiArrayType
        if of == "shape":
            array.shape[:] = [*array.shape[:-1], array.shape[-1] + 1]
        else:
            array.dataType = 131104  # int32

    coreml.inspect(whole)
    respecified(whole, other)
    with pytest.raises(ArtifactError, match="declares its output"):
        coreml.inspect(whole)
