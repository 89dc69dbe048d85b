"""Merges compute their formulas, and refuse what they cannot join."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepass import catalog
from edgepass.errors import InputError
from edgepass.models import create, parts
from edgepass.models.config import Config
from edgepass.models.parts import Tokens
from runtime_tests.models.topologies import COUNTS, ONLY_FEED, PASS, D, merge, same, values

# Merges


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.promise("V5")
def test_concat_is_one_linear_map_of_both_streams_side_by_side(count: int) -> None:
    module = merge("concat", Tokens((count,), D), Tokens((count,), 5))
    x_BND, z_BNE = values(3, count, D), values(3, count, 5)
    weight, bias = module.project.weight, module.project.bias
    torch.testing.assert_close(module(x_BND, z_BNE), x_BND @ weight[:, :D].T + z_BNE @ weight[:, D:].T + bias)
    same(module, x_BND, z_BNE)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.promise("V5")
def test_gate_blends_two_streams(count: int) -> None:
    module = merge("gate", Tokens((count,), D), Tokens((count,), D))
    x_BND, z_BND = values(3, count, D), values(3, count, D)
    g_BND = 1 / (1 + torch.exp(-(x_BND @ module.first.weight.T + z_BND @ module.second.weight.T + module.first.bias)))
    torch.testing.assert_close(module(x_BND, z_BND), g_BND * x_BND + (1 - g_BND) * z_BND)
    low, high = torch.minimum(x_BND, z_BND), torch.maximum(x_BND, z_BND)
    assert ((module(x_BND, z_BND) >= low - 1e-12) & (module(x_BND, z_BND) <= high + 1e-12)).all()
    same(module, x_BND, z_BND)


@given(count=st.integers(1, 23), other=st.integers(1, 23), width=st.integers(1, 17))
@settings(max_examples=20)
@pytest.mark.promise("V5")
def test_cross_attend_lets_tokens_ask_a_stream_of_any_shape(count: int, other: int, width: int) -> None:
    module = merge("cross_attend", Tokens((count,), D), Tokens((other,), width), heads=2)
    x_BND, z_BMC = values(2, count, D), values(2, other, width)
    n_BND, n_BMC = module.norm_into(x_BND), module.norm_other(z_BMC)
    heads = []
    for head in range(2):
        own = slice(4 * head, 4 * head + 4)
        q, k, v = (f(n)[..., own] for f, n in ((module.query, n_BND), (module.key, n_BMC), (module.value, n_BMC)))
        heads.append(torch.softmax(q @ k.mT / 2, dim=-1) @ v)
    torch.testing.assert_close(module(x_BND, z_BMC), x_BND + module.out(torch.cat(heads, dim=-1)))


def test_cross_attend_exports_with_a_batch_that_varies() -> None:
    same(merge("cross_attend", Tokens((7,), D), Tokens((3,), 5), heads=2), values(3, 7, D), values(3, 3, 5))


@pytest.mark.parametrize(
    ("name", "other", "chosen", "sentence"),
    [
        ("add", Tokens((6,), D), {}, "6 tokens of 8 channels cannot be merged into 7 of 8; cross_attend"),
        ("gate", Tokens((7,), 5), {}, "7 tokens of 5 channels cannot be merged into 7 of 8; cross_attend"),
        ("concat", Tokens((6,), D), {}, "6 tokens cannot stand beside 7; cross_attend"),
        ("cross_attend", Tokens((6,), 5), {"heads": 3}, "3 heads do not divide 8 channels"),
    ],
)
def test_merges_refuse_streams_that_they_cannot_join(
    name: str, other: Tokens, chosen: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=f"merge '{name}': {sentence}"):
        parts.make("merges", {"name": name, **chosen}, Tokens((7,), D), other)


@pytest.mark.parametrize("name", catalog.names("merges"))
@pytest.mark.promise("V5")
def test_how_branches_are_merged_is_a_matter_of_configuration(name: str) -> None:
    choice = {"name": "branches", "merge": {"name": name}}
    config = Config(dim=D, embedding={"name": "patch", "size": 4}, topology=choice, passes=(PASS, ONLY_FEED, PASS))
    y_BHC = create(config, lookback=23, horizon=5, channels=3)(torch.randn(2, 23, 3))
    assert y_BHC.shape == (2, 5, 3)
    assert torch.isfinite(y_BHC).all()
