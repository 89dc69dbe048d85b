"""Where in the user's code an operation comes from that a converter complains of."""

import re
from pathlib import Path

import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import Node

FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in .*\n\s*(?P<code>\S.*)')
ENDS = "(_ex|_copy|_forward)?"
APART, SAID = "(?<![A-Za-z0-9])", r"(?:aten\.|aten::|fx node |kind |[\"'`])"
"""What stands before a name: of one word, such as `all` or `to`, what shows that an operation is meant."""
LIBRARY = str(Path(torch.__file__).parent)


def origin(program: ExportedProgram, complaint: str) -> str:
    """` at FILE:LINE, `CODE`` of the first operation that the complaint names, as captured; empty where none is named.

    Converters name an operation as torch.export does, or what it was decomposed into: `linalg_solve` and
    `_linalg_solve_ex`. Of several names the longest is meant. The file is named without its folder, as this ends up in
    manifests, which travel.
    """
    named = [node for node in program.graph.nodes if _is_named(node, complaint)]
    for node in sorted(named, key=lambda node: -len(_name(node))):
        frames = [frame for frame in FRAME.finditer(node.stack_trace or "") if not frame["file"].startswith(LIBRARY)]
        if frames:
            last = frames[-1]
            return f" at {Path(last['file']).name}:{last['line']}, `{last['code'].strip()}`"
    return ""


def _is_named(node: Node, complaint: str) -> bool:
    name = _name(node)
    if not name:
        return False
    before = APART if "_" in name else SAID
    return bool(re.search(rf"{before}_*{re.escape(name)}{ENDS}(?![A-Za-z0-9_])", complaint))


def _name(node: Node) -> str:
    """Of an operation, without namespace and overload."""
    if not isinstance(node.target, OpOverload):
        return ""
    return node.target._schema.name.rpartition("::")[2].strip("_")
