"""Several .tflite files as one: each is a signature of it, and what they all hold is there once.

litert-torch 0.10 converts several signatures at once too (`signature(name, module, args)`), but of each method its own
ends, sizes and number formats are put right in a file of its own first.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from edgepass.exporters import _flatbuffer

CALLS = (
    *("subgraph", "thenSubgraphIndex", "elseSubgraphIndex", "condSubgraphIndex", "bodySubgraphIndex"),
    *("initSubgraphIndex", "decompositionSubgraphIndex", "comparatorSubgraphIndex", "updateComputationSubgraphIndex"),
)
"""Settings of an operator that are the number of a graph (schema.fbs); one of StableHLO's is a list of them."""
BRANCHES = "branchSubgraphIndices"


def together(parts: Mapping[str, bytes]) -> bytes:
    """The file whose signatures have the names of `parts`, in their order; the first one's graph is the first."""
    names = iter(parts)
    whole: Any = _flatbuffer.parsed(parts[next(names)])
    _call(whole, next(iter(parts)))
    held = {_content(buffer): number for number, buffer in reversed(list(enumerate(whole.buffers))) if _is_held(buffer)}
    for name in names:
        part: Any = _flatbuffer.parsed(parts[name])
        _call(part, name)
        _add(whole, part, held)
    return _flatbuffer.packed(whole)


def _call(model: Any, name: str) -> None:
    """Let the one signature of a file have this name."""
    (signature,) = model.signatureDefs
    signature.signatureKey = name.encode()


def _add(whole: Any, part: Any, held: dict[str, int]) -> None:
    """Add the graphs of `part`; `held`: content -> number of the buffer that has it."""
    first, codes = len(whole.subgraphs), len(whole.operatorCodes)
    _renumber(part, first)
    buffers: dict[int, int] = {0: 0}  # that of whatever has no content of its own
    for number, buffer in enumerate(part.buffers):
        content = _content(buffer) if _is_held(buffer) else ""
        if not content or content not in held:
            whole.buffers.append(buffer)
            buffers.setdefault(number, len(whole.buffers) - 1)
            if content:
                held[content] = len(whole.buffers) - 1
        else:
            buffers[number] = held[content]
    for graph in part.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = buffers[tensor.buffer]
        for operator in graph.operators or ():
            operator.opcodeIndex += codes
    whole.operatorCodes += part.operatorCodes
    whole.subgraphs += part.subgraphs
    whole.signatureDefs += part.signatureDefs


def _renumber(model: Any, by: int) -> None:
    """Let whatever names a graph by its number name the one that is so many later."""
    for operator in (operator for graph in model.subgraphs for operator in graph.operators or ()):
        for settings in (operator.builtinOptions, operator.builtinOptions2):
            for key in CALLS:
                if (number := getattr(settings, key, None)) is not None:
                    setattr(settings, key, number + by)
            if (several := getattr(settings, BRANCHES, None)) is not None:
                settings.branchSubgraphIndices = [int(number) + by for number in several]
    for signature in model.signatureDefs:
        signature.subgraphIndex += by


def _is_held(buffer: Any) -> bool:
    return buffer.data is not None and len(buffer.data) > 0


def _content(buffer: Any) -> str:
    return hashlib.sha256(bytes(buffer.data)).hexdigest() if _is_held(buffer) else ""
