"""The sweep of torch's operations: what it calls right is, and its page is of the cells that are kept."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from runtime_tests.bench import operators
from runtime_tests.bench.operators import Cell


def sums() -> Iterator[Any]:
    """Two samples: a small one with a number, and one with an index that no input varies."""
    yield torch.addcmul, (torch.randn(3), torch.randn(3), torch.ones(3)), {"value": 2}
    yield torch.gather, (torch.randn(2, 5), 1, torch.tensor([[0], [4]])), {}


def test_a_sample_becomes_a_model_of_its_float_tensors() -> None:
    found = list(operators.cases("any", sums))
    assert len(found) == 2
    for model, inputs in found:
        assert len(inputs) == operators.SAMPLES
        assert not torch.equal(inputs[0][0], inputs[1][0])
        assert len(model(*inputs[0])) == 1
    (sum_, (numbers, *_)), (gather, (table, *_)) = found
    torch.testing.assert_close(sum_(*numbers)[0], numbers[0] + 2 * numbers[1] * numbers[2])
    torch.testing.assert_close(gather(*table)[0], table[0][[0, 1], [0, 4]][:, None])


def test_the_weights_of_a_layer_are_the_model_s() -> None:
    (layer, inputs), *_ = operators.cases("nn.functional.any", sums)
    assert [len(arguments) for arguments in inputs] == [1] * operators.SAMPLES
    assert len(list(layer.buffers())) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1.0, 2.0], ""),
        ([1.0, 2.0001], ""),
        ([1.0, 2.1], "output 0 is off by 0.1 where its largest is 2"),
        ([np.nan, 2.0], "output 0 is off by"),
        ([[1.0, 2.0]], "output 0 is of shape [1, 2], not [2]"),
    ],
)
def test_what_differs_is_told(given: list[Any], said: str) -> None:
    found = operators._different([np.array(given)], [np.array([1.0, 2.0], np.float32)])
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_of_a_reason_what_is_its_own_is_kept() -> None:
    said = "onnx cannot convert the model with fp32 at operators.py:9, `found = f(x)`: its converter raises E: why; "
    assert operators._short(said + "change that part of the model, or name the other targets") == "E: why"
    said = (
        "onnx cannot convert the model at operators.py:9, `found = f(x)`: it has no aten.f, nor is there a form of it; "
    )
    assert operators._short(said + "compute that outside the model") == "it has no aten.f, nor is there a form of it"
    assert operators._short("a/folder/model.pte calls aten::sort") == "model.pte calls aten::sort"
    assert operators._short("") == ""


def test_integers_and_numbers_of_outputs_must_be_equal() -> None:
    exact = [np.array([1, 2, 3])]
    assert operators._different([np.array([1, 2, 4])], exact) == "output 0: 1 of 3 differ"
    assert operators._different([], exact) == "0 outputs for 1"


def test_what_torch_does_not_capture_is_not_a_target_s_fault() -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    outcome, reason = operators._made(Asks(), [(torch.randn(3),)], "onnx")
    assert outcome == "not captured"
    assert reason


def test_the_page_is_of_the_cells_that_are_kept() -> None:
    kept = operators.read()
    assert operators.PAGE.read_text() == operators.page(kept)
    assert not [cell for cell in kept if 'File "' in cell.reason or "/tmp/" in cell.reason], "paths of one machine"
    assert {cell.operation for cell in kept} >= {"abs", "nn.Linear", "nn.LSTM", "nn.functional.conv2d"}


def test_no_operation_is_kept_as_wrong_or_as_a_file_that_does_not_run() -> None:
    """Where one is measured so, it is mended or refused by its name before it is kept."""
    assert not [cell for cell in operators.read() if cell.outcome in ("wrong", "does not run", "crashed")]


def test_the_page_has_a_line_for_each_way_not_to_be_right() -> None:
    cells = [
        Cell(operation="a", case=0, target="onnx", outcome="right"),
        Cell(operation="b", case=0, target="onnx", outcome="refused", reason="x | y"),
        Cell(operation="b", case=0, target="coreml", outcome="refused", reason="x | y"),
    ]
    text = operators.page(cells)
    assert "| b | onnx, coreml | refused | x \\| y |" in text
    assert "| a |" not in text
