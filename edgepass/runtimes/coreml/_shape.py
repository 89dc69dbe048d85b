"""Core ML operations that move values about without computing: shapes, slices, padding, joining and splitting."""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepass.runtimes.coreml._node import Node, Run, handles, positive

Index = list[tuple[slice, bool]]
"""Per axis: a slice with a positive step, and whether to reverse what it gives."""


@handles("reshape")
def _reshape(node: Node) -> Run:
    def target(x: Tensor, shape: list[int]) -> list[int]:
        # 0 takes the dimension of x counted from the right (iOS 17); with equal ranks that is iOS 15's rule too.
        shift = x.dim() - len(shape)
        return [d if d != 0 else (x.shape[i + shift] if i + shift >= 0 else 1) for i, d in enumerate(shape)]

    if not node.known("shape"):
        return lambda x, shape: x.reshape(target(x, shape.tolist()))
    shape = node.ints("shape")
    if 0 in shape:
        return lambda x: x.reshape(target(x, shape))
    return lambda x: x.reshape(shape)


@handles("reshape_like")
def _reshape_like(node: Node) -> Run:
    begins, ends, masks = node.get("begins"), node.get("ends"), node.get("end_masks")

    def run(x: Tensor, ref_tensors: list[Tensor]) -> Tensor:
        parts = zip(ref_tensors, begins, ends, masks, strict=True)
        return x.reshape([d for r, b, e, rest in parts for d in r.shape[b : None if rest else e]])

    return run


@handles("transpose")
def _transpose(node: Node) -> Run:
    perm = node.ints("perm")
    return lambda x: x.permute(perm)


@handles("expand_dims")
def _expand_dims(node: Node) -> Run:
    axes = sorted(positive(node.ints("axes"), node.ranks["x"] + len(node.ints("axes"))))

    def run(x: Tensor) -> Tensor:
        for axis in axes:
            x = x.unsqueeze(axis)
        return x

    return run


@handles("squeeze")
def _squeeze(node: Node) -> Run:
    axes = node.ints("axes", list(range(node.ranks["x"])))
    return lambda x: x.squeeze(axes)


@handles("flatten2d")
def _flatten2d(node: Node) -> Run:
    axis = node.get("axis", 1)
    return lambda x: x.reshape(x.shape[:axis].numel(), x.shape[axis:].numel())


@handles("shape")
def _shape(node: Node) -> Run:
    return lambda x: torch.tensor(x.shape, dtype=torch.int32)


@handles("concat")
def _concat(node: Node) -> Run:
    axis, interleave = node.get("axis", 0), node.get("interleave", False)

    def run(values: list[Tensor]) -> Tensor:
        if interleave:
            at = axis % values[0].dim()
            return torch.stack(values, at + 1).flatten(at, at + 1)
        return torch.cat([v.reshape(1) if v.dim() == 0 else v for v in values], axis)

    return run


@handles("stack")
def _stack(node: Node) -> Run:
    axis = node.get("axis", 0)
    return lambda values: torch.stack(values, axis)


@handles("split")
def _split(node: Node) -> Run:
    axis, count = node.get("axis"), node.outputs

    def run(x: Tensor, split_sizes: Tensor | None) -> Tensor | tuple[Tensor, ...]:
        if count == 1:
            return x
        sizes = x.shape[axis] // count if split_sizes is None else split_sizes.tolist()
        return torch.split(x, sizes, axis)

    return run


@handles("tile")
def _tile(node: Node) -> Run:
    return lambda x, reps: x.repeat(reps.tolist())


@handles("reverse")
def _reverse(node: Node) -> Run:
    axes = node.ints("axes", list(range(node.ranks["x"])))
    return lambda x: x.flip(axes)


@handles("reverse_sequence")
def _reverse_sequence(node: Node) -> Run:
    along, batch = (positive([node.get(k, 0)], node.ranks["x"])[0] for k in ("seq_axis", "batch_axis"))

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        step = torch.arange(x.shape[along])
        length = lengths.long().unsqueeze(1)
        index = torch.where(step < length, length - 1 - step, step)  # [batch, step]
        shape = [x.shape[d] if d in {along, batch} else 1 for d in range(x.dim())]
        index = (index if batch < along else index.T).reshape(shape)
        return x.gather(along, index.expand_as(x))

    return run


