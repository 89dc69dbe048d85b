"""Weights that are shared are stored once in every file, and audited once."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.judging import verdict
from edgepass.judging.candidate import Candidate, Standard
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import Weight
from edgepass.models.config import Config, PassConfig
from edgepass.models.passformer import Passformer
from edgepass.quantize import audit, recipe
from edgepass.samples import Samples
from edgepass.task import Task
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.matrix import TARGETS
from runtime_tests.models.topologies import ONLY_FEED, D


def test_weights_of_equal_values_may_be_one_in_a_file() -> None:
    """As the corrections of a tied pass are before it is trained: all zero."""
    model = Passformer(
        Config(dim=D, embedding={"name": "patch", "size": 4}, topology={"name": "tied"}, passes=(ONLY_FEED,)),
        shape=(12, 1),
        outputs=3,
    )
    wanted = audit.requested(capture(model, (torch.randn(1, 12, 1),)).exported, recipe.read("fp32"))
    up = [w for w in wanted if ".widen.up." in w.name]
    assert len(up) == 2
    assert len({w.values for w in up}) == 1
    kept = {w.values: Weight(name="", shape=w.shape, dtype="float32") for w in wanted}
    assert len(kept) == len(wanted) - 2  # one for widen, one for narrow
    assert audit.audit("fp32", wanted, list(kept.values())).coverage == 1
    unequal = [replace(w, values=str(i)) for i, w in enumerate(wanted)]
    found = audit.audit("fp32", unequal, list(kept.values()))
    assert found.coverage is not None
    assert found.coverage < 1
    assert [w.dtype for w in found.weights].count("absent") == 2


WIDTH = 192
SHARED: dict[str, dict[str, Any]] = {"looped": {"begin": 0, "end": 0}, "tied": {"rank": 2}}
KNOBS = {"looped": "loops", "tied": "depth"}
SAMPLE = {("looped", "onnx", "fp32"), ("tied", "executorch", "fp32")}


def size(path: Path) -> int:
    return sum(f.stat().st_size for f in (path, *path.rglob("*")) if f.is_file())


class Twice(nn.Module):
    """One layer at two depths, the second time with inputs a hundred times smaller."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x * 20)) * 0.1)


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize(
    "target", [t if t == "executorch" else pytest.param(t, marks=pytest.mark.slow) for t in TARGETS]
)
@pytest.mark.parametrize("layer", [nn.Linear(16, 16), nn.Conv1d(4, 4, 3, padding=1)])
def test_a_layer_that_is_used_twice_keeps_its_bias_in_int8(layer: nn.Module, target: str, tmp_path: Path) -> None:
    assert isinstance(layer.bias, Tensor)
    nn.init.uniform_(layer.bias, -3, 3)
    arrays = torch.randn(8, 1, 4, 16).numpy()
    model, samples = Twice(layer).eval(), Samples(inputs=[arrays])
    task = Task(name="twice", source="test", model=model, args=samples.arguments()[0], evaluation=samples)
    job = Job(capture(model, task.args), recipe.read("static_wi8_ai8"), samples.arguments)
    module = exporters.target(target)
    path = tmp_path / f"twice{module.suffix}"
    exporters.export(target, job, path)
    standard = Standard(samples=samples, reference=task.reference(samples), score=None)
    candidate = Candidate(path=path, target=target, runtime=module.runtime, recipe=job.recipe)
    record, _ = verdict.judge(candidate, standard, Gates())
    assert record.parity is not None
    assert record.parity.sqnr_db > 30


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize(
    ("name", "target", "number_format"),
    [
        pytest.param(*row, marks=() if row in SAMPLE else pytest.mark.slow)
        for row in itertools.product(SHARED, TARGETS, ("fp32", "static_wi8_ai8"))
    ],
)
def test_a_file_holds_shared_weights_once(name: str, target: str, number_format: str, tmp_path: Path) -> None:
    """Three more loops add nodes to the file, but less than the weights of one pass; unshared ones would be three."""
    one = PassConfig(mixer={"name": "local_attention", "window": 8}, channel_mixer={"name": "feed_forward"})
    samples = [(torch.randn(1, 64, 2),) for _ in range(2)]
    sizes = []
    for times in (1, 4):
        choice = {"name": name, KNOBS[name]: times, **SHARED[name]}
        config = Config(dim=WIDTH, embedding={"name": "patch", "size": 8}, topology=choice, passes=(one,))
        model = Passformer(config, shape=(64, 2), outputs=8)
        job = Job(capture(model, samples[0]), recipe.read(number_format), lambda: samples)
        path = tmp_path / f"{times}{exporters.target(target).suffix}"
        exporters.export(target, job, path)
        sizes.append(size(path))
    values_of_a_pass = 4 * WIDTH * WIDTH + 2 * WIDTH * 2 * WIDTH
    assert sizes[1] - sizes[0] < values_of_a_pass * (4 if number_format == "fp32" else 1), sizes
