"""What describe says is so: counted by hand, bounded by windows, and the same sum however the passes are arranged."""

import copy
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepass import catalog, source
from edgepass.describing import reach as reaches
from edgepass.describing.description import Description, describe
from edgepass.errors import InputError, UnknownNameError
from edgepass.models import create
from edgepass.models.config import Config, PassConfig
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass
from edgepass.task import Task
from runtime_tests.conftest import Done
from runtime_tests.mechanisms import Mechanism

FEED = {"name": "feed_forward", "ratio": 2.0}


def config(window: int = 7, dim: int = 16, patch: int = 8, **more: Any) -> Config:
    local = {"name": "local_attention", "heads": 2, "window": window}
    table = {"dim": dim, "embedding": {"name": "patch", "size": patch}, "passes": [{"mixer": local}]}
    return msgspec.convert(table | more, Config)


def of(model: nn.Module, *args: Tensor) -> Description:
    return describe(Task(name="m", source="m", model=model, args=args))


def forecaster(window: int = 7, lookback: int = 168, channels: int = 1, **more: Any) -> Description:
    model = create(config(window, **more), lookback=lookback, horizon=12, channels=channels)
    return of(model, torch.zeros(1, lookback, channels))


def test_macs_are_those_counted_by_hand() -> None:
    found = {row.name: row for row in forecaster(window=4, channels=3, direct=True).parts}
    tokens, dim, channels = 21, 16, 3
    assert found["passformer.embedding"].macs == channels * tokens * 8 * dim
    attention = 5 * 4 * 4 * dim * 2 + 1 * 1 * dim * 2  # five windows of 4 tokens and one of 1; scores, then values
    assert found["passformer.topology.passes.0"].macs == channels * (4 * tokens * dim * dim + attention)
    assert found["passformer.head"].macs == channels * tokens * dim * 12
    assert found["direct"].macs == channels * 168 * 12
    assert found["normalise"].macs == 0


class Convolutions(nn.Module):
    """Two convolutions, one of them in groups, and a product with a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.two = nn.Conv1d(8, 8, 5, groups=8)
        self.vector = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, 8, 8] -> [B, 12]."""
        y: Tensor = self.two(self.one(x).flatten(2)).transpose(1, 2) @ self.vector
        return y


def test_convolutions_and_vectors_count_and_what_has_no_passes_is_told_by_its_top_modules() -> None:
    found = of(Convolutions(), torch.zeros(1, 3, 8, 8))
    assert {row.name: row.macs for row in found.parts} == {
        "m": 12 * 8,
        "one": 3 * 3 * 3 * 8 * 4 * 4,
        "two": 5 * 8 * 12,
    }
    assert found.model.macs == sum(row.macs for row in found.parts)
    assert all(row.reach is None and row.full_attention is None for row in (*found.parts, found.model))
    assert not found.stacks


def test_layers_with_a_kernel_of_their_own_are_counted_too() -> None:
    lstm = of(nn.Sequential(nn.LSTM(6, 5)), torch.zeros(7, 1, 6))
    assert lstm.model.macs == 7 * 4 * 5 * (6 + 5)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    found = of(nn.Sequential(layer), torch.zeros(1, 5, 8))
    assert found.model.macs == 5 * 8 * (3 * 8 + 8 + 16 + 16) + 2 * 5 * 5 * 8
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mkldnn.enabled  # both are as before


class Holder(nn.Module):
    """Makes three tensors of 4 kB, of which two are alive at once, and gives back its input and one of them."""

    def forward(self, x: Tensor) -> Tensor:
        """[1024] -> [1024]."""
        y = x + 1
        y = y * 2
        return y - x


def test_activations_are_the_tensors_alive_at_once() -> None:
    holder = of(nn.Sequential(Holder(), Holder()), torch.zeros(1024))
    assert [row.activation_bytes for row in holder.parts] == [2 * 4096, 2 * 4096]
    assert holder.model.activation_bytes == 3 * 4096  # what the first gave is alive while the second works
    views = of(nn.Sequential(nn.Flatten(0), nn.Identity()), torch.zeros(4, 8))
    assert views.model.activation_bytes == 0


