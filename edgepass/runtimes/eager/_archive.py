"""Reads a torch.export archive (.pt2) without letting it run code of its own, or read more than it holds.

torch.export.load of torch 2.13 unpickles weights, constants and sample inputs when a file says so, loads the shared
libraries in it, fills an emptied weight with zeros, inflates whatever is compressed, and executes parts of the
program's text (see `_grammar.py`). So the archive is read once, into memory, by the readers here, and torch is given
the checked program and tensors made of checked bytes; what torch.export.save does not write is refused.
"""

import hashlib
import math
import os
import re
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepass.errors import NO_MEMORY, ArtifactError, first_line, one_line
from edgepass.judging.manifest import TensorSpec, Weight
from edgepass.runtimes import Contents, _memory
from edgepass.runtimes.eager import _grammar, _parts
from edgepass.runtimes.eager._parts import Foreign

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

_PARTS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|\.format_version|\.storage_alignment|version"
    r"|models/\w+\.json|data/sample_inputs/\w+\.pt|extra/.*"
    r"|data/(weights|constants)/(\w+_(weights|constants)_config\.json|(weight|tensor)_\d+)"
)
COPIES = 3.2
"""Of an archive in memory while it is read: its bytes, its parts and the tensors; 3.0 to 3.1 as measured."""
FORM = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}


