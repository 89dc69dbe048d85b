"""Files of one model, made by the real converters, and run or read in the child process."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgepass.runtimes import Contents, _child
from edgepass.runtimes._child import Limits

RUNTIMES = {".pt2": "eager", ".pte": "executorch", ".tflite": "tflite", ".onnx": "onnx"}
FLOAT = ["float.pt2", "float.pte", "float.tflite", "float.onnx"]
MATRIX_FLOPS = 2 * (13 * 16 * 3 * 3 + 13 * 16 * 3 + 13 * 16 * 48 + 2 * 13 * 13 * 16 + 13 * 16 * 16 + 13 * 16 * 5)
"""Of the model below: convolution, depthwise convolution, projection, two products of attention, output, head."""

BOUNDED = Limits(seconds=30, memory_bytes=4 << 30)


def build(folder: Path) -> None:
    """Write the files that the tests look at. Its own process: converters print, warn, and take memory."""
    import torch
    from ai_edge_quantizer import quantizer, recipe
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from executorch.exir import to_edge_transform_and_lower
    from litert_torch import convert
    from litert_torch.quantize import pt2e_quantizer
    from litert_torch.quantize.quant_config import QuantConfig
    from torch import Tensor, nn
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    class Model(nn.Module):
        """x [batch, 3 channels, 13 steps] -> [batch, 13, 5] and the attention weights [batch, 13, 13]."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 16, 3, padding=1)
            self.depthwise = nn.Conv1d(16, 16, 3, padding=1, groups=16)
            self.norm = nn.LayerNorm(16)
            self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 5)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.depthwise(torch.relu(self.conv(x))).transpose(1, 2)
            q, k, v = self.qkv(self.norm(y)).chunk(3, -1)
            weights = torch.bmm(q, k.transpose(1, 2)).mul(0.25).softmax(-1)
            return self.head(self.out(torch.bmm(weights, v)) + y), weights

    class Mixed(nn.Module):
        """A linear layer, which XNNPACK takes, and a 3-D convolution, which it does not: equal work in each."""

        def __init__(self) -> None:
            super().__init__()
            self.linear, self.conv = (
                nn.Linear(8, 8, bias=False),
                nn.Conv3d(1, 1, (1, 1, 8), padding=(0, 0, 4), bias=False),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.linear(x)[None, None, None])

    class Many(nn.Module):
        """Twelve inputs and outputs, told apart by their factors; args_10 sorts before args_2 as text."""

        def forward(self, *xs: Tensor) -> tuple[Tensor, ...]:
            return tuple(x * (i + 1) for i, x in enumerate(xs))

    def export(model: nn.Module, args: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
        return torch.export.export(model, args, strict=False)

    def pte(program: torch.export.ExportedProgram, name: str) -> None:
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        (folder / name).write_bytes(lowered.to_executorch().buffer)

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, x = Model().eval(), (torch.randn(1, 3, 13),)
    with torch.no_grad():
        model.qkv.weight[::2] = 0.0  # exactly half of it
    many = tuple(torch.ones(1, 2) for _ in range(12))
    torch.export.save(export(model, x), folder / "float.pt2")
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    dynamic = torch.export.export(model, (torch.randn(2, 3, 13),), dynamic_shapes=(batch,))
    torch.export.save(dynamic, folder / "dynamic.pt2")
    pte(export(model, x), "float.pte")
    pte(export(Mixed().eval(), (torch.randn(8, 8),)), "mixed.pte")
    pte(export(Many().eval(), many), "many.pte")
    convert(model, x).export(str(folder / "float.tflite"))
    convert(Many().eval(), many).export(str(folder / "many.tflite"))
    torch.onnx.export(model, x, folder / "float.onnx", dynamo=True, external_data=False)

    def quantized(*, fold: bool) -> nn.Module:
        per_channel = xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True)
        quantizer_ = xnnpack_quantizer.XNNPACKQuantizer().set_global(per_channel)
        prepared = prepare_pt2e(export(model, x).module(), quantizer_)
        torch.manual_seed(1)
        for _ in range(8):
            prepared(torch.randn(1, 3, 13))
        return convert_pt2e(prepared, fold_quantize=fold)

    pte(export(quantized(fold=True), x), "int8.pte")
    config = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True)
    config = QuantConfig(pt2e_quantizer=pt2e_quantizer.PT2EQuantizer().set_global(config))
    convert(quantized(fold=False), x, quant_config=config).export(str(folder / "int8.tflite"))
    for name, steps in (("hybrid", recipe.dynamic_wi8_afp32()), ("weight_only", recipe.weight_only_wi8_afp32())):
        converter = quantizer.Quantizer(str(folder / "float.tflite"))
        converter.load_quantization_recipe(steps)
        converter.quantize().export_model(str(folder / f"{name}.tflite"))


def run(path: Path, inputs: Sequence[np.ndarray], **options: object) -> _child.Measurement:
    options = {"warmup": 1, "latency_runs": 3, **options}
    return _child.run(RUNTIMES[path.suffix], path, inputs, **options)  # type: ignore[arg-type]


def inspect(path: Path, limits: Limits = Limits()) -> Contents:  # noqa: B008 (frozen)
    return _child.inspect(RUNTIMES[path.suffix], path, limits)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
