"""A content hash of a .mlpackage that is equal for equal models.

Raw bytes differ between two conversions of one model: Manifest.json has fresh identifiers, protobuf writes its maps in
any order, and the metadata names versions. Hashed are the weight files and every field of the specification that
changes what the model does, in an order of our own, so that it does not hang on protobuf's serialiser either.
"""

import hashlib
from pathlib import Path
from typing import Any

from edgepass.runtimes.coreml._file import open_package

_SKIPPED = {"metadata", "buildInfo"}


def content_sha256(path: Path) -> str:
    """Hexadecimal sha256 of what the model computes. Raises ArtifactError for what is not an ML program."""
    package = open_package(path)
    digest = hashlib.sha256()
    _message(digest, package.spec)
    for file in sorted(p for p in package.weights.rglob("*") if p.is_file()):
        _token(digest, file.relative_to(package.weights).as_posix())
        with file.open("rb") as stream:
            _token(digest, hashlib.file_digest(stream, "sha256").hexdigest())
    return digest.hexdigest()


def _message(digest: Any, message: Any) -> None:
    for field, value in message.ListFields():  # by field number
        if field.name in _SKIPPED:
            continue
        _token(digest, f"{field.number}")
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key in sorted(k for k in value if k not in _SKIPPED):
                _token(digest, f"{key}")
                _value(digest, field.message_type.fields_by_name["value"], value[key])
        elif field.is_repeated:
            _token(digest, f"{len(value)}")
            for item in value:
                _value(digest, field, item)
        else:
            _value(digest, field, value)
    _token(digest, "end")


def _value(digest: Any, field: Any, value: Any) -> None:
    if field.message_type is not None:
        _message(digest, value)
    elif isinstance(value, bytes):
        _token(digest, hashlib.sha256(value).hexdigest())
    else:
        _token(digest, repr(value))


def _token(digest: Any, text: str) -> None:
    # The length in front keeps two neighbours from reading as another pair.
    data = text.encode()
    digest.update(f"{len(data)}:".encode() + data)
