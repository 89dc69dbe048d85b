"""Reads a torch.export archive (.pt2) without letting it run code of its own.

torch.export.load of torch 2.13 executes what a file says in several places (torch/export/pt2_archive/_package.py,
torch/_export/serde/serialize.py, torch/export/_unlift.py):
  * weights and constants marked use_pickle, and custom or opaque objects, are unpickled;
  * sample inputs and legacy .pt weights are read with weights_only=True, and when that fails again without it;
  * when anything raises RuntimeError, the file is taken for the format of torch 2.7, whose parts are read likewise;
  * AOTInductor parts are shared libraries, loaded at once;
  * symbolic shapes go through sympy.sympify, which evaluates, and guards through exec;
  * operators are looked up by walking attributes from `torch`.
So the parts are checked first, by the same reader that loads them: only JSON, raw tensors and sample inputs that the
restricted unpickler accepts; shapes built from known symbols; operators of torch.ops, operator and math. Guards are
dropped.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepass.errors import ArtifactError
from edgepass.judging.manifest import TensorSpec, Weight
from edgepass.runtimes import Contents

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_PARTS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|\.format_version|\.storage_alignment|version"
    r"|models/\w+\.json|data/sample_inputs/\w+\.pt|extra/.*"
    r"|data/(weights|constants)/(\w+_(weights|constants)_config\.json|(weight|tensor)_\d+)"
)
_TARGET = re.compile(
    r"torch\.ops\.(?!load_library|loaded_libraries|import_module)[A-Za-z]\w*\.(?!from_file)\w+(\.\w+)?"
    r"|torch\.(_?sym_\w+)|_operator\.[a-z]\w*|math\.[a-z]\w*"
)
_SYMPY = frozenset(
    """
    Symbol Integer Rational Float Add Mul Pow Mod Max Min Abs floor ceiling Eq Ne Lt Le Gt Ge And Or Not true false
    Equality Unequality LessThan GreaterThan StrictLessThan StrictGreaterThan FloorDiv CeilDiv CleanDiv PythonMod
    ModularIndexing Where Identity ToFloat TruncToInt TruncToFloat RoundToInt FloorToInt CeilToInt IntTrueDiv
    FloatTrueDiv PowByNatural FloatPow LShift RShift BitwiseFn_bitwise_and BitwiseFn_bitwise_or
    """.split()  # noqa: SIM905 (fifty quoted names would be longer)
)
_SYNTAX = (ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub)


def load_program(path: Path) -> "ExportedProgram":
    """The program of the archive; ArtifactError when it is not one, or when loading it would run code of its own."""
    from torch.export.pt2_archive._package import load_pt2

    _check(path)
    # Not torch.export.load: that falls back to an older, pickled format.
    programs = load_pt2(str(path)).exported_programs
    if len(programs) != 1:
        raise ArtifactError(
            f"{path} holds {len(programs)} programs where one is wanted; save it with torch.export.save"
        )
    (program,) = programs.values()
    program._guards_code = []
    return program


def inspect(path: Path) -> Contents:
    """Weights, by qualified name, and operations; nothing planned, nothing delegated."""
    program = load_program(path)
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
    )


def _check(path: Path) -> None:
    import torch
    from torch.export.pt2_archive._package import PT2ArchiveReader

    try:
        reader = PT2ArchiveReader(str(path))
        names = reader.get_file_names()
    except Exception:
        raise ArtifactError(f"{path} is not a .pt2 archive; write one with torch.export.save") from None
    for name in names:
        if not _PARTS.fullmatch(name):
            raise _refusal(path, f"its part {name[:80]!r} can hold code")
        if name.endswith("_config.json"):
            for key, item in json.loads(reader.read_bytes(name))["config"].items():
                if item["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", item["path_name"]):
                    raise _refusal(path, f"its tensor {key[:80]!r} is pickled")
        elif name.startswith("models/"):
            _check_program(path, json.loads(reader.read_bytes(name)))
        elif name.endswith(".pt"):
            try:
                torch.load(BytesIO(reader.read_bytes(name)), weights_only=True)
            except Exception:
                raise _refusal(path, "its sample inputs are pickled objects") from None


def _check_program(path: Path, program: Any) -> None:
    for key, value in _walk(program):
        if key == "target" and isinstance(value, str) and not _TARGET.fullmatch(value):
            raise _refusal(path, f"it calls {value[:80]!r}, which is no operator")
        if key == "expr_str" and not _is_shape(value):
            raise _refusal(path, "a shape in it is no expression of known symbols")
        if key in {"in_spec", "out_spec"} and isinstance(value, str) and "defaultdict" in value:
            raise _refusal(path, "its arguments name a module to import")


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            yield from item.items()
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def _is_shape(text: Any) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    for node in nodes:
        if not isinstance(node, _SYNTAX):
            return False
        if isinstance(node, ast.Name) and node.id not in _SYMPY:
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.fullmatch(r"[\w.+-]+", node.value):
            return False
    return True


def _refusal(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{path} is refused because {reason}, and edgepass runs none that comes in a file; "
        "export the model to .pt2 with plain tensors as inputs and weights, or name file.py:get_model"
    )


def _spec(name: str, value: Any) -> TensorSpec:
    if not hasattr(value, "shape"):
        return TensorSpec(name=name, shape=(), dtype=type(value).__name__)
    shape = tuple(n if isinstance(n, int) else None for n in value.shape)
    return TensorSpec(name=name, shape=shape, dtype=_dtype(value))


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _zeros(tensor: Any) -> float:
    return float((tensor == 0).double().mean()) if tensor.numel() else 0.0
