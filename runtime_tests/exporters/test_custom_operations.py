"""A user's own operation never blocks a target, or is named."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import edgepass
from edgepass.errors import CaptureError
from edgepass.exporters._capture import capture
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters.small import TARGETS

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Affine(nn.Module):
    """A linear layer between two uses of a custom operation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.edgepass_test.twice(self.layer(torch.ops.edgepass_test.twice(x)))


@torch.library.custom_op("edgepass_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2.0


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


_LIBRARY = torch.library.Library("edgepass_test", "FRAGMENT")
_LIBRARY.define("opaque(Tensor x) -> Tensor")
_LIBRARY.impl("opaque", lambda x: x + 1, "CPU")
torch.library.register_fake("edgepass_test::opaque", torch.empty_like)


class Opaque(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.edgepass_test.opaque(x)


@pytest.mark.parametrize("delegates", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_custom_operation_never_blocks_a_target(delegates: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    targets = [target for target in TARGETS if (":" in target) == delegates]
    done = edgepass.build(Affine(), (torch.randn(1, 8),), out=tmp_path / "o", targets=targets, recipe="fp32")
    assert done.verdict == "pass", [r.reasons for r in done.artifacts]


def test_a_custom_operation_without_a_formula_is_named() -> None:
    x = (torch.ones(3),)
    with pytest.raises(CaptureError, match=r"edgepass_test.opaque.*get_decompositions"):
        capture(Opaque(), x)
    captured = capture(Opaque(), x, decompositions={torch.ops.edgepass_test.opaque.default: lambda x: x + 1})
    assert torch.equal(captured.exported.module()(*x), x[0] + 1)