@pytest.mark.promise("S4")
@given(tokens=st.integers(1, 40), window=st.integers(1, 45))
@settings(max_examples=15)
@example(tokens=23, window=7)
def test_a_local_pass_reaches_its_window_and_no_further(tokens: int, window: int) -> None:
    local = Pass(Tokens((tokens,), 8), PassConfig(mixer={"name": "local_attention", "heads": 2, "window": window}))
    reach = reaches.measure(local, (torch.zeros(1, tokens, 8),), (tokens,))
    assert reach.tokens == min(window, tokens)
    assert reach.span == (min(window, tokens),)


@pytest.mark.promise("S4")
def test_every_pass_has_a_row_of_its_cost_and_reach() -> None:
    local, strided = ({"name": "local_attention", "window": 4}, {"name": "strided_attention", "stride": 4})
    found = forecaster(passes=[{"mixer": local, "channel_mixer": FEED}, {"mixer": strided}], patch=8)
    first, second = (row for row in found.parts if row.kind == "pass")
    assert (first.what, second.what) == ("local_attention, feed_forward", "strided_attention")
    assert first.parameters == 2 * 2 * 16 + 4 * (16 * 16 + 16) + (16 * 32 + 32) + (32 * 16 + 16)
    assert min(first.activation_bytes, second.activation_bytes) > 3 * 21 * 16 * 4  # queries, keys and values
    assert first.reach is not None
    assert (first.reach.tokens, first.reach.span, first.reach.grid) == (4, (4,), (21,))
    assert second.reach is not None
    assert (second.reach.tokens, second.reach.span) == (6, (21,))
    (stack,) = found.stacks
    assert stack.reach is not None
    assert stack.reach.tokens == 21  # two passes of 4 and 6 tokens, and every token meets every other
    assert stack.full_attention == 0
    assert stack.macs == first.macs + second.macs


def test_a_gate_of_the_whole_pass_lets_every_token_reach_every_other() -> None:
    gated = Pass(Tokens((11,), 8), PassConfig(channel_mixer=FEED, gate="pass"))
    alone = Pass(Tokens((11,), 8), PassConfig(channel_mixer=FEED, gate="values"))
    x_BND = torch.zeros(1, 11, 8)
    assert reaches.measure(gated, (x_BND,), (11,)).tokens == 11
    assert reaches.measure(alone, (x_BND,), (11,)).tokens == 1


def test_a_pass_that_starts_as_its_skip_reaches_as_far_as_training_can_take_it() -> None:
    closed = Pass(Tokens((12,), 8), PassConfig(mixer={"name": "local_attention", "window": 5}, scale=0.0))
    before = copy.deepcopy(closed.state_dict())
    assert reaches.measure(closed, (torch.zeros(1, 12, 8),), (12,)).tokens == 5
    assert all(torch.equal(value, before[name]) for name, value in closed.state_dict().items())


def test_reach_is_told_along_each_axis_of_a_grid() -> None:
    choice = {"name": "axial_attention", "heads": 2}
    tokens = Tokens((3, 5), 8, variates=3)
    reach = reaches.measure(Pass(tokens, PassConfig(mixer=choice)), (torch.zeros(1, 15, 8),), tokens.grid)
    assert (reach.span, reach.grid) == ((3, 5), (3, 5))


def test_of_a_long_sequence_some_outputs_are_looked_at_the_ends_among_them() -> None:
    some = reaches._some(1000).tolist()
    assert len(some) == len(set(some)) == reaches.OUTPUTS
    assert {0, 999} <= set(some) <= set(range(1000))


