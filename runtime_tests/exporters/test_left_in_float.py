"""What a recipe leaves in float stays so in formats that quantise by themselves: tables, and modules that are kept."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgepass import exporters
from edgepass.pipeline import build
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Spectrum(nn.Module):
    """[B, 7, 16] -> [B, 7, 16], [B, 7, 5]: a fixed transform, an output too, and layers one of which is kept."""

    keep_float = ("exact",)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.linalg.qr(torch.randn(16, 16))[0])
        self.exact, self.coarse = nn.Linear(16, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = x @ self.table
        return spectrum, self.coarse(torch.relu(self.exact(spectrum)))


@pytest.mark.parametrize(
    ("target", "recipe"),
    [
        ("coreml", "weight_only_wi8_afp32"),
        ("onnx", "dynamic_wi8_afp32"),
        ("tflite", "dynamic_wi8_afp32"),
        ("tflite", "weight_only_wi8_afp32"),
    ],
)
def test_only_what_the_recipe_speaks_of_is_int8(target: str, recipe: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = [(torch.randn(1, 7, 16),) for _ in range(64)]
    made = build(Spectrum().eval(), samples[0], evaluate=samples, targets=[target], recipe=recipe, out=tmp_path / "o")
    (record,) = made.artifacts
    assert record.verdict == "pass", record.reasons
    assert record.audit
    formats = {tuple(sorted(w.shape)): w.dtype for w in record.audit.weights if len(w.shape) > 1}
    assert formats == {(16, 16): "float32", (16, 24): "float32", (5, 24): "int8"}
    assert record.parity
    assert record.parity.outputs[0].sqnr_db > 120, "the transform is of float32"
    assert [w.reason for w in record.audit.weights if w.name == "exact.weight"] == [
        "kept in float32 by the recipe or the model"
    ]


class Scale(nn.Module):
    """In and out of raw values around 300, which float16 has in steps of a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 1, 3), 300.0))
        self.register_buffer("spread", torch.tensor([[[0.7, 1.1, 1.9]]]))

    def forward(self, x: Tensor, *, back: bool = False) -> Tensor:
        return x * self.spread + self.mean if back else (x - self.mean) / self.spread


class Raw(nn.Module):
    """[B, 12, 3] -> [B, 5, 3], [B, 12, 3]: a layer over time between two scales that are kept, and what it reads."""

    keep_float = ("scale", "unscale")

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.unscale, self.layer = Scale(), Scale(), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scaled = self.scale(x)
        return self.unscale(self.layer(scaled.transpose(1, 2)).transpose(1, 2), back=True), scaled


@pytest.mark.parametrize("target", ["coreml", "executorch", "onnx", "tflite"])
def test_raw_values_stay_float32_in_float16_whatever_a_converter_makes_of_the_scale(
    target: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    samples = [(300 + torch.randn(1, 12, 3),) for _ in range(64)]
    made = build(Raw().eval(), samples[0], evaluate=samples, targets=[target], recipe="fp16", out=tmp_path / "o")
    (record,) = made.artifacts
    assert record.verdict == "pass", record.reasons
    assert record.loss
    assert record.loss.file_db is not None
    assert record.loss.expected_db is not None
    # Raw values in halves cost 11 dB; a sum of twelve products in halves, where a processor has them, 3.5.
    spread = 6 if exporters.target(target).sums_in_halves else 3
    assert record.loss.file_db > record.loss.expected_db - spread
    assert record.loss.expected_db > 55
    assert record.parity
    assert record.parity.outputs[1].sqnr_db > 100
