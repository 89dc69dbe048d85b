"""Methods of a user's own model: captured, calibrated, written and judged each by itself, in one file if it can be."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from edgepass import build, methods, source, subject
from edgepass.cli.commands import cli
from edgepass.errors import CaptureError, InputError
from edgepass.judging import manifest
from edgepass.judging.manifest import Varying
from edgepass.report import answers, words
from edgepass.task import Task, stand_in
from runtime_tests.conftest import CONVERTERS_WARN

pytestmark = [pytest.mark.export, CONVERTERS_WARN]


class Codec(nn.Module):
    """Of 488 parameters; both methods read one layer, and each calls what is no method."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.shared, self.up = nn.Linear(24, 8), nn.Linear(8, 8), nn.Linear(8, 24)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[1, 24] to two of [1, 8]."""
        y: Tensor = self.shared(torch.relu(self.down(x)))
        return y, y.square()

    def decode(self, z: Tensor, gain: Tensor) -> Tensor:
        """[1, 8] and [1, 1] to [1, 24]."""
        y: Tensor = self.up(torch.relu(self.shared(z)))
        return y * gain

    def forward(self, x: Tensor) -> Tensor:
        """Both in a row."""
        return self.decode(self.encode(x)[0], torch.ones(1, 1))

    def again(self, x: Tensor) -> Tensor:
        """Of forward, which is not itself."""
        y: Tensor = self(self(x))
        return y


FILE = """
import torch
from runtime_tests.exporters.test_users_methods import Codec as get_model

def get_methods():
    return {"encode": (torch.zeros(1, 24),), "decode": {"gain": torch.ones(1, 1), "z": torch.zeros(1, 8)}}

def rows(seed):
    torch.manual_seed(seed)
    decode = [{"z": torch.randn(1, 8), "gain": torch.rand(1, 1)} for _ in range(24)]
    return {"encode": ((torch.randn(1, 24),) for _ in range(24)), "decode": decode}

def get_calibration_data():
    return rows(1)

def get_eval_data():
    return rows(2) | {"encode": [((torch.randn(1, 24),), torch.randn(8)) for _ in range(24)]}

def get_metric():
    return {"encode": "mse"}
"""
TARGETS = ("executorch", "coreml", "tflite", "onnx")
DATA = {"encode": [(torch.randn(1, 24),) for _ in range(16)], "decode": [(torch.randn(1, 8), torch.rand(1, 1))] * 2}
METHODS = {"encode": (torch.zeros(1, 24),), "decode": (torch.zeros(1, 8), torch.ones(1, 1))}


