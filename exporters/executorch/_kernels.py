"""Of which operations the runtime has kernels: those of the wheel, which are what an app links by default."""

from functools import cache
from importlib import import_module
from typing import Any


def lacks(operation: Any) -> bool:
    """Whether no kernel of an operation of torch, or of the edge dialect, is there.

    Of what has no form that writes into a given tensor (views, sizes), lowering makes something else.
    """
    from executorch.exir.dialects.edge._ops import EdgeOpOverload
    from executorch.exir.operator.convert import to_out_variant
    from torch._ops import OpOverload

    operation = operation._op if isinstance(operation, EdgeOpOverload) else operation
    if not isinstance(operation, OpOverload) or operation.namespace != "aten":
        return False
    try:
        written, _ = to_out_variant(operation)
    except (RuntimeError, AssertionError, AttributeError):  # it has none, or none that executorch can read
        return False
    return f"{written._schema.name}.{written._overloadname}" not in _names()


@cache
def _names() -> frozenset[str]:
    """As torch calls them: `aten::add.out`."""
    for name in ("executorch.extension.pybindings._C", "executorch.kernels.quantized"):
        import_module(name)
    return frozenset(import_module("executorch.extension.pybindings._C")._get_operator_names())
