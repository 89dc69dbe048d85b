"""Opens a .mlpackage: finds its parts, and refuses what is absent, truncated or something else, in a sentence."""

import json
import logging
import os
import struct
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepass.errors import ArtifactError, DamagedError, first_line
from edgepass.runtimes import method_of

_SENTINEL = 0xDEADBEEF
_METADATA = struct.Struct("<IIQQ")  # MILBlob/Blob/StorageFormat.hpp: sentinel, dtype, size in bytes, offset


@dataclass(frozen=True, kw_only=True)
class Package:
    """The specification (a Core ML Model protobuf), the folder of the weights that it points into, and a function."""

    path: Path
    spec: Any
    weights: Path
    main: str

    @property
    def methods(self) -> list[str]:
        """Names of the functions, where there are several."""
        return [function.name for function in self.spec.description.functions]

    @property
    def description(self) -> Any:
        """Inputs, outputs and states of the function."""
        for function in self.spec.description.functions:
            if function.name == self.main:
                return function
        return self.spec.description


@contextmanager
def quiet() -> Iterator[None]:
    """Silence coremltools, and the torchao that it imports, on the versions that they were not tested with."""
    loggers = [logging.getLogger(name) for name in ("coremltools", "torchao", "torch.utils._pytree")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def open_package(path: Path, method: str = "") -> Package:
    """Read and check a package, whose function `method` is asked for, or the default one.

    Raises ArtifactError; its weights are looked at but not loaded.
    """
    data = path / "Data"
    _refuse_links(path)
    try:
        manifest = json.loads((path / "Manifest.json").read_bytes())
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        if not (data / item).resolve().is_relative_to(data.resolve()):
            raise ArtifactError(f"{path} names {item!r} as its model, which is outside it; no other file is opened")
        content = (data / item).read_bytes()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = "does not exist" if not path.exists() else f"is not a complete .mlpackage ({_reason(error)})"
        raise DamagedError(f"{path} {why}") from None
    with quiet():
        from coremltools.proto import Model_pb2
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    spec: Any = Model_pb2.Model()  # protobuf makes its members when it is imported
    try:
        spec.ParseFromString(content)
    except DecodeError:
        raise DamagedError(f"{path} holds a model that is not a Core ML protobuf") from None
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise ArtifactError(
            f"{path} holds {'no model' if kind is None else f'a Core ML {kind}'}, not an ML program; "
            "convert it with minimum_deployment_target iOS15 or later"
        )
    held = [function.name for function in spec.description.functions]
    main = method_of(path, method, held, spec.description.defaultFunctionName or "main")
    package = Package(path=path, spec=spec, weights=(data / item).parent / "weights", main=main)
    if package.main not in spec.mlProgram.functions:
        raise DamagedError(f"{path} lacks its function {package.main!r}")
    _check_weights(package)
    _check_as_apple_does(path)
    return package


def body(function: Any) -> Any:
    """The block of a function's protobuf that its opset selects."""
    return function.block_specializations[function.opset]


def operations(block: Any) -> Iterator[Any]:
    """Every operation of a block's protobuf and of the blocks inside it."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from operations(inner)


def kinds(package: Package) -> Counter[str]:
    """How many operations of each kind the function holds."""
    return Counter(o.type for o in operations(body(package.spec.mlProgram.functions[package.main])))


def _refuse_links(path: Path) -> None:
    """A link in a package leads to bytes that are not the package's; nothing that writes packages makes one."""
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            if (link := Path(folder) / name).is_symlink():
                raise ArtifactError(
                    f"{path} holds a link, {link.relative_to(path)}, and links are not followed; "
                    "put the file itself into the package"
                )


def _check_as_apple_does(path: Path) -> None:
    """Open the package with coremltools' package library, which is Core ML's own and refuses what Core ML refuses."""
    with quiet():
        from coremltools.libmodelpackage import ModelPackage
    try:
        ModelPackage(str(path)).getRootModel()
    except (RuntimeError, ValueError) as error:  # its messages may not be UTF-8
        raise DamagedError(f"{path} is refused by Core ML's package library ({first_line(error)})") from None


def _check_weights(package: Package) -> None:
    for file, offset in sorted(set(_blobs(package.spec.mlProgram))):
        path = package.weights / file.split("/")[-1]
        if not path.is_file():
            raise DamagedError(f"{package.path} lacks its weights {path.name}")
        size = path.stat().st_size
        with path.open("rb") as stream:
            stream.seek(offset)
            header = stream.read(_METADATA.size)
        whole = len(header) == _METADATA.size
        sentinel, _, length, start = _METADATA.unpack(header) if whole else (0, 0, 0, 0)
        if sentinel != _SENTINEL or start + length > size:
            raise DamagedError(
                f"{package.path} has weights that are cut short or damaged: {path.name} of {size} bytes has no tensor "
                f"at byte {offset}"
            )


def _blobs(program: Any) -> Iterator[tuple[str, int]]:
    for function in program.functions.values():
        for operation in operations(body(function)):
            values = list(operation.attributes.values())
            values += [b.value for a in operation.inputs.values() for b in a.arguments if b.HasField("value")]
            for value in values:
                if value.HasField("blobFileValue"):
                    yield value.blobFileValue.fileName, value.blobFileValue.offset


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"no {Path(error.filename).name}" if error.filename else str(error)
    return "its Manifest.json is damaged"
