"""The report says everything the manifest says, to anybody, on any screen, and fetches nothing."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepass.errors import InputError
from edgepass.judging.manifest import GOLDEN, REPORT
from edgepass.report import page as pages
from edgepass.report import pictures, summary
from runtime_tests.report.manifests import COLUMNS, Page, a_forecaster, an_artifact, an_image_model, its_golden, write


def test_every_artifact_number_and_reason_is_on_the_page(tmp_path: Path) -> None:
    manifest = a_forecaster()
    page = Page(write(tmp_path, manifest, its_golden(manifest)))
    for a in manifest.artifacts:
        assert f"{a.target} {a.recipe}" in page.text
        assert a.file in page.text
        assert a.content_sha256 in page.text
        assert all(r[1:] in page.text for r in [*a.reasons, *a.notes])
    for said in ("4 of 6 files pass, 1 fails, 1 could not be evaluated.", "✗ Fail", "0.62 % worse", "237 % worse",
                  "26.6 dB", "615 kB peak", "float32 971 kB", "planned 148 kB", "peak not measured", "p95 530",
                  "at most 2 %", "ridge mse", "ab" * 32, "made up", "coverage 99.9 %", "aten.gather.default",
                  "reference executor, not the device's runtime", "torch 2.13.0", *COLUMNS):  # fmt: skip
        assert said in page.text, said


def test_core_ml_numbers_never_pass_for_apples_runtime(tmp_path: Path) -> None:
    inside = an_artifact("executorch:coreml", "fp16", memory=None)
    manifest = replace(a_forecaster(), artifacts=[an_artifact("coreml", "fp16"), inside])
    said, _, key = Page(write(tmp_path, manifest, its_golden(manifest))).text.partition("Evidence levels")
    assert said.count("reference executor, not the device's runtime") == 4  # metric and loss of each
    assert said.count("not timed here") == 2  # its own time is nobody's latency
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
    assert "No bound was set" in page.text


@pytest.mark.parametrize(("k", "L", "H"), [(1, 1, 1), (4, 63, 1), (2, 5, 67)])
def test_awkward_lengths_are_drawn(tmp_path: Path, k: int, L: int, H: int) -> None:
    manifest = a_forecaster()
    text = write(tmp_path, manifest, its_golden(manifest, k, L, H))
    assert text.count("Forecast of ") == min(k, pictures.MAX_SAMPLES) * pictures.MAX_CHANNELS


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
    assert summary.lines(empty)[0] == "verdict: Not evaluated. Nothing was written."


def test_a_folder_without_a_manifest_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json"):
        pages.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_put_in_place_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / REPORT / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"report\.html"):
        write(tmp_path, a_forecaster(), None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", REPORT]
