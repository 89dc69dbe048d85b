"""What torch.export itself changes is told, and no file is blamed for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepass import subject
from edgepass.exporters._capture import capture
from edgepass.samples import Samples
from edgepass.task import Task

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # torch.export, of torch's own pytree
    pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning"),  # torch, of its own fast path
]


class Padded(nn.Module):
    """An encoder whose fast path in eager torch gives zeros for padding, and its captured form does not."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        y: Tensor = self.encoder(x, src_key_padding_mask=padding)
        return y


def task(padded: int) -> Task:
    padding = np.zeros((3, 1, 5), dtype=bool)
    padding[:, :, 5 - padded :] = padded > 0
    samples = Samples(inputs=[torch.randn(3, 1, 5, 8).numpy(), padding])
    return Task(name="m", source="t", model=Padded().eval(), args=samples.arguments()[0], evaluation=samples)


def test_what_capture_changes_is_told_and_taken_for_the_reference() -> None:
    given = task(padded=2)
    assert given.evaluation
    _, program, reference = subject.settle(given, capture(given.model, given.args), given.evaluation)
    assert "torch.export changed the model: on the first evaluation samples output 0 is" in program.changed
    assert program.bare is not None
    wanted = replace(given, model=program.bare).reference(given.evaluation)
    np.testing.assert_array_equal(reference[0], wanted[0])
    assert np.abs(reference[0] - given.reference(given.evaluation)[0]).max() > 0.1


def test_a_program_that_is_the_model_is_not_spoken_of() -> None:
    given = task(padded=0)
    assert given.evaluation
    _, program, reference = subject.settle(given, capture(given.model, given.args), given.evaluation)
    assert not program.changed
    assert not program.notes
    np.testing.assert_array_equal(reference[0], given.reference(given.evaluation)[0])
