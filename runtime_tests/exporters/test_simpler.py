"""What a converter does not know reaches it in torch's simpler operations, or by a rewrite; all else as it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional

import edgepass
from edgepass import rewrites
from edgepass.exporters._capture import capture
from runtime_tests.conftest import CONVERTERS_WARN

OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "where": lambda x: torch.where(x > 0, x, 0.5),
    "where, first": lambda x: torch.where(x > 0, 1, x),
    "celu": functional.celu,
    "logsigmoid": functional.logsigmoid,
    "hardshrink": lambda x: functional.hardshrink(x, 0.1),
    "addcmul": lambda x: torch.addcmul(x, x, x.flip(-1), value=0.5),
    "diff": lambda x: x.diff(),
    "fmod": lambda x: torch.fmod(x, 1.5),
    "new_ones": lambda x: x + x.new_ones(8),
    "unfold": lambda x: x.unfold(2, 3, 2),
    "unfold, few": lambda x: x.unfold(2, 6, 2),
    "reciprocal": lambda x: 1 / (x.square() + 0.002),
    "trunc": lambda x: torch.trunc(3 * x) + x,
    "nan_to_num": lambda x: x.nan_to_num(),
    "cosine_similarity": lambda x: functional.cosine_similarity(x, x.flip(-1), dim=1),
    "std": lambda x: x.std(-1),
    "var_mean": lambda x: torch.var_mean(x, 2)[0],
    "median": lambda x: x.median(-1)[0],
    "quantile": lambda x: x.quantile(0.3, dim=-1),
    "diagonal": lambda x: x.diagonal(2, 1, 2),
    "cdist": lambda x: torch.cdist(x, x.flip(1)),
    "circular": lambda x: functional.pad(x, (2, 3), mode="circular"),
    "clamp": lambda x: torch.clamp(x, x.flip(-1), torch.full_like(x, 0.2)),
    "adaptive_avg_pool3d": lambda x: functional.adaptive_avg_pool3d(x.reshape(1, 2, 2, 2, 4), (1, 2, 3)),
}
"""Of [1, 4, 8]; coremltools 9.0 refuses each ("Unsupported fx node"), or what torch makes of it, or gets it wrong."""
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    "sort": lambda x: x.sort(-1)[0],
    "median": lambda x: x.median(-1)[0],
    "quantile": lambda x: x.quantile(0.3, dim=-1),
    "var_mean": lambda x: torch.var_mean(x, 2)[0],
    "instance_norm": functional.instance_norm,
    "unfold": lambda x: x.unfold(2, 3, 2),
    "adaptive_max_pool1d": lambda x: functional.adaptive_max_pool1d(x, 4),
    "avg_pool3d": lambda x: functional.avg_pool3d(x.reshape(1, 2, 2, 2, 4), 2),
    "max_pool3d": lambda x: functional.max_pool3d(x.reshape(1, 2, 2, 2, 4), 2),
    "adaptive_avg_pool3d": OPERATIONS["adaptive_avg_pool3d"],
}
"""ExecuTorch 1.5.1 has no kernels of these, or they are no Core ATen operations."""
TAKEN = {"coreml": OPERATIONS, "executorch": KERNELS}


class Each(nn.Module):
    """An output for each operation, and for layers that converters do not know, of one linear layer."""

    def __init__(self, target: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.operations = TAKEN[target].values()
        self.linear, self.lstm, self.gru = nn.Linear(8, 8), nn.LSTMCell(8, 8), nn.GRUCell(8, 8)
        self.bilinear = nn.Bilinear(8, 8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.linear(x)
        h, c = self.lstm(y[0], (y[0], y[0] + 1))
        return *(operation(y) for operation in self.operations), h, c, self.gru(y[0], y[0]), self.bilinear(y, y)


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("recipe", ["fp32", "static_wi8_ai8"])
@pytest.mark.parametrize("target", TAKEN)
def test_targets_take_what_their_converters_refuse(target: str, recipe: str, tmp_path: Path) -> None:
    data = [(torch.randn(1, 4, 8),) for _ in range(64)]
    done = edgepass.build(
        Each(target), data[0], out=tmp_path / "o", targets=[target], recipe=recipe, calibration=data, evaluate=data
    )
    assert done.verdict == "pass", [a.reasons for a in done.artifacts]


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree
def test_only_what_is_not_known_is_taken_apart() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.celu(functional.hardswish(x))

    def knows(node: Node) -> bool:
        return node.target != torch.ops.aten.celu.default

    program = capture(Two().eval(), (torch.randn(3, 4),)).exported
    made = rewrites.simpler(program, knows)
    kept = {str(node.target) for node in made.graph.nodes if node.op == "call_function"}
    assert "aten.hardswish.default" in kept
    assert "aten.celu.default" not in kept
    assert rewrites.simpler(program, lambda node: True) is program