@_memory.bounded()
def load_program(path: Path, sha256: str | None = None) -> "ExportedProgram":
    """The program of the archive, whose hash is `sha256` where one is given.

    ArtifactError when it is not one, when loading it would run code of its own, or when it is another file by now.
    """
    content = _read(path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ArtifactError(f"{path} changed while it was being read; run the command again when nothing writes to it")
    return _load(content, path)


def inspect(path: Path) -> Contents:
    """Weights, by qualified name, and operations; nothing planned, nothing delegated."""
    content = _read(path)
    program = _load(content, path)
    signature = program.graph_signature
    tensors = {node.name: node.meta.get("val") for node in program.graph.nodes}
    weights = [
        Weight(name=name, shape=tuple(t.shape), dtype=_dtype(t), zeros=_zeros(t))
        for name, t in [*program.state_dict.items(), *program.constants.items()]
        if hasattr(t, "shape")
    ]
    ops = Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")
    return Contents(
        format="pt2",
        inputs=[_spec(str(name), tensors.get(str(name))) for name in signature.user_inputs],
        outputs=[_spec(str(name), tensors.get(str(name))) for name in signature.user_outputs],
        weights=weights,
        ops=dict(sorted(ops.items())),
        content_sha256=hashlib.sha256(content).hexdigest(),
    )


def _read(path: Path) -> bytes:
    """The bytes of the file, as many as it says that it has; ArtifactError where there is no room to read them."""
    try:
        with path.open("rb") as file:
            size, free = os.fstat(file.fileno()).st_size, _memory.available()
            if COPIES * size > free:
                raise ArtifactError(
                    f"{path} holds {size / 2**30:.3g} GiB, and reading it takes {COPIES} times that where "
                    f"{free / 2**30:.3g} GiB are free; free some memory, or make the model smaller"
                )
            return file.read(size)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None


def _load(content: bytes, path: Path) -> "ExportedProgram":
    try:
        return _program(_parts.read(content))
    except Foreign as reason:
        raise ArtifactError(
            f"{path} is refused because {one_line(str(reason))}, and edgepass reads only what torch.export.save writes "
            "of plain tensors and operators; save it so, on the CPU, or name file.py:get_model"
        ) from None
    except MemoryError:
        raise
    except Exception as error:
        if NO_MEMORY.search(str(error)):  # torch's own is a RuntimeError
            raise MemoryError from None
        raise ArtifactError(
            f"{path} cannot be read as a torch.export program ({type(error).__name__}: {one_line(first_line(error))}); "
            "it is corrupt or of another version: save it with torch.export.save of torch 2.13"
        ) from None


def _program(parts: dict[str, bytes]) -> "ExportedProgram":
    from torch._export.serde import schema
    from torch._export.serde.serialize import ExportedProgramDeserializer, _dict_to_dataclass

    for name in parts:
        if not _PARTS.fullmatch(name):
            raise Foreign(f"its part {name[:80]!r} can hold code")
    for name, said in FORM.items():
        if parts.get(name, said if name == "byteorder" else b"") != said:
            raise Foreign(f"its {name} is not {said.decode()}")
    models = [name for name in parts if name.startswith("models/")]
    if len(models) != 1:
        raise Foreign(f"it holds {len(models)} programs where one is wanted")
    model = models[0].removeprefix("models/").removesuffix(".json")
    program = _grammar.parse(parts[models[0]])
    state = _tensors(parts, "weights", "weight", model)
    constants = _tensors(parts, "constants", "tensor", model)
    example = _example(_part(parts, f"data/sample_inputs/{model}.pt"))
    made: Any = _dict_to_dataclass(schema.ExportedProgram, program)
    read: ExportedProgram = ExportedProgramDeserializer().deserialize(made, state, constants, example)
    return read


def _part(parts: dict[str, bytes], name: str) -> bytes:
    if name not in parts:
        raise Foreign(f"its part {name!r} is missing")
    return parts[name]


def _tensors(parts: dict[str, bytes], folder: str, stem: str, model: str) -> "dict[str, torch.Tensor]":
    """Weights or constants by qualified name; those that share memory in the file share it again."""
    from torch import nn
    from torch._export.serde import schema
    from torch._export.serde.serialize import _dict_to_dataclass

    text = _grammar.loads(_part(parts, f"data/{folder}/{model}_{folder}_config.json"))
    _grammar.check(text)
    payload: Any = _dict_to_dataclass(schema.PayloadConfig, text)
    storages: dict[str, torch.UntypedStorage] = {}
    found: dict[str, torch.Tensor] = {}
    for name, item in payload.config.items():
        if item.use_pickle or item.tensor_meta is None or not re.fullmatch(rf"{stem}_\d+", item.path_name):
            raise Foreign(f"its tensor {name[:80]!r} is pickled")
        if item.path_name not in storages:
            storages[item.path_name] = _storage(_part(parts, f"data/{folder}/{item.path_name}"))
        tensor = _tensor(name, item.tensor_meta, storages[item.path_name])
        found[name] = nn.Parameter(tensor, requires_grad=item.tensor_meta.requires_grad) if item.is_param else tensor
    return found


def _storage(content: bytes) -> "torch.UntypedStorage":
    """The bytes in memory that torch has aligned."""
    import torch

    held = torch.empty(len(content), dtype=torch.uint8)
    held.numpy()[:] = np.frombuffer(content, np.uint8)
    return held.untyped_storage()


def _tensor(name: str, meta: Any, storage: "torch.UntypedStorage") -> "torch.Tensor":
    """A view of the storage, which must hold every element of it: torch would take an empty one for zeros."""
    import torch
    from torch._export.serde import schema
    from torch._export.serde.serialize import deserialize_scalar_type

    if meta.layout != schema.Layout.Strided or meta.device.type != "cpu":
        raise Foreign(f"its tensor {name[:80]!r} is not a dense one on the CPU")
    numbers = [*meta.sizes, *meta.strides, meta.storage_offset]
    if len(meta.sizes) != len(meta.strides) or any(n.type != "as_int" or n.value < 0 for n in numbers):
        raise Foreign(f"its tensor {name[:80]!r} has no shape in numbers")
    shape, strides, offset = [n.value for n in meta.sizes], [n.value for n in meta.strides], meta.storage_offset.value
    dtype = deserialize_scalar_type(meta.dtype)
    reach = offset + 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    wanted = reach * dtype.itemsize if math.prod(shape) else 0
    if wanted > storage.nbytes():
        raise Foreign(f"its tensor {name[:80]!r} needs {wanted} bytes and has {storage.nbytes()}")
    return torch.empty(0, dtype=dtype).set_(storage, offset, shape, strides)


def _example(content: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example arguments, positional and by keyword, by torch's own reader of pickles that only makes tensors.

    The bytes of each tensor are those of the part that it names, and exactly as many: torch's reader would go on
    reading past the end of a shorter one.
    """
    import torch
    from torch import _weights_only_unpickler as restricted

    parts = _parts.read(content, "its part of sample inputs")
    storages: dict[str, torch.UntypedStorage] = {}

    def storage_of(said: Any) -> torch.TypedStorage:
        kind, storage, key, _, count = said
        dtype = torch.uint8 if storage is torch.UntypedStorage else storage.dtype
        held = _part(parts, f"data/{key}")
        if kind != "storage" or count * dtype.itemsize != len(held):
            raise Foreign("its sample inputs are not of the size that they say")
        storages.setdefault(key, _storage(held))
        return torch.TypedStorage(wrap_storage=storages[key], dtype=dtype, _internal=True)

    reader: Any = restricted.Unpickler(BytesIO(_part(parts, "data.pkl")), encoding="utf-8")
    reader.persistent_load = storage_of
    try:
        example = reader.load()
    except Foreign:
        raise
    except Exception:
        raise Foreign("its sample inputs are pickled objects") from None
    if any(storage.nbytes() != len(parts[f"data/{key}"]) for key, storage in storages.items()):
        raise Foreign("its sample inputs are larger than what it holds of them")  # torch makes a storage grow
    match example:
        case (tuple() as args, dict() as kwargs):
            _check_plain([args, kwargs])
            return args, kwargs
        case _:
            raise Foreign("its sample inputs are no arguments of a call")


def _check_plain(value: Any) -> None:
    import torch

    todo = [value]
    while todo:
        item = todo.pop()
        if type(item) in (tuple, list):
            todo.extend(item)
        elif type(item) is dict:
            if not all(map(_grammar.is_key, item)):
                raise Foreign("its sample inputs have keys that could be code")
            todo.extend(item.values())
        elif type(item) in (torch.Tensor, torch.nn.Parameter):
            if item.layout != torch.strided or item.device.type != "cpu":
                raise Foreign("its sample inputs are not dense tensors on the CPU")
        elif not (item is None or type(item) in (bool, int, float, str)):
            raise Foreign("its sample inputs are more than tensors and numbers")


def _spec(name: str, value: Any) -> TensorSpec:
    if not hasattr(value, "shape"):
        return TensorSpec(name=name, shape=(), dtype=type(value).__name__)
    shape = tuple(n if isinstance(n, int) else None for n in value.shape)
    return TensorSpec(name=name, shape=shape, dtype=_dtype(value))


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _zeros(tensor: Any) -> float:
    return float((tensor == 0).double().mean()) if tensor.numel() else 0.0
