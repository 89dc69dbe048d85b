"""How capturing, quantising and lowering are run: what they print and copy is no news."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch._export.utils import _collect_all_valid_cia_ops
from torch._ops import OperatorBase
from torch.export import decomp_utils, exported_program
from torch.fx.traceback import NodeSource


@contextmanager
def converting() -> Iterator[None]:
    """As capturing, quantising and lowering want it: quiet, without gradients or copies of histories."""
    with quiet(), torch.no_grad(), _one_history(), _one_list():
        yield


@contextmanager
def _one_history() -> Iterator[None]:
    """What a node was made from is told by all nodes made from it, and copied for none.

    Every pass over a graph copies the whole history of every node, and adds to it (torch.fx.traceback.NodeSource, torch
    2.13), and lowering to ExecuTorch is dozens of passes. Nothing changes what is once told.
    """
    if hasattr(NodeSource, "__deepcopy__"):  # one conversion within another
        yield
        return
    setattr(NodeSource, "__deepcopy__", lambda source, memo: source)  # noqa: B010 of a class that has none
    try:
        yield
    finally:
        delattr(NodeSource, "__deepcopy__")


@contextmanager
def _one_list() -> Iterator[None]:
    """The operations that torch can take apart, listed once for as many as are registered.

    Every retracing asks twice, and torch 2.13 looks at all operations of all libraries each time, in half a second.
    """
    asking: tuple[Any, ...] = (exported_program, decomp_utils)
    if asking[0]._collect_all_valid_cia_ops is _can_take_apart:  # one conversion within another
        yield
        return
    kept = [(module, module._collect_all_valid_cia_ops) for module in asking]
    for module, _ in kept:
        module._collect_all_valid_cia_ops = _can_take_apart
    try:
        yield
    finally:
        for module, own in kept:
            module._collect_all_valid_cia_ops = own


def _can_take_apart() -> set[OperatorBase]:
    return _of_registered(len(torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")))


@lru_cache(maxsize=1)
def _of_registered(_number: int) -> set[OperatorBase]:
    return _collect_all_valid_cia_ops()


@contextmanager
def quiet() -> Iterator[None]:
    """Converters print progress, and warn about each other's internals, from Python and from C++; none of it is news.

    Takes file descriptors 1 and 2 away meanwhile, because C++ libraries write to them directly.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere, warnings.catch_warnings():
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            warnings.simplefilter("ignore")
            yield
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        for descriptor, copy in enumerate(kept, start=1):
            os.dup2(copy, descriptor)
            os.close(copy)
        logging.disable(disabled)
