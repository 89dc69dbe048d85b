"""The report says everything the manifest says, to anybody, on any screen, and fetches nothing."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from safetensors.numpy import save_file

from edgepass.errors import InputError
from edgepass.judging import figures
from edgepass.judging.manifest import (
    GOLDEN,
    REPORT,
    ArtifactRecord,
    Audit,
    DataInfo,
    Fallback,
    Histogram,
    Latency,
    Manifest,
    Memory,
    Metric,
    ModelInfo,
    TensorSpec,
    Weight,
)
from edgepass.judging.parity import Parity
from edgepass.report import page as pages
from edgepass.report import pictures, plots, summary, words

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
    """No series, no target, two outputs, more points than a vector drawing should hold; and a NaN."""
    base = a_forecaster("net")
    outputs = [TensorSpec(name=n, shape=(None, 1000), dtype="float32") for n in ("logits", "features")]
    model = replace(base.model, columns=[], outputs=outputs)
    manifest = replace(base, model=model, artifacts=base.artifacts[:2], baselines=[], gates={}, data=[])
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


def test_every_artifact_number_and_reason_is_on_the_page(tmp_path: Path) -> None:
    manifest = a_forecaster()
    page = Page(write(tmp_path, manifest, its_golden(manifest)))
    for a in manifest.artifacts:
        assert f"{a.target} {a.recipe}" in page.text
        assert a.file in page.text
        assert a.content_sha256 in page.text
        assert all(r[1:] in page.text for r in [*a.reasons, *a.notes])
    for said in ("4 of 6 artifacts pass, 1 fails, 1 could not be evaluated.", "✗ Fail", "0.625 % worse", "237 % worse",
                  "26.6 dB", "615 kB peak", "float model 971 kB", "planned 148 kB", "peak not measured", "p95 530",
                  "at most 2 %", "ridge mse", "ab" * 32, "made up", "coverage 99.9 %", "aten.gather.default",
                  "reference executor, not the device's runtime", "torch 2.13.0", *COLUMNS):  # fmt: skip
        assert said in page.text, said


def test_core_ml_numbers_never_pass_for_apples_runtime(tmp_path: Path) -> None:
    inside = an_artifact("executorch:coreml", "fp16", memory=None)
    manifest = replace(a_forecaster(), artifacts=[an_artifact("coreml", "fp16"), inside])
    said, _, key = Page(write(tmp_path, manifest, its_golden(manifest))).text.partition("Evidence levels")
    assert said.count("reference executor, not the device's runtime") == 6  # metric, parity and latency of each
    assert "reference executor, not the device's runtime" in key
    assert "host runtime" not in said


def test_the_page_fetches_nothing_and_runs_nothing(tmp_path: Path) -> None:
    manifest = a_forecaster()
    text = write(tmp_path, manifest, its_golden(manifest))
    image_manifest, image_golden = an_image_model()
    for page in (text, write(tmp_path / "image", image_manifest, image_golden)):
        assert re.search(r"https?://|@import|//[a-z]+\.", page) is None
        for tag, name, value in Page(page).attributes:
            assert tag not in {"script", "iframe", "object", "embed"}
            assert not name.startswith("on")
            if name in {"src", "href", "srcset", "data", "action"}:
                assert value.startswith(("#", "data:")), (tag, name, value)
        assert set(re.findall(r"url\((.)", page)) <= {"#"}


def test_ids_are_unique_and_every_reference_meets_one(tmp_path: Path) -> None:
    manifest = a_forecaster()
    text = write(tmp_path, manifest, its_golden(manifest))
    ids = [value for _, name, value in Page(text).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text)) <= set(ids)


def test_a_hostile_name_is_shown_as_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> & \"quoted\" 'x' $\\frac{"
    base = a_forecaster(hostile)
    model = replace(base.model, columns=[hostile + str(i) for i in range(7)], source=hostile)
    reasoned = replace(base.artifacts[0], reasons=[hostile], target=hostile, recipe=hostile, notes=[hostile])
    manifest = replace(base, model=model, artifacts=[reasoned, *base.artifacts[1:]], versions={hostile: hostile})
    text = write(tmp_path, manifest, its_golden(manifest))
    page = Page(text)
    assert "<script" not in text
    assert hostile in page.text
    assert any(name == "aria-label" and hostile in value for _, name, value in page.attributes)


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name, (manifest, golden) in {
        "forecaster": (a_forecaster(), its_golden(a_forecaster())),
        "image": an_image_model(),
    }.items():
        first, second = (write(tmp_path / f"{name}{i}", manifest, golden) for i in range(2))
        assert first == second
    assert sorted(p.name for p in (tmp_path / "image0").iterdir()) == [GOLDEN, "manifest.json", REPORT]


@pytest.mark.parametrize("broken", [b"", b"\x08\0\0\0\0\0\0\0notjson!", None])
def test_a_report_stands_without_golden_outputs_and_says_so(tmp_path: Path, broken: bytes | None) -> None:
    if broken is not None:
        (tmp_path / GOLDEN).write_bytes(broken)
    page = Page(write(tmp_path, a_forecaster(), None))
    assert "There are no plots of outputs, because golden.safetensors" in page.text
    assert "Absolute errors of tflite" in str(page.attributes)


def test_a_model_that_is_no_forecaster_has_scatters_and_no_time_axis(tmp_path: Path) -> None:
    manifest, golden = an_image_model()
    text = write(tmp_path, manifest, golden)
    page = Page(text)
    assert "Outputs against the float model" in page.text
    assert "steps from now" not in page.text
    assert "executorch · fp16, output 1" in page.text
    assert text.count("data:image/png;base64") == 4
    assert "No gate was set" in page.text


@pytest.mark.parametrize(("k", "L", "H"), [(1, 1, 1), (4, 63, 1), (2, 5, 67)])
def test_awkward_lengths_are_drawn(tmp_path: Path, k: int, L: int, H: int) -> None:
    manifest = a_forecaster()
    text = write(tmp_path, manifest, its_golden(manifest, k, L, H))
    assert text.count("Forecast of ") == k * pictures.MAX_CHANNELS


def test_golden_outputs_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    manifest = a_forecaster()
    golden = its_golden(manifest)
    del golden["target"], golden["coreml.fp16_0"]
    golden["tflite.static_wi8_ai8_0"] = golden["tflite.static_wi8_ai8_0"][:, :, :50]
    golden["coreml.static_wi8_ai8_0"][:] = np.inf
    text = write(tmp_path, manifest, golden)
    assert "3 artifacts beside the float model" in text
    assert "and the truth" not in text


def test_an_empty_manifest_still_gives_a_page(tmp_path: Path) -> None:
    empty = replace(a_forecaster(), artifacts=[], verdict="not-evaluated", baselines=[])
    page = Page(write(tmp_path, empty, None))
    assert "Nothing was written." in page.text
    assert summary.lines(empty) == []


def test_a_folder_without_a_manifest_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json"):
        pages.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_put_in_place_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / REPORT / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"report\.html"):
        write(tmp_path, a_forecaster(), None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", REPORT]


def test_the_terminal_table_fits_100_columns_and_marks_the_evidence() -> None:
    manifest = a_forecaster()
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary.table(manifest))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert "…" not in text
    assert text.count("static_wi8_ai8") == 3
    assert text.count("26.6 r") == 1
    assert "r: reference executor, not the device's runtime" in text
    assert [text.count(w) for w in ("pass", "FAIL", "evaluated")] == [4, 1, 1]
    wide = Console(width=140, record=True, file=io.StringIO())
    wide.print(summary.table(manifest))
    assert wide.export_text().count("not evaluated") == 1  # which may stand on two lines of a narrow one


def test_markup_in_names_is_not_obeyed_by_the_terminal() -> None:
    manifest = replace(a_forecaster(), artifacts=[an_artifact("[red]t[/red]", "[/]")])
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary.table(manifest))
    text = console.export_text()
    assert "[red]t[/red]" in text
    assert "[/]" in text


def test_summary_lines_are_reasons_then_notes() -> None:
    lines = summary.lines(a_forecaster())
    assert lines[0].startswith("coreml static_wi8_ai8: not evaluated: the peak memory")
    assert lines[1].startswith("tflite static_wi8_ai8: FAIL: the median latency")
    assert lines[2:] == ["executorch fp16: note: float16 is slower than float32 on this processor."]


@given(st.just(0.0) | st.floats(min_value=1e-3, max_value=1e12))
def test_sizes_and_durations_keep_three_digits(value: float) -> None:
    for said, scales in (
        (figures.size(value), {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}),
        (figures.duration(value), {"\N{MICRO SIGN}s": 1, "ms": 1e3, "s": 1e6}),
    ):
        figure, unit = said.split()
        assert float(figure) * scales[unit] == pytest.approx(value, rel=6e-3, abs=0.51)
        assert "e" not in figure


def test_units_change_where_rounding_would_show_four_digits() -> None:
    assert [figures.size(v) for v in (0, 999, 999_499, 999_500, 5e6)] == ["0 B", "999 B", "999 kB", "1 MB", "5 MB"]
    assert [figures.duration(v) for v in (412.4, 999_600.0)] == ["412 \N{MICRO SIGN}s", "1 s"]


def test_shares_never_round_up_to_everything() -> None:
    assert [figures.percent(v) for v in (1.0, 0.99999, 0.5, 0.0, None)] == [
        "100 %",
        "99.9 %",
        "50 %",
        "0 %",
        "not known",
    ]


def test_numbers_that_are_none_are_said_in_words() -> None:
    assert figures.number(float(np.finfo(np.float64).max)) == "not finite"
    assert figures.decibels(200.0) == "equal bit for bit"
    assert figures.decibels(-200.0) == "no signal left"
    zero = Metric(name="mse", reference=0.0, value=0.1, higher_is_better=False, samples=1)
    assert words.change(zero) == "worse"
    assert words.gate("min_new_thing", 3.0) == "min new thing 3"
    assert words.sentence("the file is late ") == "The file is late."
    assert words.sentence("conv_1.weight is float.") == "conv_1.weight is float."
    assert words.shape((None, 3, None)) == "n × 3 × o"  # noqa: RUF001


@pytest.mark.parametrize("paper", ["#fbfbf9", "#101418", "#171c22", "#ffffff"])
def test_plot_colours_stand_out_on_light_and_dark_paper(paper: str) -> None:
    assert min(contrast(colour, paper) for colour in plots.COLOURS) >= 3.0


def test_text_colours_meet_aa_in_both_schemes() -> None:
    css = (Path(pages.__file__).parent / "style.css").read_text()
    schemes = re.findall(r":root \{(.*?)\}", css, re.S)[:2]
    assert len(schemes) == 2
    for scheme in schemes:
        colour = dict(re.findall(r"--([\w-]+): (#\w+);", scheme))
        pairs = [(ink, paper) for ink in ("ink", "muted", "accent", "unknown") for paper in ("paper", "card")]
        pairs += [(v, f"{v}-paper") for v in ("pass", "fail", "unknown")]
        pairs += [("ink", f"{v}-paper") for v in ("pass", "fail", "unknown")]
        for ink, paper in pairs:
            assert contrast(colour[ink], colour[paper]) >= 4.5, (ink, paper)


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two sRGB colours (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)
