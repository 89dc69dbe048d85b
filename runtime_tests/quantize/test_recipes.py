"""Recipes go by the names that people type."""

from itertools import chain

import pytest

from edgepass import catalog
from edgepass.errors import UnknownNameError
from edgepass.plan import Plan
from edgepass.quantize import recipe


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("int8", "static_wi8_ai8"),
        ("W8A8", "static_wi8_ai8"),
        ("static-wi8-ai8", "static_wi8_ai8"),
        ("half", "fp16"),
        ("FP32", "fp32"),
        ("dynamic-int8", "dynamic_wi8_afp32"),
        ("weight-only", "weight_only_wi8_afp32"),
    ],
)
def test_a_recipe_goes_by_other_names_too(name: str, meant: str) -> None:
    assert recipe.read(name) == recipe.read(meant)


def test_no_name_is_of_two_recipes() -> None:
    known = catalog.names("recipes")
    all_names = [*known, *chain.from_iterable(recipe.read(name).aliases for name in known)]
    assert len(all_names) == len(set(all_names))
    assert all(name == name.lower().replace("-", "_") for name in all_names)


def test_an_unknown_name_is_met_with_the_nearest_also_of_the_others() -> None:
    with pytest.raises(UnknownNameError, match=r"no recipe 'int88'; did you mean 'int8'\? there is: dynamic_"):
        recipe.read("int88")


def test_one_recipe_by_two_names_is_asked_for_once() -> None:
    assert [r.name for r in Plan.of(["tflite"], ["int8", "static_wi8_ai8", "half"]).recipes] == [
        "static_wi8_ai8",
        "fp16",
    ]
