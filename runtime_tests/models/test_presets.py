"""Presets trade speed for memory and capacity as they say, depth is a knob, and a bad choice is one sentence."""

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepass import catalog, source
from edgepass.describing.description import Row, describe
from edgepass.errors import InputError
from edgepass.judging import manifest
from edgepass.models import config as configs
from edgepass.models import create, parts
from edgepass.models.config import Config, PassConfig
from edgepass.models.forecaster import Forecaster
from edgepass.models.passes import Pass
from edgepass.models.truncation import truncated, with_passes
from edgepass.series import run
from edgepass.series.fit import fit
from runtime_tests.conftest import Done
from runtime_tests.mechanisms import Mechanism, build, every
from runtime_tests.mechanisms import data as samples

Cli = Callable[..., Done]
PRESETS = catalog.names("presets")
LOCAL = {"name": "local_attention", "heads": 2, "window": 3}
FEED = {"name": "feed_forward", "ratio": 1.0}
PASSES = (PassConfig(mixer=LOCAL), PassConfig(channel_mixer=FEED), PassConfig(gate="values"))


def stack(*passes: PassConfig, **settings: Any) -> Config:
    topology = {"name": "stack", **settings}
    return Config(name="tiny", dim=8, embedding={"name": "patch", "size": 4}, topology=topology, passes=passes)


def totals(preset: str) -> Row:
    return describe(source.bare(preset, channels=7)).model


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_the_size_that_its_first_line_says(preset: str) -> None:
    line = catalog.read_toml("presets", preset).decode().splitlines()[0]
    said = re.search(r"(about|below) (\d+) thousand parameters at lookback 336 and horizon 96", line)
    assert said is not None, line
    count = create(preset, lookback=336, horizon=96).parameter_count()
    limit = 1000 * int(said[2])
    assert count < limit if said[1] == "below" else count == pytest.approx(limit, rel=0.05)


@pytest.mark.promise("V6")
def test_presets_trade_speed_for_memory_and_capacity() -> None:
    tiny, single, multi, looped, hierarchical, variate = (
        totals(f"{name}") for name in ("single-xs", "single-s", "multi-s", "looped-s", "hierarchical-s", "variate-s")
    )
    for less, more in itertools.pairwise((tiny, single, multi)):  # all three at once
        assert less.parameters < more.parameters
        assert less.macs < more.macs
        assert less.activation_bytes < more.activation_bytes
    assert looped.macs == pytest.approx(multi.macs, rel=0.02)  # the work of four passes with the weights of two
    assert looped.parameters < single.parameters + 0.5 * (multi.parameters - single.parameters)
    assert single.macs < hierarchical.macs < 0.6 * multi.macs  # three passes, two of them at coarser scales
    assert single.parameters < hierarchical.parameters < multi.parameters
    assert variate.activation_bytes < 0.2 * single.activation_bytes  # a token a variate instead of 21
    assert variate.macs < single.macs


@pytest.mark.promise("V1")
@pytest.mark.promise("V2")
def test_each_further_pass_costs_as_much_as_the_first() -> None:
    macs = [describe(source.bare(f"multi-s@{n}")).stacks[0].macs for n in (1, 2, 3, 4)]
    assert macs[2] - macs[1] == macs[0]
    assert macs[3] == 2 * macs[1]


@given(listed=st.integers(1, 3), repeat=st.integers(1, 3), passes=st.integers(1, 9))
@settings(max_examples=25)
def test_any_number_of_passes_is_those_listed_over_and_over(listed: int, repeat: int, passes: int) -> None:
    config = with_passes(stack(*PASSES[:listed], repeat=repeat), passes)
    model = create(config, lookback=24, horizon=3)
    made = [module for module in model.modules() if isinstance(module, Pass)]
    assert len(made) == passes
    for index, layer in enumerate(made):
        wanted = PASSES[:listed][index % listed]
        assert (layer.mixer is not None) == (wanted.mixer is not None)
        assert (layer.channel_mixer is not None) == (wanted.channel_mixer is not None)
        assert (layer.gate is not None) == (wanted.gate is not None)


