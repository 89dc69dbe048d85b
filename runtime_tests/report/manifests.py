"""Manifests and golden samples that tests of the report share, and a reader of the page."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from edgepass.judging.manifest import (
    GOLDEN,
    REPORT,
    ArtifactRecord,
    AtBatch,
    Audit,
    Conversion,
    DataInfo,
    Excess,
    Fallback,
    Histogram,
    Kept,
    Latency,
    Manifest,
    Memory,
    Metric,
    ModelInfo,
    Operations,
    TensorSpec,
    Weight,
)
from edgepass.judging.parity import Parity
from edgepass.report import page as pages

COLUMNS = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
VOID = {"meta", "link", "br", "img", "hr", "input", "line"}


def an_artifact(target: str, recipe: str, **changes: object) -> ArtifactRecord:
    """One file with every number that its target can have."""
    suffix = {"executorch": "pte", "coreml": "mlpackage", "tflite": "tflite"}.get(target, "bin")
    int8, coreml = "wi8" in recipe, "coreml" in target
    weights = [
        Weight(
            name=f"passes.{i}.mixer.qkv.weight",
            shape=(192, 64),
            dtype="int8" if int8 else "float16",
            granularity="per-channel" if int8 else None,
            zeros=0.013,
            requested="int8" if int8 else "float16",
        )
        for i in range(6)
    ]
    record = ArtifactRecord(
        target=target,
        file=f"model.{recipe}.{suffix}",
        bytes=168_432 if int8 else 257_104,
        content_sha256="7d" * 32,
        recipe=recipe,
        verdict="pass",
        reasons=[],
        runtime=target,
        parity=Parity(max_abs=0.0732 if int8 else 8.1e-4, sqnr_db=26.6 if int8 else 60.8, cosine=0.99891, samples=256),
        metric=Metric(
            name="mse", reference=0.3842, value=0.3866 if int8 else 0.38421, higher_is_better=False, samples=256
        ),
        memory=Memory(
            planned_bytes=148_224,
            peak_bytes=None if coreml else 615_000 if int8 else 742_000,
            baseline_bytes=None if coreml else 971_000,
            evidence="predicted" if coreml else "host runtime",
        ),
        latency=Latency(
            p50_us=412.0 if int8 else 702.4,
            p95_us=530.2,
            threads=1,
            runs=200,
            evidence="reference executor" if coreml else "host runtime",
        ),
        delegated_flops=None if coreml else 0.972,
        fallbacks=[]
        if coreml
        else [Fallback(op="aten.gather.default", module="passes.0.gate", reason="no kernel")] * 2,
        audit=Audit(requested="int8 per channel" if int8 else "float16", weights=weights, coverage=0.9998),
        errors=Histogram(
            edges=np.geomspace(1e-7, 1.0, 29).tolist(),
            counts=(1e4 * np.exp(-0.5 * ((np.arange(28) - (19 if int8 else 12)) / 3) ** 2)).astype(int).tolist(),
        ),
        golden=f"{target}.{recipe}",
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def a_forecaster(name: str = "passformer-s on ETTh1") -> Manifest:
    """Six artifacts: one fails, one could not be evaluated, Core ML's have no peak memory and no latency."""
    slow = "the median latency is 1.41 ms, and at most 1.20 ms is allowed"
    unknown = "the peak memory could not be measured on this system, so the gate of 1.00 MB could not be evaluated"
    artifacts = [
        an_artifact("executorch", "static_wi8_ai8"),
        an_artifact("executorch", "fp16", notes=["float16 is slower than float32 on this processor."]),
        an_artifact("coreml", "static_wi8_ai8", verdict="not-evaluated", reasons=[unknown]),
        an_artifact("coreml", "fp16"),
        an_artifact("tflite", "static_wi8_ai8", verdict="fail", reasons=[slow], memory=None),
        an_artifact("tflite", "fp16", parity=None, metric=None, errors=None, audit=None, golden=None),
    ]
    return Manifest(
        verdict="fail",
        model=ModelInfo(
            name=name,
            source="preset passformer-s, trained on ETTh1.csv",
            inputs=[TensorSpec(name="history", shape=(1, 192, 7), dtype="float32")],
            outputs=[TensorSpec(name="forecast", shape=(1, 96, 7), dtype="float32")],
            parameters=112_384,
            preprocessing="none: the file normalises each window itself",
            columns=COLUMNS,
        ),
        versions={
            "edgepass": "0.1.0",
            "torch": "2.13.0",
            "executorch": "1.5.1",
            "coremltools": "9.0",
            "numpy": "2.4.6",
        },
        seed=7,
        gates={"max_metric_drop": 0.02, "min_sqnr": 20.0, "max_latency": 1200.0, "max_peak_memory": 1e6},
        data=[
            DataInfo(role="train", sha256="ab" * 32, rows=8640),
            DataInfo(role="calibration", sha256="cd" * 32, rows=128, synthetic=True),
        ],
        artifacts=artifacts,
        baselines=[
            Metric(name="naive (last value) mse", reference=0.3842, value=1.2943, higher_is_better=False, samples=256),
            Metric(name="ridge mse", reference=0.3842, value=0.3817, higher_is_better=False, samples=256),
        ],
    )


