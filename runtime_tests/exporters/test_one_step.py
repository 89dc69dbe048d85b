"""A recurrent layer of a single step from zeros uses no weight of its state, and none is asked for in a file."""

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import edgepass
from edgepass.exporters._capture import capture
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters.small import TARGETS, Recurrent, sampled

pytestmark = [pytest.mark.export, CONVERTERS_WARN]

LAYERS = {
    "rnn": nn.RNN(8, 6, nonlinearity="relu"),
    "rnn_without_bias": nn.RNN(8, 6, bias=False),
    "gru": nn.GRU(8, 6, batch_first=True, bidirectional=True),
    "lstm": nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True),
}


def example(layer: nn.RNNBase) -> Tensor:
    """Seven sequences of one step."""
    return torch.randn((7, 1, 8) if layer.batch_first else (1, 7, 8))


@pytest.mark.parametrize("name", LAYERS)
def test_the_weights_of_the_state_are_not_in_the_program(name: str) -> None:
    model, x = Recurrent(LAYERS[name]).eval(), example(LAYERS[name])
    program = capture(model, (x,)).exported
    shapes = {tuple(value.shape) for value in program.state_dict.values()}
    hidden = {tuple(value.shape) for key, value in LAYERS[name].named_parameters() if key.startswith("weight_hh")}
    assert not hidden & shapes
    torch.testing.assert_close(program.module()(x), model(x))


@pytest.mark.parametrize(
    ("recipe", "target"),
    sampled(product(("fp32", "static_wi8_ai8"), TARGETS), {("fp32", "onnx"), ("static_wi8_ai8", "coreml")}),
)
def test_a_file_of_one_step_passes(recipe: str, target: str, tmp_path: Path) -> None:
    for name in ("rnn", "lstm"):
        torch.manual_seed(0)
        layer = LAYERS[name]
        data = [(example(layer),) for _ in range(8)]
        done = edgepass.build(
            Recurrent(layer).eval(), data[0], out=tmp_path / name, targets=(target,), recipe=recipe,
            calibration=data, evaluate=data,
        )  # fmt: skip
        assert done.verdict == "pass", [r.reasons for r in done.artifacts]


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_nor_are_they_where_the_batch_varies(name: str) -> None:
    model, x = Recurrent(LAYERS[name]).eval(), example(LAYERS[name])
    program = capture(model, (x,), max_batch=9).exported
    shapes = {tuple(value.shape) for value in program.state_dict.values()}
    hidden = {tuple(value.shape) for key, value in LAYERS[name].named_parameters() if key.startswith("weight_hh")}
    assert not hidden & shapes
    for count in (1, 3, 9):
        some = torch.randn(count, 1, 8)
        torch.testing.assert_close(program.module()(some), model(some))
