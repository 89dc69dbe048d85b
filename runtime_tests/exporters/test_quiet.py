"""Converting lists torch's operations once, and no shorter than torch does."""

import torch
from torch import Tensor
from torch._export.utils import _collect_all_valid_cia_ops as of_torch
from torch.export import exported_program

from edgepass.exporters._quiet import converting


def _listed() -> set[str]:
    with converting():
        return {str(operation) for operation in exported_program._collect_all_valid_cia_ops()}  # type: ignore[attr-defined]  # private


def test_an_operation_that_is_registered_between_two_conversions_is_taken_apart_too() -> None:
    assert _listed() == {str(operation) for operation in of_torch()}
    library = torch.library.Library("edgepass_later", "DEF")
    library.define("plus_one(Tensor x) -> Tensor")
    library.impl("plus_one", _plus_one, "CompositeImplicitAutograd")
    assert "edgepass_later.plus_one.default" in _listed()
    assert exported_program._collect_all_valid_cia_ops is of_torch  # type: ignore[attr-defined]  # private
    library._destroy()


def _plus_one(x: Tensor) -> Tensor:
    return x + 1
