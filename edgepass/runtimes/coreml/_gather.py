"""Core ML operations that read and write at computed places, or make tensors from numbers."""

import torch
from torch import Tensor

from edgepass.runtimes.coreml._node import Node, Run, handles, positive, wide


@handles("gather")
def _gather(node: Node) -> Run:
    """x[N…, P…, axis, Q…], indices[N…, I…] -> [N…, P…, I…, Q…], where N are the batch axes."""
    axis = positive([node.get("axis", 0)], node.ranks["x"])[0]
    batch = node.get("batch_dims", 0)

    def single(x: Tensor, indices: Tensor) -> Tensor:
        taken = x.index_select(axis, _from_front(indices, x.shape[axis]).reshape(-1))
        return taken.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])

    def batched(x: Tensor, indices: Tensor) -> Tensor:
        n, p, q = (s.numel() for s in (x.shape[:batch], x.shape[batch:axis], x.shape[axis + 1 :]))
        i = _from_front(indices, x.shape[axis]).reshape(n, 1, -1, 1)
        taken = x.reshape(n, p, x.shape[axis], q).gather(2, i.expand(n, p, i.shape[2], q))
        return taken.reshape(x.shape[:axis] + indices.shape[batch:] + x.shape[axis + 1 :])

    return batched if batch else single


@handles("gather_along_axis")
def _gather_along_axis(node: Node) -> Run:
    axis = node.get("axis", 0)
    return lambda x, indices: x.gather(axis, _from_front(indices, x.shape[axis]))


@handles("gather_nd")
def _gather_nd(node: Node) -> Run:
    batch = node.get("batch_dims", 0)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        outer = indices.dim() - 1
        grids = [torch.arange(x.shape[d]).reshape([-1 if d == e else 1 for e in range(outer)]) for d in range(batch)]
        places = [_from_front(i, x.shape[batch + d]) for d, i in enumerate(indices.unbind(-1))]
        return x[tuple(grids + places)]

    return run


@handles("scatter_along_axis")
def _scatter_along_axis(node: Node) -> Run:
    axis, mode = node.get("axis", 0), node.get("mode", "add")
    return lambda data, indices, updates: _write(data, axis, _from_front(indices, data.shape[axis]), updates, mode)


@handles("scatter")
def _scatter(node: Node) -> Run:
    axis, mode = positive([node.get("axis", 0)], node.ranks["data"])[0], node.get("mode", "add")

    def run(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        flat = updates.reshape(*data.shape[:axis], -1, *data.shape[axis + 1 :])
        places = _from_front(indices, data.shape[axis]).reshape([-1 if d == axis else 1 for d in range(data.dim())])
        return _write(data, axis, places.expand_as(flat), flat, mode)

    return run


@handles("scatter_nd")
def _scatter_nd(node: Node) -> Run:
    mode = node.get("mode", "add")

    def run(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        place = torch.zeros(indices.shape[:-1], dtype=torch.int64)
        for d, i in enumerate(indices.unbind(-1)):
            place = place * data.shape[d] + _from_front(i, data.shape[d])
        rows = data.reshape(data.shape[:depth].numel(), -1)
        values = updates.reshape(place.numel(), -1)
        return _write(rows, 0, place.reshape(-1, 1).expand_as(values), values, mode).reshape(data.shape)

    return run


@handles("one_hot")
def _one_hot(node: Node) -> Run:
    axis = positive([node.get("axis", -1)], node.ranks["indices"] + 1)[0]

    def run(indices: Tensor, one_hot_vector_size: Tensor, on_value: Tensor, off_value: Tensor) -> Tensor:
        step = torch.arange(int(one_hot_vector_size))
        step = step.reshape([-1 if d == axis else 1 for d in range(indices.dim() + 1)])
        return torch.where(indices.unsqueeze(axis) == step, on_value, off_value)

    return run


@handles("fill")
def _fill(node: Node) -> Run:
    return lambda shape, value: value.expand(shape.tolist())


@handles("fill_like")
def _fill_like(node: Node) -> Run:
    return lambda ref_tensor, value: value.expand(ref_tensor.shape)


@handles("range_1d")
def _range(node: Node) -> Run:
    return lambda start, end, step: torch.arange(start.item(), end.item(), step.item())


@handles("band_part")
def _band_part(node: Node) -> Run:
    lower, upper = node.get("lower", -1), node.get("upper", -1)

    def run(x: Tensor) -> Tensor:
        x = x if lower < 0 else x.triu(-lower)
        return x if upper < 0 else x.tril(upper)

    return run


def _from_front(indices: Tensor, size: int) -> Tensor:
    i = indices.long()
    return torch.where(i < 0, i + size, i)


def _write(data: Tensor, axis: int, places: Tensor, updates: Tensor, mode: str) -> Tensor:
    """`data` with `updates` combined in at `places` (of the updates' shape) along `axis`."""
    if mode == "update":
        return data.scatter(axis, places, updates)
    data, updates = wide(data), wide(updates)
    if mode == "sub":
        return data.scatter_add(axis, places, -updates)
    if mode == "div":
        divisor = torch.ones_like(data).scatter_reduce(axis, places, updates, "prod")
        return data / divisor
    reduce = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[mode]
    return data.scatter_reduce(axis, places, updates, reduce)