@pytest.mark.promise("S3")
@pytest.mark.parametrize("passes", [1, 2, 5, 6])
def test_a_stack_that_is_cut_gives_what_its_pass_gave(passes: int) -> None:
    model = create(stack(*PASSES, repeat=2), lookback=24, horizon=3, channels=2)
    model.set_scaler([1.0, 2.0], [3.0, 4.0])
    cut = truncated(model, passes)
    assert isinstance(cut, Forecaster)
    assert not cut.training
    x_BLC, seen = torch.randn(3, 24, 2), []
    layer = [module for module in model.modules() if isinstance(module, Pass)][passes - 1]
    layer.register_forward_hook(lambda *given: seen.append(given[2]))
    y_BHC = model(x_BLC)
    z_BLC, _, _ = model.normalise(x_BLC)
    assert torch.equal(cut.passformer.represent(z_BLC), seen[0])
    assert torch.equal(cut(x_BLC), y_BHC) == (passes == 6)
    with torch.no_grad():
        cut.passformer.head.project.weight.zero_()
    assert torch.equal(model(x_BLC), y_BHC), "the cut model has weights of its own"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("multi-s@5", "model 'multi-s' cannot be cut after pass 5; it has 4"),
        ("multi-s@0", "passes is 0; it must be at least 1"),
        ("hierarchical-s@1", "the passes of 'hierarchical-s' are arranged as 'hierarchy', so their number is in that"),
        ("single-z@1", "no preset 'single-z'; did you mean 'single-s'"),
        ("none@2", "no preset 'none'"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_a_sentence(edgepass: Cli, name: str, says: str) -> None:
    for command in (["describe", name], ["export", name, "-o", "nowhere"]):
        done = edgepass(*command)
        assert done.code == 3
        assert says in done.sentence
    model, _, passes = name.partition("@")
    if int(passes):
        assert says in edgepass("export", model, "--passes", passes, "-o", "nowhere").sentence


def test_what_is_no_passformer_is_not_cut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a Linear is not a Passformer"):
        truncated(torch.nn.Linear(2, 2), 1)
    with pytest.raises(InputError, match="model 'tiny' lists no pass that could come 2 times"):
        with_passes(stack(), 2)
    model = create("single-xs", lookback=24, horizon=3)
    torch.export.save(torch.export.export(model, (torch.zeros(1, 24, 1),), strict=False), tmp_path / "m.pt2")
    with pytest.raises(InputError, match=r"m\.pt2 is a program, in which passes are no longer known"):
        source.load(f"{tmp_path}/m.pt2@1")


def test_a_file_whose_name_ends_like_a_cut_is_meant_itself(tmp_path: Path) -> None:
    (tmp_path / "mine@2").mkdir()
    with pytest.raises(InputError, match=r"mine@2"):
        source.bare(f"{tmp_path}/mine@2")
    assert source._named(f"{tmp_path}/mine@2") == (f"{tmp_path}/mine@2", None)
    assert source._named(f"{tmp_path}/mine@3") == (f"{tmp_path}/mine", 3)


def test_anytime_training_cuts_after_every_pass_and_a_file_knows_nothing_of_it() -> None:
    model = create(stack(*PASSES, anytime=True), lookback=24, horizon=3).train()
    ran: list[int] = []
    layers = [module for module in model.modules() if isinstance(module, Pass)]
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    for _ in range(40):
        model(torch.randn(2, 24, 1))
    assert ran.count(0) == 40
    assert 5 < ran.count(2) < ran.count(1) < 40
    ran.clear()
    model.eval()(torch.randn(2, 24, 1))
    assert ran == [0, 1, 2]
    plain = create(stack(*PASSES), lookback=24, horizon=3)
    programs = [torch.export.export(m.eval(), (torch.zeros(1, 24, 1),), strict=False) for m in (model, plain)]
    first, second = ([str(node.target) for node in program.graph.nodes] for program in programs)
    assert first == second


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a stack of two passes, fitted on a short series."""
    where = tmp_path_factory.mktemp("fitted")
    t = np.arange(300)
    values = np.sin(t / 3) + 0.1 * np.random.default_rng(0).normal(size=300)
    (where / "x.csv").write_text("a\n" + "\n".join(f"{v:.4f}" for v in values))
    (where / "tiny.toml").write_text(TINY)
    fit(where / "x.csv", horizon=3, lookback=24, preset=str(where / "tiny.toml"), passes=2, epochs=1, out=where / "run")
    return where


TINY = """
name = "tiny"
dim = 8
embedding = { name = "patch", size = 4 }
topology = { name = "stack", anytime = true }

[[passes]]
mixer = { name = "local_attention", heads = 2, window = 3 }
scale = 1.0
"""


def test_passes_are_a_knob_of_fit(edgepass: Cli, folder: Path) -> None:
    loaded = run.load(folder / "run")
    assert loaded.spec.config.topology == {"name": "stack", "anytime": True, "repeat": 2}
    command = [
        "fit",
        folder / "x.csv",
        "--horizon",
        3,
        "--lookback",
        24,
        "--preset",
        "looped-s",
        "--passes",
        2,
        "-o",
        folder / "no",
    ]
    done = edgepass(*command)
    assert "the passes of 'looped-s' are arranged as 'looped'" in done.sentence
    assert not (folder / "no").exists()


def test_a_run_that_is_cut_stands_beside_the_whole_one(folder: Path) -> None:
    whole, cut = source.load(f"{folder}/run"), source.load(f"{folder}/run@1")
    assert (cut.name, cut.source) == ("tiny.p1", f"{folder}/run@1")
    assert [m.name for m in cut.baselines] == [*(m.name for m in whole.baselines), "mse: all passes"]
    assert cut.baselines[-1].value == whole.baselines[0].reference
    assert cut.evaluation is not None
    assert cut.evaluation.targets is not None
    mine = run.load(folder / "run").error(cut.reference(cut.evaluation)[0], cut.evaluation.targets)
    assert all(m.reference == pytest.approx(mine, rel=1e-5) for m in cut.baselines)
    assert mine != pytest.approx(cut.baselines[-1].value, rel=1e-9)


def test_a_cut_quantile_run_is_compared_by_the_error_of_its_median(folder: Path) -> None:
    (folder / "levels.toml").write_text(TINY.replace('"tiny"', '"levels"') + '[head]\nname = "quantile"\n')
    sizes = {"horizon": 3, "lookback": 24, "passes": 2, "epochs": 1}
    fit(folder / "x.csv", preset=str(folder / "levels.toml"), out=folder / "levels", **sizes)
    whole, cut = source.load(f"{folder}/levels"), source.load(f"{folder}/levels@1")
    assert [m.name for m in cut.baselines] == [*(m.name for m in whole.baselines), "mse: all passes"]
    assert cut.evaluation is not None
    assert cut.evaluation.targets is not None
    scaler, target = run.load(folder / "levels").spec.scaler, cut.evaluation.targets
    y_NQHC = np.asarray(cut.reference(cut.evaluation)[0]).reshape(-1, 3, 3, 1)
    mse = np.square((y_NQHC[:, 1] - target[:, 0]) / np.asarray(scaler.std)).mean()
    assert [m.reference for m in cut.baselines] == pytest.approx([mse] * len(cut.baselines), rel=1e-5)
    assert cut.baselines[-1].value == whole.baselines[0].reference


@pytest.mark.export
@pytest.mark.promise("V2")
def test_a_cut_export_is_judged_again_by_the_cut_model(edgepass: Cli, folder: Path) -> None:
    out = folder / "out"
    options = ["--passes", 1, "--target", "onnx", "--recipe", "fp32", "-o", out]
    assert edgepass("export", folder / "run", *options).code == 0
    made = manifest.read(out)
    assert (made.model.source, made.artifacts[0].file) == (f"{folder}/run@1", "tiny.p1.fp32.onnx")
    assert made.baselines[-1].name == "mse: all passes"
    done = edgepass("validate", out)
    assert done.code == 0, done


# Choices of any kind: a model comes of them, or one sentence.

VALUES = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([0.0, 0.5, -0.5, 1.0, 1.5, math.nan, math.inf]),
    st.sampled_from(["", "x", "add", "local_attention"]),
    st.booleans(),
    st.none(),
    st.lists(st.integers(-1, 3), max_size=2),
    st.sampled_from([{}, {"name": "add"}, {"name": "nope"}, {"name": 3}, {"heads": 2}]),
)
SLOTS = {"mixers": "mixer", "channel_mixers": "channel_mixer"}
MECHANISMS = [m for m in every() if m.kind != "steps"]


def table(kind: str, choice: dict[str, Any], base: Config) -> dict[str, Any]:
    """The configuration of `base` with another choice of a kind of part."""
    found: dict[str, Any] = msgspec.to_builtins(base)
    match kind:
        case "mixers" | "channel_mixers":
            found["passes"][0][SLOTS[kind]] = choice
        case "merges":
            found["topology"]["merge"] = choice
        case _:
            found[catalog.singular(kind)] = choice
    return found


def refused(found: dict[str, Any]) -> str | None:
    """The sentence that a model is refused with; None where there is one, which runs. Anything else is raised."""
    try:
        config = msgspec.convert(found, Config)
    except msgspec.ValidationError as error:
        return str(error)  # as `configs.read` says it
    try:
        configs.check(config)
        model = build(config).eval()
    except InputError as error:
        return str(error)
    takes = catalog.load("embeddings", config.embedding["name"]).SHAPE
    model(torch.from_numpy(np.zeros_like(samples(takes, 2, 0)[:, 0])))
    return None


@pytest.mark.promise("L2")
@pytest.mark.parametrize("mechanism", MECHANISMS, ids=str)
@given(data=st.data())
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_part_is_told_it_is_built_or_refused_in_a_sentence(
    mechanism: Mechanism, data: st.DataObject
) -> None:
    fields = mechanism.module.Settings.__struct_fields__
    chosen = data.draw(st.lists(st.sampled_from(fields), unique=True, min_size=1, max_size=3)) if fields else []
    choice = {"name": mechanism.name, **{field: data.draw(VALUES, label=field) for field in chosen}}
    says = refused(table(mechanism.kind, choice, mechanism.config()))
    assert says is None or (says and "\n" not in says and len(says) < 500)


@pytest.mark.promise("L2")
@given(kind=st.sampled_from(sorted(parts.CLASSES)), name=st.text(max_size=12), setting=st.text(min_size=1, max_size=8))
@settings(max_examples=60)
def test_a_part_or_setting_that_is_not_there_is_refused_with_those_that_are(kind: str, name: str, setting: str) -> None:
    mechanism = next(m for m in MECHANISMS if m.kind == kind)
    known = catalog.names(kind)
    if name not in known:
        says = refused(table(kind, {"name": name}, mechanism.config()))
        assert says is not None
        assert f"no {catalog.singular(kind)} {name!r}" in says
        assert f"there is: {', '.join(sorted(known))}" in says
    if setting != "name" and setting not in mechanism.module.Settings.__struct_fields__:
        says = refused(table(kind, {"name": mechanism.name, setting: 1}, mechanism.config()))
        assert says is not None
        assert "unknown field" in says
        assert "its settings are: " in says


@pytest.mark.promise("L2")
@pytest.mark.parametrize("embedding", catalog.names("embeddings"))
@given(axes=st.integers(1, 4), size=st.integers(1, 9))
@settings(max_examples=8)
def test_a_series_fits_an_embedding_of_two_axes_and_no_other(embedding: str, axes: int, size: int) -> None:
    from edgepass.models.passformer import Passformer

    config = Mechanism("embeddings", embedding).config()
    takes = catalog.load("embeddings", embedding).SHAPE
    if axes != len(takes):
        with pytest.raises(InputError, match=f"takes .*, not an input of {axes} ax") as refusal:
            Passformer(config, shape=(size,) * axes, outputs=3)
        assert "\n" not in str(refusal.value)


@pytest.mark.promise("L2")
@pytest.mark.parametrize("mixer", catalog.names("mixers"))
@pytest.mark.parametrize("embedding", ["patch", "patch_grid", "inverted"])
@pytest.mark.parametrize("lookback", [1, 23])
def test_a_mixer_takes_the_axes_that_there_are_or_says_which_embedding_gives_its_own(
    mixer: str, embedding: str, lookback: int
) -> None:
    config = Config(dim=32, embedding={"name": embedding}, passes=(PassConfig(mixer={"name": mixer}),))
    says = None
    try:
        model = create(config, lookback=lookback, horizon=2, channels=3)
    except InputError as error:
        says = str(error)
    else:
        assert model(torch.randn(2, lookback, 3)).shape == (2, 2, 3)
    assert says is None or ("embedding" in says and "\n" not in says)


@pytest.mark.promise("L2")
@given(
    found=st.fixed_dictionaries(
        {"dim": VALUES, "passes": st.one_of(VALUES, st.lists(st.dictionaries(st.sampled_from([
            "mixer", "gate", "channel_mixer", "norm", "skip", "scale", "width"]), VALUES, max_size=2), max_size=2))},
        optional={"topology": VALUES, "head": VALUES, "direct": VALUES, "name": VALUES, "embedding": VALUES},
    )
)  # fmt: skip
@settings(max_examples=100)
def test_whatever_a_preset_says_it_is_built_or_refused_in_a_sentence(found: dict[str, Any]) -> None:
    says = refused(found)
    assert says is None or (says and "\n" not in says)
