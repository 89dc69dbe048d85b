"""What a float16 graph fills with is held by float16."""

import pytest
import torch
from torch import Tensor, nn

from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.quantize import recipe

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree


class Filled(nn.Module):
    """Masks beyond float16, and a factor that must stay what it is."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = x.masked_fill(x > 0, -1e9) + torch.full((3,), 1e30)
        return y, torch.where(x > 0, x, -3e38), x * 1e6, x.masked_fill(x > 0, -torch.inf)


def test_a_fill_beyond_float16_is_the_largest_that_it_holds() -> None:
    x = torch.tensor([[1e-3, -1e-3, 2e-3]])
    job = Job(capture(Filled(), (x,)), recipe.read("fp16"))
    filled, chosen, scaled, hidden = job.realised()(x)
    assert filled.tolist() == [[0.0, 65504.0, 0.0]]
    assert chosen[0, 1] == -65504
    torch.testing.assert_close(scaled, x * 1e6, rtol=1e-3, atol=0)
    assert hidden[0, 0] == -torch.inf
