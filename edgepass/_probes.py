"""What the doctor's child process does: import the packages of one target, export one linear layer, run it, compare."""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_QUANTIZER = "executorch.backends.xnnpack.quantizer.xnnpack_quantizer"
TOLERANCE = 1e-4
"""Largest absolute difference allowed for float32; the probe's outputs are of the order of 1."""

# The packages whose versions matter to each target, by import name; the first is the one that makes the file.
PACKAGES = {
    "core": ("torch", "numpy", "click", "jinja2", "matplotlib", "msgspec", "pandas", "rich", "safetensors"),
    "executorch": ("executorch", "torchao", "torch"),
    "coreml": ("coremltools", "executorch", "torchao", "torch", "numpy"),
    "tflite": ("litert_torch", "ai_edge_litert", "ai_edge_quantizer", "executorch", "torchao", "torch"),
    "onnx": ("onnx", "onnxruntime", "onnxscript", "executorch", "torchao", "torch"),
}


def _probe_core(step: Callable[[str], None], folder: Path) -> str:
    import torch

    step("exporting a linear layer with torch.export")
    layer, x_BI = _layer()
    return f"torch.export: {_compare(torch.export.export(layer, (x_BI,)).module()(x_BI), layer(x_BI))}"


def _probe_executorch(step: Callable[[str], None], folder: Path) -> str:
    import torch

    step("importing executorch.exir")
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    step("importing executorch.runtime")
    from executorch.runtime import Runtime

    step("lowering a linear layer to XNNPACK")
    layer, x_BI = _layer()
    program = torch.export.export(layer, (x_BI,))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    file = folder / "linear.pte"
    file.write_bytes(lowered.buffer)
    step("running the .pte file")
    method = Runtime.get().load_program(file).load_method("forward")
    assert method is not None, "the .pte file has no method forward"
    return f".pte written and run: {_compare(method.execute([x_BI])[0], layer(x_BI))}"


def _probe_coreml(step: Callable[[str], None], folder: Path) -> str:
    import coremltools as ct
    import torch

    step("converting a linear layer to an ML program")
    layer, x_BI = _layer()
    program = torch.export.export(layer, (x_BI,)).run_decompositions({})
    step("saving the .mlpackage")
    package: Any = ct.convert(program, minimum_deployment_target=ct.target.iOS17, skip_model_load=True)
    package.save(str(folder / "linear.mlpackage"))
    step("reading the .mlpackage back")
    ct.models.MLModel(str(folder / "linear.mlpackage"), skip_model_load=True)
    return ".mlpackage converted, saved and read back; it was not run, because Apple's runtime needs macOS"


def _probe_tflite(step: Callable[[str], None], folder: Path) -> str:
    import litert_torch
    import torch
    from ai_edge_litert.interpreter import Interpreter

    step("converting a linear layer to TFLite")
    layer, x_BI = _layer()
    file = folder / "linear.tflite"
    litert_torch.convert(layer, (x_BI,)).export(str(file))
    step("running the .tflite file")
    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x_BI.numpy())
    interpreter.invoke()
    output = torch.from_numpy(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return f".tflite written and run: {_compare(output, layer(x_BI))}"


def _probe_onnx(step: Callable[[str], None], folder: Path) -> str:
    import onnxruntime
    import torch

    step("exporting a linear layer to ONNX")
    layer, x_BI = _layer()
    file = folder / "linear.onnx"
    torch.onnx.export(layer, (x_BI,), str(file), dynamo=True, verbose=False)
    step("running the .onnx file")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    output = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x_BI.numpy()})[0])
    return f".onnx written and run: {_compare(output, layer(x_BI))}"


_PROBES = {
    "core": _probe_core,
    "executorch": _probe_executorch,
    "coreml": _probe_coreml,
    "tflite": _probe_tflite,
    "onnx": _probe_onnx,
}


def _layer() -> tuple[Any, Any]:
    """A linear layer with fixed weights, and its input. B: batch, I: inputs."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    return torch.nn.Linear(8, 8).eval().requires_grad_(False), torch.randn(1, 8)


def _compare(actual: Any, expected: Any) -> str:
    difference = float((actual - expected).abs().max())
    if not difference <= TOLERANCE:
        raise ValueError(f"the outputs differ from torch's by {difference:.1e}, and at most {TOLERANCE:.0e} is right")
    return f"largest difference from torch {difference:.1e}"


def main(target: str, folder: Path) -> None:
    """Probe, and leave the answer in `folder`; `step` is always what is being tried, should the process die."""

    def step(what: str) -> None:
        (folder / "step").write_text(what)

    answer: dict[str, str]
    try:
        for module in PACKAGES[target]:
            step(f"importing {module}")
            importlib.import_module(module)
        if target not in ("core", "executorch"):  # the quantiser that every static int8 file comes from
            step(f"importing {_QUANTIZER}")
            importlib.import_module(_QUANTIZER)
        answer = {"ok": _PROBES[target](step, folder)}
    except ModuleNotFoundError as error:
        answer = {"missing": error.name or str(error)}
    except Exception as error:  # the purpose of a probe is to catch whatever a foreign package raises
        answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
    (folder / "answer.json").write_text(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # a package whose clean-up crashes after the answer is no fault of the target


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
