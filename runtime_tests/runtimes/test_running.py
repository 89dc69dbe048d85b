"""Every runtime gives the outputs of the program, in its order, and says what it took."""

from pathlib import Path

import numpy as np
import pytest

from edgepass.runtimes import _child
from runtime_tests.runtimes.written import FLOAT, run


class TestRunning:
    @pytest.mark.parametrize("name", FLOAT)
    def test_float_files_give_the_outputs_of_the_program(
        self, files: Path, samples: np.ndarray, reference: _child.Measurement, name: str
    ) -> None:
        got = run(files / name, [samples])
        assert [y.shape for y in got.outputs] == [(7, 1, 13, 5), (7, 1, 13, 13)]
        for y, want in zip(got.outputs, reference.outputs, strict=True):
            np.testing.assert_allclose(y, want, atol=1e-5)
        assert got.latency.runs == 3
        assert 0 < got.latency.p50_us <= got.latency.p95_us

    @pytest.mark.parametrize("name", ["int8.pte", "int8.tflite", "hybrid.tflite"])
    def test_quantised_files_take_and_give_float(
        self, files: Path, samples: np.ndarray, reference: _child.Measurement, name: str
    ) -> None:
        got = run(files / name, [samples])
        for y, want in zip(got.outputs, reference.outputs, strict=True):
            assert y.dtype == np.float32
            assert 0.0 < np.abs(y - want).max() < 0.15

    @pytest.mark.parametrize("name", ["many.pte", "many.tflite"])
    def test_inputs_and_outputs_keep_their_order(self, files: Path, name: str) -> None:
        inputs = [np.full((1, 1, 2), 100.0 + i, np.float32) for i in range(12)]
        outputs = run(files / name, inputs).outputs
        assert [float(y[0, 0, 0]) for y in outputs] == [(100.0 + i) * (i + 1) for i in range(12)]

    @pytest.mark.parametrize("name", [n for n in FLOAT if n != "float.pt2"])
    def test_memory_is_that_of_the_file_and_not_of_the_runtimes_import(
        self, files: Path, samples: np.ndarray, name: str
    ) -> None:
        assert 0 < run(files / name, [samples[:1]]).peak_bytes < 24 << 20

    def test_a_program_with_a_dynamic_batch_runs_at_another_batch(self, files: Path, samples: np.ndarray) -> None:
        together = np.moveaxis(samples, 1, 0)  # one sample of batch 7
        assert run(files / "dynamic.pt2", [together]).outputs[0].shape == (1, 7, 13, 5)
