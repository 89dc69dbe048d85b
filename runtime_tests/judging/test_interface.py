"""An output is the model's in shape and kind of number, or the file fails; what else an app sees of it is told."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from edgepass.errors import ArtifactError
from edgepass.judging import interface
from edgepass.judging.manifest import TensorSpec

PATH = Path("model.tflite")


@given(shape=array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=7), seed=st.integers(0, 63))
def test_an_output_of_equal_size_and_another_shape_is_refused(shape: tuple[int, ...], seed: int) -> None:
    other = tuple(np.random.default_rng(seed).permutation(shape).tolist())
    reference, output = np.zeros((3, *shape), np.float32), np.ones((3, *other), np.float32)
    if other == shape:
        assert interface.aligned([output], [reference], PATH)[0].shape == reference.shape
    else:
        with pytest.raises(ArtifactError, match="another interface is another model"):
            interface.aligned([output], [reference], PATH)


@pytest.mark.parametrize("shapes", [((5,), (5, 1)), ((5, 1), (5,))])
def test_a_scalar_may_come_as_one_element(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    output, reference = np.arange(5.0).reshape(shapes[0]), np.zeros(shapes[1])
    assert interface.aligned([output], [reference], PATH)[0].tolist() == np.arange(5.0).reshape(shapes[1]).tolist()


@pytest.mark.parametrize(("given_", "wanted"), [("float32", "int64"), ("int32", "float32"), ("float32", "bool")])
def test_fractions_and_whole_numbers_are_different_models(given_: str, wanted: str) -> None:
    with pytest.raises(ArtifactError, match=f"gives {given_}.* for output 1"):
        interface.aligned(
            [np.zeros((2, 1)), np.zeros((2, 3), given_)], [np.zeros((2, 1)), np.zeros((2, 3), wanted)], PATH
        )


@pytest.mark.parametrize("wanted", ["bool", "uint8", "int64"])
def test_another_type_of_whole_number_is_told(wanted: str) -> None:
    output, reference = np.ones((2, 3), np.int32), np.ones((2, 3), wanted)
    assert interface.aligned([output], [reference], PATH)
    seen = interface.outputs([TensorSpec(name="chosen", shape=(3,), dtype="int32")], [output], [reference])
    assert interface.notes(seen) == [f"chosen is int32[3] in the file, {wanted}[3] in the model"]
    same = interface.outputs([TensorSpec(name="chosen", shape=(None,), dtype=wanted)], [output], [reference])
    assert interface.notes(same) == []


def test_another_number_of_outputs_is_another_model() -> None:
    with pytest.raises(ArtifactError, match="gives 1 outputs, the model 2"):
        interface.aligned([np.zeros((2, 1))], [np.zeros((2, 1))] * 2, PATH)
