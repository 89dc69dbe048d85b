"""What a converter does not know reaches it in torch's simpler operations, or by a rewrite; all else as it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional

import edgepass
from edgepass import exporters, rewrites
from edgepass.errors import RefusedError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.quantize.recipe import read
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
    "softplus": lambda x: functional.softplus(x, 3, 0.2),
    "prod": lambda x: x.prod(-1),
    "asinh": lambda x: torch.asinh(x) + torch.acosh(x.abs() + 1.5) + torch.erfc(x),
    "isclose": lambda x: torch.isclose(x, x.flip(-1), 0.5).float(),
    "cdist of another power": lambda x: torch.cdist(x, x.flip(1) + 1, 3),
    "pdist": lambda x: functional.pdist(x[0]),
    "scatter_reduce": lambda x: x.scatter_reduce(1, torch.tensor([[[0, 1, 1, 3, 2, 2, 0, 3]] * 4]), x.flip(2), "amax"),
    "as_strided": lambda x: (x + 0).as_strided((3, 4), (2, 1)),
    "embedding_bag": lambda x: functional.embedding_bag(
        torch.tensor([0, 2, 1, 3, 3]), x[0], torch.tensor([0, 2]), mode="max"
    ),
    "batch statistics": lambda x: functional.batch_norm(x, None, None, training=True),
    "dilated": lambda x: functional.max_pool2d(x[None], 2, 1, 0, 2),
    "places": lambda x: functional.max_pool2d(x, 2, 2, return_indices=True)[0],
    "adaptive_max_pool2d": lambda x: functional.adaptive_max_pool2d(x, (3, 5)),
    "mse_loss": lambda x: functional.mse_loss(x, x.flip(-1)),
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
    "adaptive_max_pool3d": lambda x: functional.adaptive_max_pool3d(x.reshape(1, 2, 2, 2, 4), (1, 2, 3)),
    "largest in volumes": lambda x: functional.max_pool3d(x.reshape(1, 2, 2, 2, 4), 2, return_indices=True)[0],
    "scatter_reduce": OPERATIONS["scatter_reduce"],
    "unpooled": lambda x: torch.ops.aten.max_pool2d_with_indices_backward(
        x[None, :, :2, :4], x[None], [2, 2], [2, 2], [0, 0], [1, 1], False, torch.arange(8).reshape(1, 1, 2, 4)
    ),
    "log_softmax": lambda x: x.log_softmax(-1, torch.float64).float(),
    "channels last": lambda x: torch.where(x > 0, x[None].to(memory_format=torch.channels_last).cumsum(2), x.flip(1)),
}
"""ExecuTorch 1.5.1 has no kernels of these or mistaken ones, or they are no Core ATen operations."""
VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "floor_divide": lambda x: torch.floor_divide(x, 0.3 + x.flip(-1).abs()),
    "logical_xor": lambda x: torch.logical_xor(x.relu(), x.flip(-1).relu()).float(),
    "topk": lambda x: x.topk(3, 1)[0],
    "argsort": lambda x: torch.argsort(x, dim=-1, stable=True).float(),
    "median of all": lambda x: x.median(),
    "quantile": lambda x: x.quantile(0.3, dim=1),
    "cummax": lambda x: torch.stack([x.cummax(-1)[0], x.cummax(1)[1].float()]),
    "cumprod": lambda x: x.cumprod(-1),
    "hypot": lambda x: torch.hypot(x, x.flip(1)) + torch.exp2(x) + torch.copysign(x, x.flip(-1)),
    "bucketize": lambda x: torch.bucketize(x, torch.linspace(-1, 1, 5)).float(),
    "masked_scatter": lambda x: x.masked_scatter(x > 0, x.flip(-1)),
    "index_add": lambda x: x.index_add(1, torch.tensor([0, 2, 2, 3]), x.flip(1)),
    "scatter_add": lambda x: torch.zeros_like(x).scatter_add(2, (x > 0).long() * 5, x),
    "index_put": lambda x: x.index_put((torch.tensor([0, 0]), x[0, :2].argmax(1) % 4), x[0, :2], accumulate=True),
    "nearest": lambda x: (
        functional.interpolate(x[None], (6, 5)) + functional.interpolate(x[None], scale_factor=1.5)[..., :5]
    ),
    "smoothed": lambda x: functional.interpolate(x[None], (3, 5), mode="bilinear", antialias=True),
    "last windows": lambda x: functional.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "places": lambda x: functional.max_pool2d(x, 2, 2, return_indices=True)[1].float(),
    "avg_pool2d": lambda x: torch.ops.aten.avg_pool2d(x, [3], [1], [1]),
    "avg_pool2d without padding": lambda x: functional.avg_pool2d(x, 2),
    "max_pool2d": lambda x: functional.max_pool2d(x, 2),
    "unfold": lambda x: x.unfold(2, 3, 2),
    "one part": lambda x: x.split(4, 1)[0],
    "adaptive_avg_pool3d": OPERATIONS["adaptive_avg_pool3d"],
    "softplus": OPERATIONS["softplus"],
    "hidden row": lambda x: torch.ops.aten._safe_softmax(x.masked_fill(x < 0.3, -torch.inf), -1),
}
"""litert-torch 0.10 refuses each, or writes what LiteRT 2.1 does not run, or computes otherwise."""
SIMPLE: dict[str, Callable[[Tensor], Tensor]] = {
    "averages": lambda x: (
        functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True) * functional.avg_pool2d(x, 3, 2, 1, True, True, 5)
    ),
    "edges": lambda x: functional.pad(x, (-3, 4), mode="replicate"),
    "losses": lambda x: functional.cross_entropy(x, x.softmax(1)),
    "training": lambda x: functional.batch_norm(x, torch.zeros(4), torch.ones(4), training=True),
    "extremes": lambda x: torch.stack(torch.aminmax(x)),
    "outgrown": lambda x: functional.conv_transpose1d(x, torch.ones(4, 1, 2), None, 1, 0, 1, 1, 2),
    "kthvalue": lambda x: x.kthvalue(2, -1)[0] + x.median(-1)[0],
    "fmax": lambda x: torch.fmax(x, x.flip(-1)) + torch.copysign(x, x.flip(1)) + x.cumprod(-1),
    "cdist": OPERATIONS["cdist"],
    "adaptive_max_pool3d": KERNELS["adaptive_max_pool3d"],
}
"""torch's exporter to ONNX knows none of these, or onnxruntime 1.31 runs what it writes otherwise, or not at all."""
INT8 = "static_wi8_ai8"
TAKEN: dict[tuple[str, str], dict[str, Callable[[Tensor], Tensor]]] = {
    ("coreml", "fp32"): OPERATIONS,
    ("coreml", INT8): OPERATIONS,
    ("executorch", "fp32"): KERNELS | {name: f for name, f in VALUES.items() if name != "last windows"},
    ("executorch", INT8): KERNELS,
    ("tflite", "fp32"): VALUES,
}
"""Not those of VALUES in int8, where a rounding puts a number into another place."""