def its_golden(manifest: Manifest, k: int = 4, L: int = 192, H: int = 96) -> dict[str, np.ndarray]:
    """Golden tensors of a forecaster: daily waves, a forecast that smooths them, artifacts that add noise."""
    rng = np.random.default_rng(0)
    C = len(manifest.model.columns)
    steps = np.arange(L + H)[:, None] + rng.integers(0, 24, (k, 1, 1))
    wave_kTC = np.sin(2 * np.pi * steps / 24 + np.arange(C)) * np.arange(1, C + 1) + 0.01 * steps
    noisy_kTC = wave_kTC + rng.normal(size=wave_kTC.shape) * 0.4
    tensors = {"input_0": noisy_kTC[:, None, :L], "target": noisy_kTC[:, None, L:]}
    tensors["reference_0"] = 0.9 * wave_kTC[:, None, L:]
    for a in manifest.artifacts:
        if a.golden:
            noise = rng.normal(size=tensors["reference_0"].shape) * (0.12 if "wi8" in a.recipe else 0.004)
            tensors[f"{a.golden}_0"] = tensors["reference_0"] + noise
    return {key: np.ascontiguousarray(v, dtype=np.float32) for key, v in tensors.items()}


def write(folder: Path, manifest: Manifest, golden: dict[str, np.ndarray] | None) -> str:
    """The report of such a folder."""
    folder.mkdir(exist_ok=True)
    manifest.write(folder)
    if golden is not None:
        save_file(golden, folder / GOLDEN)
    path = pages.write(folder)
    assert path == folder / REPORT
    return path.read_text("utf-8")


def an_image_model() -> tuple[Manifest, dict[str, np.ndarray]]:
    """No series, no target, two outputs, a batch that varies, more points than a vector drawing should hold; a NaN."""
    base = a_forecaster("net")
    outputs = [TensorSpec(name=n, shape=(None, 1000), dtype="float32") for n in ("logits", "features")]
    model = replace(base.model, columns=[], outputs=outputs, max_batch=6, batch=2)
    int8, fp16 = base.artifacts[:2]
    held = Conversion(
        excess=[Excess(name="output_0", file_db=36.0, expected_db=36.1, ratio=1.02, bound=1.6)],
        float32=[Kept(name="output_0", centred_db=138.0, bound_db=80.0)],
        operations=Operations(compared=12),
    )
    batches = [AtBatch(size=size, rows=32, parity=int8.parity, conversion=held) for size in (1, 3)]
    batches.append(AtBatch(size=6, rows=36, reason="there is not memory enough"))
    files = [replace(int8, batches=batches, conversion=held), fp16]
    manifest = replace(base, model=model, artifacts=files, baselines=[], gates={}, data=[])
    rng = np.random.default_rng(1)
    golden = {f"reference_{j}": rng.normal(size=(3, 1000)).astype(np.float32) for j in range(2)}
    for a in manifest.artifacts:
        golden |= {f"{a.golden}_{j}": golden[f"reference_{j}"] + np.float32(0.01) for j in range(2)}
    golden["executorch.fp16_1"][0, 0] = np.nan
    return manifest, golden


class Page(HTMLParser):
    """Holds the page to being well formed, and keeps its text, attributes and ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def a_passing(**changes: object) -> Manifest:
    """Two recipes for one target, both passing, and a ridge regression that the model beats by a tenth."""
    artifacts = [an_artifact("executorch", recipe) for recipe in ("static_wi8_ai8", "fp16")]
    ridge = Metric(name="mse: ridge", reference=0.3842, value=0.4269, higher_is_better=False, samples=256)
    made = replace(a_forecaster(), artifacts=artifacts, verdict="pass", baselines=[ridge], data=[])
    return replace(made, **changes)  # type: ignore[arg-type]
