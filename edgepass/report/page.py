"""The report: one page, sufficient in itself, of everything a manifest says."""

from collections import Counter
from importlib import resources
from pathlib import Path

from edgepass import staging
from edgepass.judging import figures
from edgepass.judging import manifest as manifests
from edgepass.judging.manifest import OutputSpec
from edgepass.report import answers, conversions, pictures, words

ANSWERS = ("standing", "quality", "costs", "choices", "steps")
"""What the first screen holds, in its order, beside what converters changed."""


def write(folder: Path) -> Path:
    """Write `folder`/report.html from its manifest.json and golden.safetensors, and return its path.

    Equal inputs give equal bytes. Without golden outputs the page says so and has no plots of them.
    Raises InputError when the folder holds no manifest.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    manifest = manifests.read(folder)
    golden, absent = pictures.golden(folder / manifests.GOLDEN)
    here = resources.files("edgepass.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in ("size", "duration", "percent", "decibels", "number"):
        environment.filters[name] = getattr(figures, name)
    for name in ("change", "moment", "shape", "sentence", "signed"):
        environment.filters[name] = getattr(words, name)
    environment.filters["lost"] = answers.lost
    page = environment.from_string(here.joinpath("page.html.j2").read_text("utf-8")).render(
        m=manifest,
        css=Markup(here.joinpath("style.css").read_text("utf-8")),  # our own file, not the user's words
        **{name: getattr(answers, name)(manifest) for name in ANSWERS},
        conversions=conversions.changed(manifest),
        bounds=words.bounds(manifest),
        metrics=words.metrics(manifest),
        seen=[(a, o) for a in manifest.artifacts for o in (*a.inputs, *a.outputs) if _unlike(o)],
        evidence=words.EVIDENCE,
        outputs_evidence=words.outputs_evidence,
        float_bytes=4 * manifest.model.parameters,
        fallbacks=[(a, Counter((f.op, f.module, f.reason) for f in a.fallbacks)) for a in manifest.artifacts],
        absent=absent,
        **pictures.draw(manifest, golden),
    )
    path = folder / manifests.REPORT
    staging.write(path, page.encode())
    return path


def _unlike(end: OutputSpec) -> bool:
    """Whether an app sees another shape or number format than the model takes or gives."""
    return (end.shape, end.dtype) != (end.model_shape, end.model_dtype)
