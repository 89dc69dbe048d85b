"""Core ML's branches, loops and lists, which the walker of programs carries out."""

from typing import Any

import numpy as np
import pytest
import torch

from edgepass.runtimes.coreml._file import quiet

with quiet():
    from coremltools.converters.mil.mil import Builder as mb
from runtime_tests.runtimes.coreml.operations import COREMLTOOLS_WARNS, check, floats, integers

pytestmark = COREMLTOOLS_WARNS


@pytest.mark.parametrize("x", [-3, 4])
def test_branches(x: int) -> None:
    def build(x: Any) -> Any:
        positive = mb.squeeze(x=mb.greater(x=x, y=0), axes=[0])
        return mb.cond(pred=positive, _true_fn=lambda: mb.mul(x=x, y=2), _false_fn=lambda: mb.sub(x=x, y=1))

    check(build, lambda v: torch.where(v > 0, v * 2, v - 1), np.array([x], np.int32))


@pytest.mark.parametrize("n", [0, 1, 7])
def test_loops(n: int) -> None:
    def build(n: Any, x: Any) -> Any:
        return mb.while_loop(
            _cond=lambda i, a, b: mb.squeeze(x=mb.greater(x=i, y=0), axes=[0]),
            _body=lambda i, a, b: (mb.sub(x=i, y=1), mb.add(x=b, y=x), a),  # the last two change places
            loop_vars=(n, x, mb.mul(x=x, y=2)),
        )

    def reference(n: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = x, x * 2
        while n > 0:
            n, a, b = n - 1, b + x, a
        return n, a, b

    check(build, reference, np.array([n], np.int32), integers(3))


def test_lists() -> None:
    def build(x: Any) -> Any:
        ls = mb.make_list(init_length=3, elem_shape=(2,), dtype="fp32", dynamic_length=False)
        ls = mb.list_scatter(ls=ls, indices=[0, 1, 2], value=x)
        ls = mb.list_write(ls=ls, index=1, value=mb.list_read(ls=ls, index=2))
        return mb.list_gather(ls=ls, indices=[2, 1, 0])

    check(build, lambda x: x[[2, 2, 0]], floats(3, 2))