@pytest.mark.promise("S5")
@pytest.mark.parametrize("window", [1, 7, 20])
def test_a_local_stack_has_no_full_length_attention(window: int) -> None:
    found = forecaster(window=window)
    assert found.stacks[0].full_attention == found.model.full_attention == 0


@pytest.mark.promise("S5")
@pytest.mark.parametrize(
    "mixer",
    [
        {"name": "local_attention", "heads": 2, "window": 999},
        {"name": "grouped_attention", "heads": 4, "query_heads": 4, "key_heads": 2},
        {"name": "minimal_attention"},
        {"name": "decay_attention"},
    ],
)
def test_full_attention_dominates_long_sequences_and_is_reported(mixer: dict[str, Any]) -> None:
    shares = [forecaster(lookback=length, passes=[{"mixer": mixer}]).stacks[0].full_attention for length in (64, 1024)]
    assert shares[0] is not None
    assert shares[1] is not None
    assert 0 < shares[0] < shares[1] < 1
    assert shares[1] > 0.7


@pytest.mark.promise("S5")
def test_the_share_of_full_length_attention_is_that_counted_by_hand() -> None:
    found = forecaster(window=21)
    pass_macs, scores_and_values = 4 * 21 * 16 * 16 + 2 * 21 * 21 * 16, 2 * 21 * 21 * 16
    assert found.stacks[0].full_attention == pytest.approx(scores_and_values / pass_macs)
    assert found.model.full_attention == pytest.approx(scores_and_values / found.model.macs)
    both = forecaster(passes=[{"mixer": {"name": "local_attention", "window": w}} for w in (7, 21)])
    assert next(row.full_attention for row in both.parts if row.kind == "pass") == 0
    assert both.stacks[0].full_attention == pytest.approx(scores_and_values / both.stacks[0].macs)


@pytest.mark.promise("S5")
def test_a_product_with_a_constant_and_linear_attention_are_no_full_length_attention() -> None:
    for name in ("linear_attention", "hyena", "frequency_attention"):
        if name in catalog.names("mixers"):
            assert forecaster(lookback=256, passes=[{"mixer": {"name": name}}]).stacks[0].full_attention == 0


@pytest.mark.promise("P1")
def test_macs_of_local_passes_grow_with_length_and_of_full_ones_with_its_square() -> None:
    def slope(window: int) -> float:
        short, long = (forecaster(window=window, lookback=n).stacks[0].macs for n in (1024, 4096))
        return math.log(long / short) / math.log(4)

    assert slope(8) == pytest.approx(1.0, abs=1e-9)
    assert slope(512) > 1.8


@pytest.mark.parametrize("name", catalog.names("topologies"))
def test_rows_add_up_however_passes_are_arranged(name: str) -> None:
    task = Mechanism("topologies", name).task()
    found = describe(task)
    parameters = {id(p): p.numel() for p in task.module.parameters()}
    assert sum(row.parameters for row in found.parts) == found.model.parameters == sum(parameters.values())
    assert sum(row.macs for row in found.parts) == found.model.macs > 0
    passes = [row for row in found.parts if row.kind == "pass"]
    assert passes
    assert all(row.calls >= 1 and row.reach is not None for row in passes)
    assert {row.name for row in passes} <= {name for name, _ in task.module.named_modules()}
    (stack,) = found.stacks
    assert stack.what == name
    assert stack.macs >= sum(row.macs for row in passes)
    assert stack.reach is not None
    alone = [row.reach.tokens for row in passes if row.reach and row.reach.grid == stack.reach.grid]
    assert stack.reach.tokens >= max(alone, default=1)


def test_weights_that_are_shared_count_once_and_their_macs_each_time() -> None:
    module = nn.Linear(4, 4)
    shared = nn.Sequential(module, nn.ReLU(), module)
    other = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    other[1].weight = other[0].weight
    first, relu = of(shared, torch.zeros(1, 4)).parts
    assert (first.calls, first.parameters, first.macs) == (2, 20, 32)
    assert (relu.calls, relu.parameters) == (1, 0)
    assert [(row.parameters, row.macs) for row in of(other, torch.zeros(1, 4)).parts] == [(20, 16), (0, 16)]


