"""The doctor tells a package that works from one that is absent, broken, hung or built for another torch."""

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from edgepass import doctor
from edgepass.errors import UnknownNameError

SYMBOL = "undefined symbol: _ZN3c104impl3cow11cow_deleterEPv"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a module of this name and body before the real one in the child."""

    def put(module: str, body: str) -> None:
        (tmp_path / f"{module}.py").write_text(body)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return put


def test_what_is_installed_here_works_or_says_how_to_get_it(capfd: pytest.CaptureFixture[str]) -> None:
    probes = doctor.check()
    assert [p.target for p in probes] == ["core", "executorch", "coreml", "tflite", "onnx"]
    for p in probes:
        assert p.ok or "is not installed" in p.detail, p
        assert p.ok == (p.fix is None)
    assert probes[0].ok
    assert "largest difference from torch" in probes[0].detail
    assert "macOS" in probes[2].detail or not probes[2].ok
    assert capfd.readouterr() == ("", "")


def test_an_undefined_symbol_names_both_versions_and_the_torch_to_install(fake) -> None:
    fake("executorch", f"raise ImportError('_portable_lib.so: {SYMBOL}')")
    (probe,) = doctor.check(["executorch"])
    assert not probe.ok
    assert probe.detail.startswith("executorch ")
    assert f"was built for another torch than the torch {probe.versions['torch']} installed here" in probe.detail
    assert probe.fix is not None
    assert probe.fix.startswith("pip install 'edgepass[executorch]' 'torch")
    assert ">=2.13" in probe.fix


def test_a_numpy_mismatch_names_numpy(fake) -> None:
    fake("coremltools", "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')")
    (probe,) = doctor.check(["coreml"])
    assert f"was built for another numpy than the numpy {probe.versions['numpy']}" in probe.detail


def test_a_crash_is_a_sentence(fake) -> None:
    fake("coremltools", "import os; print('noise'); os.abort()")
    (probe,) = doctor.check(["coreml"])
    assert not probe.ok
    assert probe.detail == "the process was ended by SIGABRT while importing coremltools"


def test_a_silent_exit_is_a_sentence(fake) -> None:
    fake("coremltools", "import os; os._exit(7)")
    (probe,) = doctor.check(["coreml"])
    assert probe.detail == "the process ended with code 7 and without an answer while importing coremltools"


def test_a_hang_is_a_sentence(fake) -> None:
    fake("onnx", "import time; time.sleep(60)")
    (probe,) = doctor.check(["onnx"], timeout_s=1.0)
    assert probe.detail == "no answer within 1 s while importing onnx"
    assert probe.seconds < 5.0


def test_a_missing_package_names_the_pip_line(fake) -> None:
    fake("litert_torch", "raise ModuleNotFoundError(\"No module named 'litert_torch'\", name='litert_torch')")
    (probe,) = doctor.check(["tflite"])
    assert probe.detail == "litert-torch is not installed"
    assert probe.fix is not None
    assert probe.fix.startswith("pip install 'edgepass[tflite]'")


def test_a_package_that_another_needs_is_named_with_it(fake) -> None:
    fake("onnx", "import no_such_thing.inside")
    (probe,) = doctor.check(["onnx"])
    assert probe.detail == "no-such-thing is not installed, and onnx needs it"


def test_a_version_that_edgepass_was_not_made_for_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "99.0" if name == "numpy" else real(name))
    monkeypatch.setattr(doctor, "_requirements", lambda _: real_requirements("core", numpy="<3"))
    (probe,) = doctor.check(["core"])
    assert not probe.ok
    assert "numpy is 99.0, edgepass needs <3" in probe.detail
    assert probe.fix


def real_requirements(target: str, **others: str) -> dict[str, object]:
    """What edgepass declares, with other bounds for some."""
    from packaging.specifiers import SpecifierSet

    return {**REQUIREMENTS(target), **{name: SpecifierSet(bound) for name, bound in others.items()}}


REQUIREMENTS = doctor._requirements


def test_the_requirements_of_an_extra_include_those_that_it_refers_to() -> None:
    wanted = doctor._requirements("tflite")
    assert {"torch", "torchao", "executorch", "litert-torch", "ai-edge-litert", "numpy"} <= set(wanted)
    assert "coremltools" not in wanted
    assert set(doctor._requirements("core")) < set(wanted)


def test_a_folder_that_the_user_stands_in_shadows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    (probe,) = doctor.check(["core"])
    assert probe.ok, probe


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(UnknownNameError, match="coreml"):
        doctor.check(["corml"])


def test_probes_are_json_and_a_table() -> None:
    fix = "pip install 'edgepass[onnx]' 'torch<2.14,>=2.13'"
    probes = [
        doctor.Probe(target="core", ok=True, versions={"torch": "2.13.0"}, detail="[b]works[/b]"),
        doctor.Probe(target="onnx", ok=False, versions={}, detail="onnx is not installed", fix=fix),
    ]
    assert msgspec.to_builtins(probes)[1]["fix"] == fix
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(doctor.table(probes))
    text = console.export_text()
    assert fix in text
    assert "[b]works[/b]" in text
    assert max(map(len, text.splitlines())) <= 100
