"""A refusal names the line of the model that a converter complains of, and none where none is named."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters
from edgepass.errors import RefusedError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.exporters._origin import origin
from edgepass.quantize import recipe

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


@pytest.mark.parametrize("message", [RuntimeError, KeyError])
def test_a_refusal_carries_no_graph_and_no_path(message: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise message(
            "no lowering of aten.add\n\nWhile executing %add : [num_users=1] = call_function[target=aten.add](…)\n"
            'Original traceback:\nFile "/home/me/models/own.py", line 3, in forward'
        )

    monkeypatch.setattr(exporters.target("onnx"), "lower", fails)
    job = Job(capture(Solves().eval(), (torch.randn(3, 2),)), recipe.read("fp32"), None)
    with pytest.raises(RefusedError) as refused:
        exporters.export("onnx", job, Path("m.onnx"))
    assert ", `y = torch.add(x, 1)`" in str(refused.value)
    assert f"its converter raises {message.__name__}: no lowering of aten.add; change that part" in str(refused.value)
