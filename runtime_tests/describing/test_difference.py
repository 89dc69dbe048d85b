"""Two files side by side: of one format, or of any two."""

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from edgepass.describing import difference
from edgepass.errors import InputError
from runtime_tests.conftest import CONVERTERS_WARN, Done

pytestmark = [pytest.mark.export, CONVERTERS_WARN]
Cli = Callable[..., Done]


def test_a_file_is_itself(files: Path) -> None:
    found = difference.diff(files / "float.onnx", files / "float.onnx")
    assert (found.interface, found.only_a, found.only_b, found.operations) == ([], [], [], {})
    assert {pair.db for pair in found.weights} == {200.0}
    assert [pair.a.name for pair in found.weights] == [pair.b.name for pair in found.weights]
    assert found.parity is not None
    assert found.parity.max_abs == 0.0


@pytest.mark.parametrize(("a", "b"), [("float.onnx", "float.pte"), ("float.tflite", "float.onnx")])
def test_formats_of_one_model_hold_the_same_weights_and_give_the_same(files: Path, a: str, b: str) -> None:
    found = difference.diff(files / a, files / b)
    large = [pair for pair in found.weights if sum(n > 1 for n in pair.a.shape) >= 2]
    assert len(large) == 5  # two convolutions and three linear layers
    assert all(pair.db is not None and pair.db > 120.0 for pair in large)
    assert found.parity is not None
    assert found.parity.centred_db is not None
    assert found.parity.centred_db > 100.0
    assert found.operations


def test_weights_that_were_rounded_are_told_with_how_far_they_are_off(files: Path) -> None:
    found = difference.diff(files / "float.pte", files / "int8.tflite")
    rounded = [pair for pair in found.weights if pair.b.dtype == "int8"]
    assert len(rounded) == 5
    assert all(pair.db is not None and 35.0 < pair.db < 60.0 for pair in rounded)
    assert any(line.startswith("output_0") or "of B against A" in line for line in difference.lines(found))
    assert difference.verdict(found, 15.0) == "pass"
    assert difference.verdict(found, 90.0) == "fail"


def test_the_command_prints_it_and_holds_a_bound(edgepass: Cli, files: Path) -> None:
    same = edgepass("diff", str(files / "float.tflite"), str(files / "weight_only.tflite"), "--min-sqnr", "20dB")
    assert same.code == 0, same
    assert "int8 per-channel" in same.out
    apart = edgepass("diff", str(files / "float.tflite"), str(files / "int8.tflite"), "--min-sqnr", "90dB", "--json")
    assert apart.code == 2
    assert json.loads(apart.out)["given"] == "noise, seed 0"


def test_another_interface_is_told_and_nothing_is_compared(edgepass: Cli, files: Path) -> None:
    done = edgepass("diff", str(files / "float.tflite"), str(files / "many.tflite"), "--min-sqnr", "20dB")
    assert done.code == 5
    assert "A has 1 input, B 12" in done.out
    assert "outputs are not compared" in done.out


def test_data_are_for_every_input(files: Path, tmp_path: Path) -> None:
    data = tmp_path / "x.safetensors"
    save_file({"x": np.ones((3, 1, 3, 13), np.float32)}, data)
    found = difference.diff(files / "float.tflite", files / "float.onnx", data=data)
    assert found.parity is not None
    assert (found.parity.samples, found.given) == (3, str(data))
    save_file({name: np.ones((3, 1, 3, 13), np.float32) for name in "xy"}, data)
    with pytest.raises(InputError, match=r"x.safetensors holds 2 arrays, and .* takes 1 inputs; give one for each"):
        difference.diff(files / "float.tflite", files / "float.onnx", data=data)


@given(st.sampled_from([(7,), (63, 2), (2, 3, 5), (3, 3, 4), (1, 4, 1, 9)]), st.randoms(use_true_random=False))
def test_a_weight_is_found_in_any_order_of_its_dimensions(shape: tuple[int, ...], random: object) -> None:
    values = np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
    order = random.choice(list(permutations(range(len(shape)))))  # type: ignore[attr-defined]
    assert difference._nearest(values, values.transpose(order)) == 200.0
    assert difference._nearest(values, values[::-1] + 9) is None