def test_describing_changes_nothing() -> None:
    model = create(config(), lookback=40, horizon=4)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    of(model, torch.zeros(1, 40, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not [hook for module in model.modules() for hook in module._forward_pre_hooks]
    assert all(p.requires_grad for p in model.parameters())


def test_a_saved_program_is_told_by_its_top_modules(tmp_path: Path) -> None:
    model = create(config(), lookback=40, horizon=4)
    torch.export.save(torch.export.export(model, (torch.zeros(1, 40, 1),), strict=False), tmp_path / "m.pt2")
    found = describe(source.bare(str(tmp_path / "m.pt2")))
    whole = of(model, torch.zeros(1, 40, 1))
    assert found.model.macs == whole.model.macs
    assert found.model.parameters == whole.model.parameters
    assert [row.what for row in found.parts] == ["Normalise", "Passformer", "Linear", "Denormalise"]


def test_a_model_that_raises_is_one_sentence() -> None:
    with pytest.raises(InputError, match="m raises RuntimeError on its example arguments: mat1 and mat2"):
        of(nn.Linear(3, 3), torch.zeros(1, 4))


Cli = Callable[..., Done]


def test_the_command_shows_a_table_and_json(edgepass: Cli) -> None:
    text = edgepass("describe", "single-s").out
    assert "single-s: one call with 1 \N{MULTIPLICATION SIGN} 336" in text
    assert "local_attention, feed_forward" in text
    assert "7 of 21" in text
    found = json.loads(edgepass("describe", "single-s", "--lookback", 168, "--channels", 2, "--json").out)
    assert found["inputs"] == [[1, 168, 2]]
    assert found["model"]["full_attention"] == 0
    assert [row["kind"] for row in found["parts"]][1:4] == ["embedding", "encoding", "pass"]
    assert found["stacks"][0]["reach"] == {"tokens": 7, "span": [7], "grid": [11]}


def test_a_users_file_is_described_without_its_data(edgepass: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def get_model(): return torch.nn.Linear(3, 2)\n"
        "def get_args(): return (torch.zeros(1, 3),)\n"
        "def get_eval_data(): raise OSError('a long download')\n"
    )
    found = json.loads(edgepass("describe", f"{tmp_path}/mine.py:get_model", "--json").out)
    assert (found["model"]["macs"], found["model"]["parameters"]) == (6, 8)
    done = edgepass("describe", f"{tmp_path}/mine.py:get_model", "--lookback", 8)
    assert (done.code, "has its own sizes; lookback can be chosen for a preset" in done.sentence) == (3, True)


def test_list_says_what_each_name_is_and_imports_none_of_them(edgepass: Cli) -> None:
    for kind in (*catalog.MODULES, *catalog.DATA):
        offers = json.loads(edgepass("list", kind, "--json").out)
        assert [offer["name"] for offer in offers] == catalog.names(kind)
        assert all(len(offer["summary"]) > 10 for offer in offers), kind
        assert kind in edgepass("list", "-h").out
    line = next(line for line in edgepass("list", "heads").out.splitlines() if line.startswith("forecast "))
    assert line.split(maxsplit=1)[1] == catalog.summary("heads", "forecast")


def test_a_list_imports_nothing_that_it_lists() -> None:
    code = (
        "import sys; from edgepass import catalog\n"
        "for kind in ('mixers', 'heads', 'presets'): [catalog.summary(kind, n) for n in catalog.names(kind)]\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_summary_of_a_name_that_is_not_there_is_refused() -> None:
    for kind, name in (("mixers", "local_atention"), ("presets", "single"), ("targets", "tflight")):
        with pytest.raises(UnknownNameError, match="did you mean"):
            catalog.summary(kind, name)
