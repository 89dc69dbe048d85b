"""Single numbers in buffers decide sizes and branches, and are known while a model is captured."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.errors import CaptureError
from edgepass.exporters._capture import capture


class Padded(nn.Module):
    """x [1, 2, T] -> a convolution with steps, of x padded so that no sample is left over, as EnCodec's."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 4, stride)
        self.register_buffer("stride", torch.tensor(stride), persistent=False)
        self.register_buffer("kernel", torch.tensor([4]), persistent=False)
        self.register_buffer("scale", torch.randn(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """By `stride` and `kernel`."""
        steps = torch.ceil((x.shape[-1] - self.kernel) / self.stride).to(torch.int64)
        more = steps * self.stride + self.kernel - x.shape[-1]
        y: Tensor = self.conv(functional.pad(x * self.scale, (0, more)))
        return y


class Counting(nn.Module):
    """What it does depends on how often it was called."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by
        self.register_buffer("calls", torch.tensor(0))
        self.calls: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Twice x at every second call."""
        if self.by == "assigning":
            self.calls = self.calls + 1
        else:
            self.calls.add_(1)
        return 2 * x if self.calls % 2 == 0 else x


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("length", [4, 13, 63])
def test_sizes_that_numbers_in_buffers_decide_are_captured(stride: int, length: int) -> None:
    model, x = Padded(stride).eval(), torch.randn(1, 2, length)
    before, kind = dict(model._buffers), type(model.conv)
    program = capture(nn.Sequential(model), (x,))
    assert torch.equal(program.exported.module()(x), model(x))
    assert (dict(model._buffers), type(model), type(model.conv)) == (before, Padded, kind)
    assert list(model.state_dict()) == ["scale", "conv.weight", "conv.bias"]
    held = {spec.target for spec in program.exported.graph_signature.input_specs if spec.target}
    assert held == {"0.scale", "0.conv.weight", "0.conv.bias"}, "nothing is computed of numbers when the file runs"


@pytest.mark.parametrize("by", ["assigning", "writing"])
def test_a_number_that_a_call_changes_is_none(by: str) -> None:
    model = Counting(by).eval()
    with pytest.raises(CaptureError, match=r"depends on the values of a tensor") as refused:
        capture(model, (torch.randn(3),))
    assert "return 2 * x if self.calls % 2 == 0 else x" in str(refused.value)
    assert int(model.calls) == 0
    assert type(model) is Counting


def test_what_depends_on_an_input_is_refused_at_its_own_line() -> None:
    class Both(Padded):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y if y.sum() > 0 else -y

    with pytest.raises(CaptureError, match=r"depends on the values of a tensor"):
        capture(Both(2).eval(), (torch.randn(1, 2, 13),))
