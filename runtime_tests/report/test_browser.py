"""The page in a real browser: nobody is shut out, nothing spills over, nothing is fetched, on screens and on paper."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, sync_playwright

from edgepass.judging.manifest import OutputSpec
from runtime_tests.report.manifests import a_forecaster, an_artifact, an_image_model, its_golden, write

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AXE = resources.files("axe_playwright_python") / "axe.min.js"
WIDER = """[...document.querySelectorAll(".answers table, .actions table")]
    .filter(t => t.getBoundingClientRect().right > t.closest("section").getBoundingClientRect().right - 8)
    .map(t => t.innerText)"""
"""Tables that stand out of their card."""
A4, IPHONE, LAPTOP = 700, 390, 1280
"""CSS pixels: A4 within its margins, the narrowest phones still sold, a small laptop."""
LOOKS: dict[str, tuple[Literal["screen", "print"], Literal["light", "dark"], int]] = {
    "light": ("screen", "light", LAPTOP),
    "dark": ("screen", "dark", LAPTOP),
    "phone": ("screen", "light", IPHONE),
    "dark phone": ("screen", "dark", IPHONE),
    "paper": ("print", "light", A4),
}
KINDS = ("forecaster", "pictures", "unbroken names", "not written", "nothing")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium here; `apt-get install chromium`, or CHROMIUM=/path/to/one, opens the page in it")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=KINDS)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of each kind."""
    folder = tmp_path_factory.mktemp("report")
    manifest = a_forecaster()
    match request.param:
        case "forecaster":
            write(folder, manifest, its_golden(manifest))
        case "pictures":
            write(folder, *an_image_model())
        case "unbroken names":
            long = "a_name_that_nobody_would_read_to_its_end_" * 4
            named = replace(a_forecaster(long), versions={long: long}, gates={long: 1.0})
            named = replace(
                named, artifacts=[replace(a, file=long + a.file, target=a.target + long) for a in named.artifacts]
            )
            write(folder, named, None)
        case "not written":
            unlike = OutputSpec(name="y", shape=(1,), dtype="int32", model_shape=(), model_dtype="int64")
            lost = an_artifact("executorch", "fp16", file="", bytes=0, verdict="fail", reasons=["no such operation"])
            lost = replace(
                lost, parity=None, metric=None, memory=None, latency=None, audit=None, errors=None, golden=None
            )
            write(folder, replace(manifest, artifacts=[lost, an_artifact("coreml", "fp16", outputs=[unlike])]), None)
        case "nothing":
            write(folder, replace(manifest, artifacts=[], verdict="not-evaluated", baselines=[]), None)
    return folder / "report.html"


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_is_for_everybody(browser: Browser, report: Path, look: str) -> None:
    media, scheme, width = LOOKS[look]
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.emulate_media(media=media, color_scheme=scheme)
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDER) == []
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    wrong = [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found]
    assert not wrong
    assert not said
    assert asked == [report.as_uri()]
    page.close()
