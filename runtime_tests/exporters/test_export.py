"""Model x recipe x target: every written file is run from disk and judged."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from edgepass import catalog, exporters, pipeline
from edgepass.errors import RefusedError
from edgepass.exporters import Job
from edgepass.exporters._capture import Program, capture
from edgepass.judging import verdict
from edgepass.judging.candidate import Standard
from edgepass.judging.gates import Gates
from edgepass.judging.manifest import ArtifactRecord
from edgepass.plan import Plan
from edgepass.quantize import audit, recipe
from edgepass.runtimes import Contents, _child
from edgepass.task import Task
from runtime_tests.conftest import CONVERTERS_WARN
from runtime_tests.exporters.small import RECIPES, TARGETS, sampled, waves

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


Judge = Callable[[str, str], tuple[Contents, ArtifactRecord]]
CASES = list(product(RECIPES, TARGETS))
QUICK = [(name, target) for name, target in CASES if ":" not in target or name == "static_wi8_ai8"]
"""In `make test`; what else ExecuTorch's delegates write is in `make test-all`."""


@pytest.fixture(scope="module")
def judged(jobs: dict[str, Job], standard: Standard, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Recipe, target -> what the file holds and its record; made once."""

    @cache
    def one(name: str, target: str) -> tuple[Contents, ArtifactRecord]:
        module = catalog.load("targets", target)
        path = tmp_path_factory.mktemp("judged") / f"tiny{module.suffix}"
        candidate = pipeline.convert(target, jobs[name], path)
        return _child.inspect(module.runtime, path), verdict.judge(candidate, standard, Gates())[0]

    return one


@pytest.mark.parametrize(("name", "target"), sampled(CASES, QUICK))
def test_every_file_is_within_its_recipes_bounds(name: str, target: str, jobs: dict[str, Job], judged: Judge) -> None:
    job, module = jobs[name], catalog.load("targets", target)
    if job.recipe.scheme in module.refuses:
        _, nearest = module.refuses[job.recipe.scheme]
        assert nearest in RECIPES
        with pytest.raises(RefusedError, match=nearest):
            exporters.check(module, target, job.recipe, None)
        return
    contents, record = judged(name, target)
    assert {x.dtype for x in (*contents.inputs, *contents.outputs)} == {"float32"}, "as the model's own"
    assert record.verdict == "pass", record.reasons
    assert record.parity
    assert record.parity.sqnr_db >= (job.recipe.bounds.min_sqnr or 0)
    assert record.audit
    assert record.audit.coverage == 1.0
    assert {w.dtype for w in record.audit.weights if w.requested} == {job.recipe.weights}
    assert record.memory
    assert record.memory.peak_bytes
    assert record.delegated_flops is None or record.delegated_flops >= 0.85
    if target == "executorch" and name != "fp16":
        assert not record.fallbacks, "our own models lower whole"


def test_one_quantised_graph_serves_every_target(judged: Judge) -> None:
    found = {target: judged("static_wi8_ai8", target)[1].parity for target in TARGETS}
    ratios = {target: parity.sqnr_db for target, parity in found.items() if parity}
    assert ratios.keys() == found.keys()
    formats = [ratio for target, ratio in ratios.items() if ":" not in target]
    assert max(formats) - min(formats) < 0.6, ratios
    assert min(ratios.values()) > max(formats) - 0.6, ratios  # a delegate may keep more in float, never less


@pytest.mark.parametrize("target", [t for t in TARGETS if catalog.load("targets", t).dynamic_batch is None])
def test_a_batch_may_vary_where_the_target_allows(target: str, task: Task, tmp_path: Path) -> None:
    module = catalog.load("targets", target)
    dynamic = capture(task.module, task.args, max_batch=7)
    path = tmp_path / f"tiny{module.suffix}"
    exporters.export(target, Job(dynamic, recipe.read("fp32")), path)
    x = waves(6, 3)[:, 0]
    with torch.inference_mode():
        expected = task.module(torch.from_numpy(x)).numpy()
    for count in (1, 5, 6):
        (got,) = _child.run(module.runtime, path, [x[None, :count]], latency_runs=1).outputs
        np.testing.assert_allclose(got[0], expected[:count], rtol=1e-4)


def test_an_onnx_file_tells_nothing_of_where_it_was_made(jobs: dict[str, Job], tmp_path: Path) -> None:
    exporters.export("onnx", jobs["fp32"], tmp_path / "tiny.onnx")
    assert b".py" not in (tmp_path / "tiny.onnx").read_bytes()


def test_recipes_keep_what_they_are_told_to(program: Program) -> None:
    int8 = recipe.read("static_wi8_ai8")
    everything = {w.name for w in audit.requested(program.exported, int8) if not w.reason}
    partly = audit.requested(program.exported, replace(int8, keep=("passformer.topology.passes.*",)))
    left = {w.name for w in partly if not w.reason}
    kept = {name for name in everything if name.startswith("passformer.topology.passes.")}
    assert kept
    assert left
    assert left == everything - kept


def test_third_party_models_go_through_as_files(tmp_path: Path) -> None:
    """A Hugging Face BERT of two layers with random weights, token ids in, through file.py:get_model."""
    pytest.importorskip("transformers", reason="pip install transformers (litert-torch brings it)")
    from edgepass import source

    file = tmp_path / "bert.py"
    file.write_text(BERT)
    loaded = source.load(f"{file}:get_model")
    plan = Plan.of(("executorch", "coreml", "tflite"), ("static_wi8_ai8",))
    done = pipeline.export(loaded, plan, tmp_path / "o", Gates())
    assert done.verdict == "pass", [a.reasons for a in done.artifacts]
    assert all(a.audit and a.audit.coverage == 1.0 for a in done.artifacts)


BERT = """
import torch
from transformers import BertConfig, BertModel

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        config = BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                            intermediate_size=64, max_position_embeddings=24)
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, ids):
        return self.bert(input_ids=ids).last_hidden_state

def get_model():
    torch.manual_seed(0)
    return Encoder()

def get_args():
    return (torch.zeros(1, 17, dtype=torch.int64),)

def sentences(seed):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randint(0, 99, (1, 17), generator=generator),) for _ in range(16)]

def get_calibration_data():
    return sentences(1)

def get_eval_data():
    return sentences(2)
"""
