"""Plans activation memory from tensor lifetimes, for formats whose files hold no plan."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes; kDefaultTensorAlignment of tensorflow/lite/util.h


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation: keys of the tensors it reads and writes."""

    reads: Sequence[int | str]
    writes: Sequence[int | str]


def plan(
    nodes: Sequence[Node], inputs: Iterable[int | str], outputs: Iterable[int | str], sizes: dict[int | str, int]
) -> int:
    """Bytes of the smallest arena that greedy placement by size finds.

    Largest tensor first, each into the smallest gap that holds it among those alive at the same time: GREEDY_BY_SIZE of
    "Efficient Memory Management for Deep Neural Net Inference" (arXiv 2001.03288), which TFLite's planner follows.
    `sizes` names the tensors to place and their bytes; inputs and outputs live throughout.
    """
    end = len(nodes)
    first, last = dict.fromkeys(inputs, -1), {}
    for step, node in enumerate(nodes):
        for tensor in node.writes:
            first.setdefault(tensor, step)
        for tensor in (*node.reads, *node.writes):
            last[tensor] = step
    last.update(dict.fromkeys([*inputs, *outputs], end))
    placed: list[tuple[int, int, int, int]] = []  # offset, size, first, last
    peak = 0
    for tensor in sorted((t for t in sizes if t in first), key=lambda t: (-sizes[t], first[t])):
        size = -(-sizes[tensor] // ALIGNMENT) * ALIGNMENT
        born, died = first[tensor], last.get(tensor, end)
        offset = _fit(size, sorted((o, n) for o, n, a, b in placed if a <= died and born <= b))
        placed.append((offset, size, born, died))
        peak = max(peak, offset + size)
    return peak


def _fit(size: int, taken: Sequence[tuple[int, int]]) -> int:
    """Offset of the tightest gap of at least `size`, else the end."""
    best, cursor = None, 0
    for offset, length in taken:
        gap = offset - cursor
        if gap >= size and (best is None or gap < best[0]):
            best = (gap, cursor)
        cursor = max(cursor, offset + length)
    return best[1] if best else cursor