class Each(nn.Module):
    """An output for each operation, and for layers that converters do not know, of one linear layer."""

    def __init__(self, target: str, recipe: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.volumes = recipe == "fp32"
        self.operations = TAKEN[target, recipe].values()
        self.linear, self.lstm, self.gru = nn.Linear(8, 8), nn.LSTMCell(8, 8), nn.GRUCell(8, 8)
        self.bilinear = nn.Bilinear(8, 8, 3)
        self.volume, self.back = nn.Conv3d(2, 4, 2, 1, 1, groups=2), nn.ConvTranspose3d(2, 4, 2, 2, 1, 1, groups=2)
        self.stepped = nn.ConvTranspose2d(2, 2, 3, 2, 1, 1, groups=2, dilation=2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.linear(x)
        h, c = self.lstm(y[0], (y[0], y[0] + 1))
        found = [*(operation(y) for operation in self.operations), h, c, self.gru(y[0], y[0]), self.bilinear(y, y)]
        if self.volumes:
            volume = y.reshape(1, 2, 2, 2, 4)
            found += [self.volume(volume), self.back(volume), self.stepped(volume.flatten(3))]
        return tuple(found)


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize(("target", "recipe"), TAKEN)
def test_targets_take_what_their_converters_refuse(target: str, recipe: str, tmp_path: Path) -> None:
    data = [(torch.randn(1, 4, 8),) for _ in range(64)]
    done = edgepass.build(
        Each(target, recipe),
        data[0],
        out=tmp_path / "o",
        targets=[target],
        recipe=recipe,
        calibration=data,
        evaluate=data,
    )
    assert done.verdict == "pass", [a.reasons for a in done.artifacts]


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree
class Simple(nn.Module):
    """An output for each operation and a layer of two inputs, of one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.bilinear = nn.Linear(8, 8), nn.Bilinear(8, 8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.linear(x)
        return (*(operation(y) for operation in SIMPLE.values()), self.bilinear(y, y))


@pytest.mark.export
@CONVERTERS_WARN
def test_onnx_takes_what_torch_s_exporter_refuses(tmp_path: Path) -> None:
    data = [(torch.randn(1, 4, 8),) for _ in range(16)]
    done = edgepass.build(Simple(), data[0], out=tmp_path / "o", targets=["onnx"], recipe="fp32", evaluate=data)
    assert done.verdict == "pass", [a.reasons for a in done.artifacts]


@pytest.mark.export
@CONVERTERS_WARN
@pytest.mark.parametrize("target", ["coreml", "executorch", "onnx", "tflite"])
def test_what_a_target_has_in_no_form_is_refused_by_its_name_and_line(target: str, tmp_path: Path) -> None:
    class Unknown(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.matrix_exp(x)

    job = Job(capture(Unknown(), (torch.randn(1, 3, 3),)), read("fp32"))
    why = rf"{target} cannot convert the model at test_simpler\.py:\d+, `.*`: it has no aten\.linalg_matrix_exp, nor"
    with pytest.raises(RefusedError, match=why):
        exporters.export(target, job, tmp_path / "model")


def test_int8_convolutions_over_volumes_are_refused_by_name(tmp_path: Path) -> None:
    job = Job(capture(Each("executorch", INT8).volume, (torch.randn(1, 2, 2, 2, 4),)), read(INT8))
    with pytest.raises(RefusedError, match=r"no int8 convolution over volumes.*nearest recipe that it can is fp16"):
        exporters.export("executorch", job, tmp_path / "m.pte")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree
def test_places_in_volumes_are_refused_by_name(tmp_path: Path) -> None:
    model = nn.MaxPool3d(2, return_indices=True)
    job = Job(capture(model, (torch.randn(1, 2, 4, 4, 4),)), read("fp32"))
    with pytest.raises(RefusedError, match=r"largest in a volume otherwise than torch; ask for the numbers"):
        exporters.export("tflite", job, tmp_path / "m.tflite")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch.export, of torch's own pytree
def test_outputs_without_elements_are_refused_by_name(tmp_path: Path) -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"all": x * 2, "none": x[:0]}

    job = Job(capture(Nothing(), (torch.randn(3, 4),)), read("fp32"))
    with pytest.raises(RefusedError, match=r"output none: it has no elements, of shape \[0, 4\].*leave it out"):
        exporters.export("tflite", job, tmp_path / "m.tflite")


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
