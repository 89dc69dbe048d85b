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

from edgepass.judging.manifest import Manifest
from runtime_tests.report.manifests import a_forecaster, an_image_model, its_golden, write

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
AXE = resources.files("axe_playwright_python") / "axe.min.js"
LOOKS: dict[str, tuple[Literal["screen", "print"], Literal["light", "dark"]]] = {
    "light": ("screen", "light"),
    "dark": ("screen", "dark"),
    "print": ("print", "light"),
}
WIDE = 1280
NARROW = 390
"""The width of an iPhone 12 to 16 in CSS pixels."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium here; `apt-get install chromium`, or CHROMIUM=/path/to/one, opens the page in it")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield opened
        opened.close()


def a_page(kind: str, folder: Path) -> Path:
    """The report of one of the manifests below."""
    manifest, golden = kinds()[kind]
    write(folder / kind, manifest, golden)
    return folder / kind / "report.html"


def kinds() -> dict[str, tuple[Manifest, dict[str, object] | None]]:
    """A manifest of every kind, and its golden samples."""
    forecaster = a_forecaster()
    long = "a_name_that_nobody_would_read_to_its_end_" * 4
    unbroken = replace(a_forecaster(long), versions={long: long}, gates={long: 1.0})
    return {
        "forecaster": (forecaster, its_golden(forecaster)),
        "images": an_image_model(),
        "unbroken": (unbroken, None),
        "nothing": (replace(forecaster, artifacts=[], verdict="not-evaluated", baselines=[]), None),
    }  # type: ignore[return-value]  # a dict of arrays is one of objects, read only


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", kinds())
def test_the_page_is_for_everybody(browser: Browser, tmp_path: Path, kind: str, look: str) -> None:
    media, scheme = LOOKS[look]
    path = a_page(kind, tmp_path)
    for width in (WIDE, NARROW):
        page = browser.new_page(viewport={"width": width, "height": 800})
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.emulate_media(media=media, color_scheme=scheme)
        page.goto(path.as_uri())
        assert asked == [path.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        wrong = [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found]
        assert not wrong, (width, wrong)
        assert said == []
        page.close()
