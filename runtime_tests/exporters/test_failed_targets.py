"""A target that fails is a record with its reason; what the others can do is written all the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepass.errors import BAD_INPUT, GATE_FAILED
from edgepass.judging import manifest
from runtime_tests.conftest import Done

Cli = Callable[..., Done]

SORTS = """
import torch
from torch import nn


class Sorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(7, 5)

    def forward(self, x):
        return torch.sort(self.inner(x))[0]


def get_model():
    torch.manual_seed(0)
    return Sorted()


def get_args():
    return (torch.linspace(-1.0, 1.0, 7)[None],)
"""


@pytest.mark.export
def test_a_target_that_fails_costs_the_others_nothing(edgepass: Cli, tmp_path: Path) -> None:
    """ExecuTorch refuses the one recipe beforehand, and has no kernel for what the other writes."""
    (tmp_path / "sorts.py").write_text(SORTS)
    out = tmp_path / "o"
    asked = ("--target", "onnx", "--target", "executorch", "--recipe", "fp32", "--recipe", "weight_only_wi8_afp32")
    done = edgepass("export", f"{tmp_path}/sorts.py:get_model", "-o", out, *asked)
    assert done.code == GATE_FAILED, done.err
    made = manifest.read(out)
    records = {(a.target, a.recipe): a for a in made.artifacts}
    assert len(records) == 4
    assert records["onnx", "fp32"].verdict == "pass"
    assert (out / records["onnx", "fp32"].file).is_file()
    ran = records["executorch", "fp32"]
    assert (ran.verdict, (out / ran.file).is_file()) == ("fail", True)
    assert "aten::sort.values" in ran.reasons[0]
    refused = records["executorch", "weight_only_wi8_afp32"]
    assert (refused.verdict, refused.file, refused.bytes, refused.content_sha256) == ("fail", "", 0, "")
    assert "dynamic_wi8_afp32" in refused.reasons[0]
    assert "again" not in (out / manifest.FILE).read_text()
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
    assert "not written" in (out / manifest.REPORT).read_text()
    assert "aten::sort.values" in " ".join(done.out.split())
    again = edgepass("validate", out, "--trust")
    assert again.code == GATE_FAILED, again.err
    assert "dynamic_wi8_afp32" in " ".join(again.out.split())


def test_what_no_target_can_do_is_refused_before_anything_is_loaded(edgepass: Cli, tmp_path: Path) -> None:
    asked = ("--target", "executorch", "--recipe", "weight_only_wi8_afp32")
    done = edgepass("export", f"{tmp_path}/none.py:get_model", "-o", tmp_path / "o", *asked)
    assert done.code == BAD_INPUT
    assert "the nearest recipe that it can is dynamic_wi8_afp32" in done.sentence
    assert not (tmp_path / "o").exists()
