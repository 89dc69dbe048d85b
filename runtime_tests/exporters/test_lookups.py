"""Lookups: whether a target makes their rows int8 or leaves them in float32, a file gives what is expected of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgepass.pipeline import build
from edgepass.runtimes import _child
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Words(nn.Module):
    """[B, 12] of 300 words -> [B, 12, 8]; the row of one word is ten times as large as all others."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(300, 32), nn.Linear(32, 8)
        with torch.no_grad():
            self.table.weight[7] *= 10

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.last(self.table(ids))


@pytest.mark.parametrize(
    ("target", "recipe", "dtype"),
    [
        ("tflite", "weight_only_wi8_afp32", "int8"),
        ("tflite", "dynamic_wi8_afp32", "int8"),
        ("onnx", "dynamic_wi8_afp32", "float32"),
    ],
)
def test_a_file_has_the_noise_of_its_lookups_and_no_more(target: str, recipe: str, dtype: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = [(torch.randint(0, 300, (1, 12)),) for _ in range(64)]
    made = build(Words().eval(), samples[0], evaluate=samples, targets=[target], recipe=recipe, out=tmp_path / "o")
    (record,) = made.artifacts
    assert record.verdict == "pass", record.reasons
    assert record.conversion
    assert max(e.ratio for e in record.conversion.excess) < 1.1
    assert record.audit
    table = next(w for w in record.audit.weights if w.name == "table.weight")
    assert table.dtype == dtype
    assert bool(table.reason) == (dtype != "int8")


def test_a_weight_behind_an_int8_lookup_is_read_with_its_own_scale(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    torch.manual_seed(0)
    model, ids = Words().eval(), torch.randint(0, 300, (1, 12))
    torch.onnx.export(model, (ids,), dynamo=True, verbose=False).save(str(tmp_path / "float.onnx"))  # type: ignore[union-attr]
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
    contents = _child.inspect("onnx", tmp_path / "int8.onnx", values=True)
    (values,) = (v for w, v in zip(contents.weights, contents.values, strict=True) if w.shape == (32, 8))
    assert values is not None
    step = float(model.last.weight.detach().abs().max()) / 127
    np.testing.assert_allclose(values, model.last.weight.detach().numpy().T, atol=step)
