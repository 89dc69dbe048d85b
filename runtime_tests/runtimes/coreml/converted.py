"""Two small models and the Core ML packages that coremltools makes of them."""

import gc
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from edgepass.runtimes.coreml._file import quiet

with quiet():
    import coremltools as ct


gc.freeze()  # every conversion collects garbage, half a second with all that coremltools and torch hold


class Transformer(nn.Module):
    """B = batch, T = 12 steps, D = 16 features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Linear(5, 16), nn.LayerNorm(16), nn.Linear(16, 3)
        self.qkv, self.up, self.down = nn.Linear(16, 48), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x_BT: torch.Tensor) -> torch.Tensor:
        x_BTD = self.embed(x_BT)
        b, t, _ = x_BTD.shape
        q, k, v = self.qkv(self.norm(x_BTD)).reshape(b, t, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        x_BTD = x_BTD + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, 16)
        return self.out(x_BTD + self.down(F.gelu(self.up(x_BTD))))


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(5, 16, 3, padding=1),
            nn.BatchNorm1d(16),
            nn.Hardswish(),
            nn.Conv1d(16, 16, 5, padding=2, groups=16),
            nn.MaxPool1d(2),
            nn.ConvTranspose1d(16, 8, 4, 2, 1),
            nn.SiLU(),
            nn.AvgPool1d(4),
        )

    def forward(self, x_BT: torch.Tensor) -> torch.Tensor:
        return self.body(x_BT.transpose(1, 2)).flatten(1)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "transformer": Transformer,
    "convolutions": Convolutions,
}


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().eval()


def convert(model: nn.Module, precision: Any = ct.precision.FLOAT32, dynamic: bool = False, target: Any = None) -> Any:
    dims = {0: torch.export.Dim("batch", min=1, max=16)} if dynamic else {}
    example = torch.randn(2 if dynamic else 1, 12, 5)
    with quiet():
        program = torch.export.export(model, (example,), dynamic_shapes=(dims,)).run_decompositions({})
        return ct.convert(
            program,
            minimum_deployment_target=target or ct.target.iOS18,
            compute_precision=precision,
            skip_model_load=True,
        )