def exported(place: Path, targets: tuple[str, ...]) -> Path:
    """A folder of static int8 files, from the command line."""
    (place / "codec.py").write_text(FILE)
    asked = [word for target in targets for word in ("--target", target)]
    words = ["export", f"{place}/codec.py:get_model", "-o", str(place / "out"), *asked, "--recipe", "static_wi8_ai8"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that holds a format of several methods, and one of one."""
    return exported(tmp_path_factory.mktemp("methods"), ("tflite", "onnx"))


@pytest.mark.slow
def test_every_target_writes_methods(tmp_path: Path) -> None:
    made = manifest.read(exported(tmp_path, TARGETS) / "out")
    files = {f"codec.static_wi8_ai8.{ending}": 2 for ending in ("pte", "mlpackage", "tflite")}
    files |= {f"codec.{method}.static_wi8_ai8.onnx": 1 for method in METHODS}
    assert {f: sum(a.file == f for a in made.artifacts) for f in made.outcomes} == files
    assert [(a.method, a.verdict) for a in made.artifacts] == [("encode", "pass"), ("decode", "pass")] * 4


def test_files_and_their_page_tell_of_each_method(folder: Path) -> None:
    out = folder / "out"
    made = manifest.read(out)
    single = [f"codec.{method}.static_wi8_ai8.onnx" for method in METHODS]
    assert {f: sum(a.file == f for a in made.artifacts) for f in made.outcomes} == {
        "codec.static_wi8_ai8.tflite": 2,
        **dict.fromkeys(single, 1),
    }
    assert [(a.method, len(a.outputs), a.metric is None) for a in made.artifacts] == [
        ("encode", 2, False),
        ("decode", 1, True),
    ] * 2
    assert [(m.name, len(m.inputs), len(m.outputs)) for m in made.model.methods] == [("encode", 1, 2), ("decode", 2, 1)]
    assert {(d.role, d.method, d.synthetic) for d in made.data} == {
        (role, method, False) for role in ("calibration", "evaluation") for method in METHODS
    }
    both = answers.choices(made)[1]
    assert (both.files, both.bytes) == (tuple(single), sum((out / f).stat().st_size for f in single))
    page = (out / manifest.REPORT).read_text()
    assert all(f"{a.target} · {a.recipe} · {a.method}" in page for a in made.artifacts)
    assert "All 3 files do what the model does" in page


def test_every_method_of_a_folder_is_judged_again(folder: Path) -> None:
    out = folder / "out"
    path = out / manifest.FILE
    said = path.read_bytes()
    lies = msgspec.json.decode(said)
    lies["artifacts"][1]["parity"]["sqnr_db"] -= 30.0
    path.write_bytes(msgspec.json.encode(lies))
    try:
        done = CliRunner().invoke(cli, ["validate", str(out), "--trust"])
    finally:
        path.write_bytes(said)
    assert done.exit_code == 2
    assert "tflite static_wi8_ai8 decode: FAIL: the manifest says that its SQNR is" in " ".join(done.output.split())
    assert done.output.count("FAIL:") == 1


@pytest.mark.parametrize(("method", "judged"), [("", ["encode", "decode"]), ("decode", ["decode"])])
def test_a_file_is_judged_by_the_methods_that_are_asked_for(folder: Path, method: str, judged: list[str]) -> None:
    asked = [
        "validate",
        f"{folder}/out/codec.static_wi8_ai8.tflite",
        "--reference",
        f"{folder}/codec.py:get_model",
        "--json",
    ]
    done = CliRunner().invoke(cli, [*asked, "--recipe", "static_wi8_ai8", "--method", method])
    assert done.exit_code == 0, done.output
    assert [a["method"] for a in msgspec.json.decode(done.stdout)["artifacts"]] == judged


def test_commands_tell_of_each_method(folder: Path) -> None:
    out = folder / "out"

    def told(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, [word.replace("OUT", str(out)) for word in words])
        return done.exit_code, " ".join(f"{done.output} {done.exception}".split())

    code, text = told("benchmark", "OUT", "--runs", "2")
    assert (code, text.count("tflite encode"), text.count("onnx decode")) == (0, 1, 1)
    assert told("benchmark", "OUT", "--method", "other")[1].endswith("has a method 'other'; encode, decode")
    code, text = told("audit", "OUT/codec.static_wi8_ai8.tflite")
    assert (code, "tflite encode: pass" in text, "tflite decode: pass" in text) == (0, True, True)
    pair = ("diff", "OUT/codec.static_wi8_ai8.tflite", "OUT/codec.decode.static_wi8_ai8.onnx")
    assert "has the methods encode, decode; name one with --method" in told(*pair)[1]
    code, text = told(*pair, "--method", "decode", "--min-sqnr", "30dB")
    assert (code, "on 4 samples (golden samples)" in text) == (0, True), text


def test_a_file_passes_where_each_of_its_methods_does(folder: Path) -> None:
    made = manifest.read(folder / "out")
    first, second, *others = made.artifacts
    made = replace(made, artifacts=[first, replace(second, verdict="fail", reasons=["It is late."]), *others])
    assert first.file == second.file == "codec.static_wi8_ai8.tflite"
    assert made.outcomes == {
        "codec.static_wi8_ai8.tflite": "fail",
        **{f"codec.{m}.static_wi8_ai8.onnx": "pass" for m in METHODS},
    }
    assert words.verdict(made) == "2 of 3 files pass, 1 fails."
    assert [(choice.record is None, choice.why == "It is late.") for choice in answers.choices(made)] == [
        (True, True),
        (False, False),
    ]


class Both(nn.Module):
    """Two methods that keep a state each, or that share one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("past", torch.zeros(1, 4))
        self.register_buffer("own", torch.zeros(1, 4))

    def put(self, x: Tensor) -> Tensor:
        self.past.copy_(self.past * 0.5 + self.layer(x))
        return self.past + 1

    def take(self, x: Tensor) -> Tensor:
        self.own.copy_(self.own + x)
        return self.layer(self.own)

    def look(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.past


def tasks(model: nn.Module, given: dict[str, tuple[Tensor, ...]], **more: Any) -> Task:
    def one(name: str) -> Task:
        made = methods.method(model, name, "m.py:get_methods")
        task = Task(name="m", source="m.py", model=made, args=given[name], method=name, **more)
        return replace(task, evaluation=stand_in(task, 0))

    return Task.of_methods(map(one, given))


def test_each_method_has_a_state_of_its_own_and_reads_no_others() -> None:
    x = (torch.ones(1, 4),)
    found = subject.prepare_all(tasks(Both(), {"put": x, "take": x}, sequence=8))
    assert {name: one.program.state for name, one in found.items()} == {"put": ("past",), "take": ("own",)}
    with pytest.raises(InputError, match=r"method look, reads the buffer past, which the method put changes.*argument"):
        subject.prepare_all(tasks(Both(), {"put": x, "look": x}))
    with pytest.raises(InputError, match="keeps no state"):
        subject.prepare_all(tasks(Codec(), METHODS, sequence=8))
    with pytest.raises(InputError, match="each method would keep a state of its own"):
        build(Codec(), methods=METHODS, out="nowhere", targets=["coreml"], recipe="fp16", keep_state=True)


def test_a_dimension_varies_in_the_methods_that_have_the_input() -> None:
    given = {"encode": (torch.zeros(2, 24),), "decode": (torch.zeros(3, 8), torch.ones(1, 1))}
    found = subject.prepare_all(tasks(Codec(), given), dynamic=[Varying(axis=0, high=5, input="z")])
    assert [len(one.program.lengths) + len(one.program.varying) for one in found.values()] == [0, 1]
    with pytest.raises(CaptureError, match=r"--dynamic w:1=1..9 names a dimension that no input has"):
        subject.prepare_all(tasks(Codec(), given), dynamic=[Varying(axis=1, high=9, input="w")])


@pytest.mark.parametrize("name", ["encode", "again", "forward", "down"])
def test_a_method_is_called_as_the_model_calls_it(name: str) -> None:
    x, model = torch.randn(1, 24), Codec()
    made = methods.method(model, name, "x")
    expected = getattr(model, name)(x)
    found = torch.export.export(made, (x,), strict=False).module()(x)
    torch.testing.assert_close(found, expected)
    assert dict(made.named_parameters()).keys() == dict(model.named_parameters()).keys()


def test_arrays_go_to_the_method_whose_name_they_have(tmp_path: Path) -> None:
    (tmp_path / "codec.py").write_text(FILE)
    model, data = f"{tmp_path}/codec.py:get_model", tmp_path / "data.npz"
    z, gain = np.ones((3, 1, 8), np.float32), np.full((3, 1, 1), 2, np.float32)
    np.savez(data, **{"decode.z": z, "decode.gain": gain})
    encode, decode = source.load(model, evaluation=str(data)).each
    assert decode.evaluation is not None
    assert [x.shape for x in decode.evaluation.inputs] == [gain.shape, z.shape]
    assert encode.evaluation is not None
    assert len(encode.evaluation) == 24
    np.savez(data, z=z)
    with pytest.raises(InputError, match=r"holds z, which is of no method; name arrays as encode.input_0"):
        source.load(model, evaluation=str(data))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            'get_methods = lambda: {"encoder": 1}',
            r"names the method 'encoder', which Codec has not; it has forward, again",
        ),
        ('get_methods = lambda: {"eval": 1}', "names the method 'eval', which Codec has not"),
        ('get_methods = lambda: ["encode"]', r'dictionary of example arguments .*\{"encode": .* it gives list'),
        ("get_methods = dict", "it gives an empty one"),
        ('get_methods = lambda: {"encode": ()}', r"get_methods encode must give a tuple of tensors.* it gives nothing"),
        ("get_args = lambda: ()", r"has both get_args\(\) and get_methods\(\); keep get_methods"),
        ("get_eval_data = lambda: []", r"get_eval_data gives list, and the model has the methods encode, decode"),
        ('get_eval_data = lambda: {"x": []}', "get_eval_data gives something for 'x'; the methods are encode, decode"),
        (
            'get_eval_data = lambda: {"decode": [(torch.ones(1, 8),)]}',
            "get_eval_data decode gives argument 0, but the model was called with gain, z",
        ),
    ],
)
def test_what_a_file_gives_wrongly_of_methods_is_told(changed: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "codec.py").write_text(f"{FILE}\n{changed}\n")
    with pytest.raises(InputError, match=told):
        source.load(f"{tmp_path}/codec.py:get_model")


def test_what_python_gives_wrongly_of_methods_is_told(tmp_path: Path) -> None:
    model, here = Codec(), {"out": tmp_path / "o", "targets": ["onnx"]}
    for given in ({}, {"example_inputs": METHODS["encode"], "methods": METHODS}):
        with pytest.raises(InputError, match=r"build takes example_inputs.* or methods.*give one of them"):
            build(model, **given, **here)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs calibration data of each method, and decode has none"):
        build(model, methods=METHODS, calibration={"encode": DATA["encode"]}, **here)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="calibration gives something for 'other'; the methods are encode, decode"):
        build(model, methods=METHODS, calibration={"other": []}, **here)  # type: ignore[arg-type]
