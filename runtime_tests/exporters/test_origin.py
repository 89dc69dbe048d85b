"""A refusal names the line of the model that a converter complains of, and none where none is named."""

import pytest
import torch
from torch import Tensor, nn

from edgepass.exporters._capture import capture
from edgepass.exporters._origin import origin

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree


class Solves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.add(x, 1)
        return torch.linalg.solve(torch.eye(3), y)


@pytest.mark.parametrize(
    ("complaint", "code"),
    [
        ("Unsupported fx node linalg_solve, kind linalg_solve", "return torch.linalg.solve(torch.eye(3), y)"),
        ("Operator torch._ops.aten._linalg_solve_ex.default", "return torch.linalg.solve(torch.eye(3), y)"),
        ("Unsupported fx node add, kind add", "y = torch.add(x, 1)"),
        ("<OpOverload(op='aten.add', overload='Tensor')>", "y = torch.add(x, 1)"),
        ("cannot add these", ""),
        ("aten.add beside aten.linalg_solve", "return torch.linalg.solve(torch.eye(3), y)"),
        ("its address is gone", ""),
        ("", ""),
    ],
)
def test_the_line_is_that_of_the_operation_that_is_named(complaint: str, code: str) -> None:
    program = capture(Solves().eval(), (torch.randn(3, 2),))
    found = origin(program.bare or program.exported, complaint)
    assert found.endswith(f", `{code}`" if code else "")
    assert found.startswith(" at test_origin.py:") == bool(code)
    assert bool(found) == bool(code)
