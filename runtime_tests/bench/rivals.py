"""The rivals: each converter called directly, by its own documented route and with its own defaults.

Two helps are given, without which our own model does not convert. ExecuTorch's decomposition of attention on transposed
query, key and value, as every multi-head attention has them, ends in "Cannot view a tensor with shape ...": the result
is copied. coremltools ends in "Unsupported fx node alias" for a slice of everything: the alias is dropped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.quantize.pt2e import nothing_trained
from runtime_tests.bench.models import Subject


def executorch_float(subject: Subject, path: Path) -> None:
    """docs.pytorch.org/executorch, XNNPACK backend: export, partition, write."""
    with _copied_attention():
        program = torch.export.export(subject.model, subject.args)
    _executorch(program, path)


def executorch_static(subject: Subject, path: Path) -> None:
    """docs.pytorch.org/executorch, XNNPACK quantisation: PT2E with XNNPACKQuantizer, then as above."""
    with _copied_attention():
        graph = xnnpack_graph(subject)
    _executorch(torch.export.export(graph, subject.args), path)


def coreml_static(subject: Subject, path: Path) -> None:
    """The same PT2E graph, made again, through ct.convert, which takes ATen programs only."""
    import coremltools as ct

    without_alias = {torch.ops.aten.alias.default: lambda x: x}
    program = torch.export.export(xnnpack_graph(subject), subject.args).run_decompositions(without_alias)
    ct.convert(program, minimum_deployment_target=ct.target.iOS17, skip_model_load=True).save(str(path))


def coreml_half(subject: Subject, path: Path) -> None:
    """apple.github.io/coremltools, PyTorch conversion: float16, which is its default."""
    _coreml(subject, path)


def coreml_float(subject: Subject, path: Path) -> None:
    """The same, asked for float32."""
    import coremltools as ct

    _coreml(subject, path, compute_precision=ct.precision.FLOAT32)


def tflite_float(subject: Subject, path: Path) -> None:
    """github.com/google-ai-edge/litert-torch: convert, export."""
    import litert_torch

    litert_torch.convert(subject.model, subject.args).export(str(path))


def tflite_static(subject: Subject, path: Path) -> None:
    """litert-torch, docs/pytorch_converter: PT2E with PT2EQuantizer, which is also told to the converter."""
    import litert_torch
    from litert_torch.quantize.quant_config import QuantConfig

    graph, quantizer = litert_graph(subject)
    config = QuantConfig(pt2e_quantizer=quantizer)
    litert_torch.convert(graph, subject.args, quant_config=config).export(str(path))


def onnx_float(subject: Subject, path: Path) -> None:
    """docs.pytorch.org, torch.onnx: export by torch.export, which is its default."""
    torch.onnx.export(subject.model, subject.args, path, dynamo=True, external_data=False, verbose=False)


def onnx_static(subject: Subject, path: Path) -> None:
    """onnxruntime.ai, static quantisation of that file: preprocessed, QDQ, its defaults."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, names: list[str]) -> None:
            self.left = iter(dict(zip(names, (x.numpy() for x in args), strict=True)) for args in subject.calibration)

        def get_next(self) -> Any:
            return next(self.left, None)

    import onnx

    with TemporaryDirectory() as folder:
        plain, prepared = Path(folder) / "plain.onnx", Path(folder) / "prepared.onnx"
        onnx_float(subject, plain)
        quant_pre_process(plain, prepared)
        names = [each.name for each in onnx.load(prepared).graph.input]
        quantize_static(prepared, path, Reader(names))


BARE = {
    ("executorch", "fp32"): executorch_float,
    ("executorch", "static_wi8_ai8"): executorch_static,
    ("coreml", "fp32"): coreml_float,
    ("coreml", "fp16"): coreml_half,
    ("coreml", "static_wi8_ai8"): coreml_static,
    ("tflite", "fp32"): tflite_float,
    ("tflite", "static_wi8_ai8"): tflite_static,
    ("onnx", "fp32"): onnx_float,
    ("onnx", "static_wi8_ai8"): onnx_static,
}
"""(target, recipe) -> the converter's own way, where it has one."""


def _coreml(subject: Subject, path: Path, **options: Any) -> None:
    import coremltools as ct

    program = torch.export.export(subject.model, subject.args).run_decompositions({})
    options["minimum_deployment_target"] = ct.target.iOS17
    ct.convert(program, skip_model_load=True, **options).save(str(path))


@contextmanager
def _copied_attention() -> Iterator[None]:
    stock = functional.scaled_dot_product_attention

    def attention(*tensors: Tensor, **options: Any) -> Tensor:
        return stock(*tensors, **options).clone(memory_format=torch.contiguous_format)

    with mock.patch.object(functional, "scaled_dot_product_attention", attention):
        yield


def _executorch(program: torch.export.ExportedProgram, path: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path.write_bytes(edge.to_executorch().buffer)


def xnnpack_graph(subject: Subject) -> torch.nn.Module:
    """A model as ExecuTorch's own quantiser has it."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    return _pt2e(subject, XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True)), True)


def litert_graph(subject: Subject) -> tuple[torch.nn.Module, Any]:
    """As litert-torch's has it, and that quantiser."""
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config

    quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    return _pt2e(subject, quantizer, fold=False), quantizer


def _pt2e(subject: Subject, quantizer: Any, fold: bool) -> torch.nn.Module:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(torch.export.export(subject.model, subject.args).module(), quantizer)
    with torch.no_grad():
        for args in subject.calibration:
            prepared(*args)
    with nothing_trained():  # which changes nothing, and saves minutes
        converted: torch.nn.Module = convert_pt2e(prepared, fold_quantize=fold)
    return converted
