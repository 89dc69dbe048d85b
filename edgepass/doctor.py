"""Doctor: does each target really work here, not merely look installed?

Every probe is a child process that imports the packages, exports one linear layer and, where this host has the runtime,
runs the file and compares. A broken binary, a crash or a hang becomes a sentence and the pip line that mends it.
"""

import importlib
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepass.errors import UnknownNameError

if TYPE_CHECKING:
    from rich.table import Table

TIMEOUT_S = 180.0
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
# Said by the loaders of Linux and macOS, and by NumPy, when a binary meets another version than it was built for.
_ABI = re.compile(
    r"undefined symbol|symbol not found|version `?\w+'? not found|size changed|compiled using NumPy", re.I
)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was found out about one target. `fix` is a pip line, or None when there is nothing to mend."""

    target: str
    ok: bool
    versions: dict[str, str]
    detail: str
    fix: str | None = None
    seconds: float = 0.0


def check(targets: Sequence[str] = tuple(PACKAGES), timeout_s: float = TIMEOUT_S) -> list[Probe]:
    """Probe each of `targets` ("core" and the formats) in turn, each in a process of its own.

    Raises UnknownNameError for a target that has no probe. Whatever else goes wrong is in the Probe.
    """
    for target in targets:
        if target not in PACKAGES:
            raise UnknownNameError("target", target, PACKAGES)
    return [_check_one(target, timeout_s) for target in targets]


def table(probes: Sequence[Probe]) -> "Table":
    """The probes for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    view = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for heading in ("target", "works", "versions", "what was found"):
        view.add_column(heading, overflow="fold")
    for p in probes:
        said = Text(p.detail)
        if p.fix:
            said.append(f"\n{p.fix}", style="bold")
        versions = "\n".join(f"{name} {version}" for name, version in p.versions.items())
        view.add_row(Text(p.target), Text("yes", "green") if p.ok else Text("NO", "bold red"), Text(versions), said)
    return view


def _check_one(target: str, timeout_s: float) -> Probe:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgepass-doctor-") as folder:
        # It runs in a folder of its own: the one that the user happens to stand in must not shadow a package.
        command = [sys.executable, "-m", "edgepass.doctor", target, folder]
        try:
            code: int | None = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, cwd=folder, timeout=timeout_s, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        step = _text(Path(folder, "step")) or "starting Python"
        answer = _text(Path(folder, "answer.json"))
    versions = {name: v for module in PACKAGES[target] if (v := _version(name := _distribution(module)))}
    detail, broken = _sentence(target, code, step, json.loads(answer) if answer else None, versions, timeout_s)
    outside = _outside(target, versions)
    if outside and not broken:
        detail = f"one layer worked, yet {outside}; other versions are known to break without a word"
    fix = _pip_line(target, versions) if broken or outside else None
    seconds = round(time.monotonic() - start, 1)
    return Probe(target=target, ok=fix is None, versions=versions, detail=detail, fix=fix, seconds=seconds)


def _sentence(
    target: str, code: int | None, step: str, answer: Any, versions: dict[str, str], timeout_s: float
) -> tuple[str, bool]:
    """What to tell a person, and whether it is a fault."""
    if code is None:
        return f"no answer within {timeout_s:.0f} s while {step}", True
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name} while {step}", True
    if answer is None:
        return f"the process ended with code {code} and without an answer while {step}", True
    if "ok" in answer:
        return str(answer["ok"]), False
    if missing := answer.get("missing"):
        needed = step.removeprefix("importing ")
        own = missing.split(".")[0] in PACKAGES[target]
        return f"{_distribution(missing)} is not installed" + ("" if own else f", and {needed} needs it"), True
    error = str(answer["error"])
    if _ABI.search(error):
        module = _distribution(step.removeprefix("importing ").split(".")[0])
        base = "numpy" if "numpy" in error.lower() else "torch"
        ours, theirs = (f"{name} {versions.get(name) or _version(name) or '(no version)'}" for name in (module, base))
        return f"{ours} was built for another {base} than the {theirs} installed here: {error}", True
    return f"failed while {step}: {error}", True


def _outside(target: str, versions: dict[str, str]) -> str:
    """The installed packages that edgepass was not made for, in words; empty when there are none."""
    wanted = _requirements(target)
    return "; ".join(
        f"{name} is {v}, edgepass needs {wanted[name]}"
        for name, v in versions.items()
        if name in wanted and not wanted[name].contains(v, prereleases=True)
    )


def _pip_line(target: str, versions: dict[str, str]) -> str:
    """Installs the target with the torch that it was built for: executorch itself declares none, so pip would not."""
    this = "edgepass" if target == "core" else f"edgepass[{target}]"
    if not versions.get("torch"):
        return f"pip install '{this}'"
    torch = _requirements("core").get("torch", "")
    return f"pip install '{this}' 'torch{torch}'"


def _requirements(target: str) -> dict[str, Any]:
    """Name -> version specifier of what edgepass declares for the target, extras of itself followed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    declared = [Requirement(line) for line in importlib.metadata.requires("edgepass") or []]
    found: dict[str, Any] = {}
    extras, done = ["", "" if target == "core" else target], set[str]()
    while extras:
        extra = extras.pop()
        if extra in done:
            continue
        done.add(extra)
        for r in declared:
            if (not r.marker and extra == "") or (r.marker and extra and r.marker.evaluate({"extra": extra})):
                if r.name == "edgepass":
                    extras.extend(r.extras)
                else:
                    found[canonicalize_name(r.name)] = r.specifier
    return found


def _distribution(module: str) -> str:
    return module.split(".")[0].replace("_", "-")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


# From here on: what runs in the child.


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
    return f".pte written and run: {_compare(method.execute([x_BI])[0], layer(x_BI))}"


def _probe_coreml(step: Callable[[str], None], folder: Path) -> str:
    import coremltools as ct
    import torch

    step("converting a linear layer to an ML program")
    layer, x_BI = _layer()
    program = torch.export.export(layer, (x_BI,)).run_decompositions({})
    step("saving the .mlpackage")
    package = ct.convert(program, minimum_deployment_target=ct.target.iOS17, skip_model_load=True)
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


def _child(target: str, folder: Path) -> None:
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
    _child(sys.argv[1], Path(sys.argv[2]))