@handles("slice_by_size")
def _slice_by_size(node: Node) -> Run:
    def run(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
        for axis, (b, n) in enumerate(zip(begin.tolist(), size.tolist(), strict=True)):
            start = b + x.shape[axis] if b < 0 else b
            x = x.narrow(axis, start, x.shape[axis] - start if n == -1 else n)
        return x

    return run


@handles("slice_by_index")
def _slice_by_index(node: Node) -> Run:
    rank = node.ranks["x"]
    squeeze = [i for i, mask in enumerate(node.get("squeeze_mask") or [False] * rank) if mask]

    def run(x: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        index = _index(node, x, begin.tolist(), end.tolist())
        y = x[tuple(s for s, _ in index)]
        flipped = [i for i, (_, reverse) in enumerate(index) if reverse]
        y = y.flip(flipped) if flipped else y
        return y.squeeze(squeeze) if squeeze else y

    steps = node.ints("stride", [1] * rank)
    if not node.known("begin", "end") or any(s < 0 for s in steps) or squeeze:
        return run
    slices = tuple(_slices(node, rank, node.ints("begin"), node.ints("end")))
    return lambda x: x[slices]


@handles("slice_update")
def _slice_update(node: Node) -> Run:
    rank = node.ranks["x"]
    squeeze = [i for i, mask in enumerate(node.get("squeeze_mask") or [False] * rank) if mask]

    def run(x: Tensor, update: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        index = _index(node, x, begin.tolist(), end.tolist())
        for axis in squeeze:
            update = update.unsqueeze(axis)
        y = x.clone()
        y[tuple(s for s, _ in index)] = update.flip([i for i, (_, reverse) in enumerate(index) if reverse])
        return y

    return run


@handles("pad")
def _pad(node: Node) -> Run:
    mode, value = node.get("mode", "constant"), node.get("constant_val", 0.0)

    def run(x: Tensor, pad: Tensor) -> Tensor:
        amounts = pad.tolist()
        pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
        if mode == "constant":
            return F.pad(x, [p for pair in reversed(pairs) for p in pair], value=value)
        for axis, (before, after) in enumerate(pairs, x.dim() - len(pairs)):
            if before or after:
                last = x.shape[axis] - 1
                i = torch.arange(-before, last + 1 + after)
                i = i.clamp(0, last) if mode == "replicate" else last - (last - i.abs()).abs()
                x = x.index_select(axis, i)
        return x

    return run


@handles("sliding_windows")
def _sliding_windows(node: Node) -> Run:
    axis = positive([node.get("axis")], node.ranks["x"])[0]
    size, stride = node.get("size"), node.get("stride", 1)
    return lambda x: x.unfold(axis, size, stride).movedim(-1, axis + 1)


def _slices(node: Node, rank: int, begin: list[int], end: list[int]) -> list[slice]:
    """As Python slices; a squeezed axis is a slice of one."""
    steps = node.ints("stride", [1] * rank)
    from_start, to_end, single = (node.get(k) or [False] * rank for k in ("begin_mask", "end_mask", "squeeze_mask"))
    slices = []
    for i in range(rank):
        b = None if from_start[i] else begin[i]
        if single[i]:
            first = b or 0
            slices.append(slice(first, None if first == -1 else first + 1, 1))
        else:
            slices.append(slice(b, None if to_end[i] else end[i], steps[i]))
    return slices


def _index(node: Node, x: Tensor, begin: list[int], end: list[int]) -> Index:
    """torch takes no negative steps, so such a slice becomes the same elements forwards, to be reversed."""
    index: Index = []
    for s, size in zip(_slices(node, x.dim(), begin, end), x.shape, strict=True):
        chosen = range(*s.indices(size))
        if chosen.step > 0:
            index.append((s, False))
        else:
            first = slice(chosen[-1], chosen[0] + 1, -chosen.step) if chosen else slice(0, 0)
            index.append((first, True))
    return index
