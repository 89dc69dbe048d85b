"""Core ML operations on things that persist or grow: states and lists.

A state is a box, a list of one tensor, that outlives the call. A list is a Python list that is copied when written.
"""

from typing import Any

import torch
from torch import Tensor

from edgepass.runtimes.coreml._node import Node, Run, handles


@handles("read_state")
def _read_state(node: Node) -> Run:
    return lambda input: input[0]


@handles("coreml_update_state")
def _update_state(node: Node) -> Run:
    def run(state: list[Tensor], value: Tensor) -> Tensor:
        state[0] = value
        return value

    return run


@handles("make_list")
def _make_list(node: Node) -> Run:
    return lambda init_length: [None] * int(init_length)


@handles("list_length")
def _list_length(node: Node) -> Run:
    return lambda ls: torch.tensor(len(ls), dtype=torch.int32)


@handles("list_read")
def _list_read(node: Node) -> Run:
    return lambda ls, index: ls[int(index)]


@handles("list_write")
def _list_write(node: Node) -> Run:
    return lambda ls, index, value: _written(ls, [int(index)], [value])


@handles("list_gather")
def _list_gather(node: Node) -> Run:
    return lambda ls, indices: torch.stack([ls[i] for i in indices.tolist()])


@handles("list_scatter")
def _list_scatter(node: Node) -> Run:
    return lambda ls, indices, value: _written(ls, indices.tolist(), list(value))


def _written(ls: list[Any], places: list[int], values: list[Tensor]) -> list[Any]:
    ls = ls + [None] * (max(places) + 1 - len(ls))
    for place, value in zip(places, values, strict=True):
        ls[place] = value
    return ls
