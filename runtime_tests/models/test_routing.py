"""What goes far goes by few passes, latents, recursion or merged tokens: each its formula, and within fixed shapes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass import catalog
from edgepass.errors import InputError
from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Tokens
from edgepass.models.passes import Pass
from runtime_tests.models.hierarchies import FEED, SERIES, VARIATES, D, felt, local, make, values, windows, zero

# Mixed spans


@pytest.mark.promise("R1")
def test_a_few_passes_span_everything_and_the_others_a_window() -> None:
    def spans(**chosen: Any) -> list[int]:
        return windows(make("mixed_spans", SERIES, local(4), local(5), **chosen).passes)

    assert spans(depth=5, full_every=3) == [4, 5, 23, 5, 4]
    assert spans(depth=3, full=(1, 2)) == [23, 23, 4]
    assert spans(depth=4, full_every=2, window=6) == [6, 23, 6, 23]
    x_BND = values(2, 23, D)
    assert felt(make("mixed_spans", SERIES, local(4), depth=3, full_every=4), x_BND, 9) == [8, 9, 10, 11]
    assert felt(make("mixed_spans", SERIES, local(4), depth=3, full_every=2), x_BND, 9) == list(range(23))


@pytest.mark.parametrize("mixer", [None, *catalog.names("mixers")])
def test_mixed_spans_are_of_mixers_with_a_window(mixer: str | None) -> None:
    has = mixer is not None and "window" in catalog.load("mixers", mixer).Settings.__struct_fields__
    if not has:
        p = PassConfig(mixer=None if mixer is None else {"name": mixer}, channel_mixer=FEED.channel_mixer)
        sentence = (
            f"its passes need a mixer with a window, and {mixer or 'none'} is not one; there is: .*local_attention"
        )
        with pytest.raises(InputError, match=sentence):
            make("mixed_spans", SERIES, p)


# Sliced recursion


def by_lists(one: nn.Module, x_BND: Tensor, groups: list[list[int]]) -> Tensor:
    """The pass on each group, picked token by token."""
    y_BND = torch.empty_like(x_BND)
    for group in groups:
        y_BND[:, group] = one(x_BND[:, group])
    return y_BND


@pytest.mark.parametrize("recursions", [1, 2, 3])
def test_recursion_applies_one_pass_to_runs_of_neighbours_and_to_tokens_far_apart(recursions: int) -> None:
    module = make("sliced_recursion", SERIES, local(3), local(5), recursions=recursions, group=7)
    x_BND = values(2, 23, D)
    # 23 tokens in groups of at most 7 are 4 groups of 6, so one token of zeros comes first.
    y_BND = torch.cat([torch.zeros(2, 1, D, dtype=torch.float64), x_BND], dim=1)
    near = [list(range(start, start + 6)) for start in range(0, 24, 6)]
    far = [list(range(start, 24, 4)) for start in range(4)]
    for one, between in zip(module.passes, module.between, strict=True):
        y_BND = by_lists(one, y_BND, near)
        for time, p in enumerate(between, start=1):
            y_BND = y_BND + p.narrow(functional.gelu(p.widen(p.norm(y_BND))))
            y_BND = by_lists(one, y_BND, far if time % 2 else near)
    torch.testing.assert_close(module(x_BND), y_BND[:, 1:])
    assert len(module.passes) == 2


@pytest.mark.promise("R2")
@pytest.mark.promise("R4")
def test_a_token_is_felt_in_its_group_and_after_a_second_time_everywhere() -> None:
    x_BND = values(2, 24, D)
    once = make("sliced_recursion", Tokens((24,), D), local(99), recursions=1, group=6)
    assert felt(once, x_BND, 8) == [6, 7, 8, 9, 10, 11]
    twice = make("sliced_recursion", Tokens((24,), D), local(99), recursions=2, group=6)
    assert felt(twice, x_BND, 8) == list(range(24))
    assert torch.equal(twice(x_BND), twice(x_BND))


def test_more_recursions_share_the_weights_of_the_pass() -> None:
    def count(recursions: int) -> int:
        module = make("sliced_recursion", SERIES, local(4), recursions=recursions)
        return sum(p.numel() for name, p in module.named_parameters() if name.startswith("passes"))

    assert count(1) == count(4)


# Latents


def latents(tokens: Tokens, **chosen: Any) -> Any:
    return make("latents", tokens, local(99), local(99), group=6, **chosen)


def test_latents_read_their_group_meet_and_write_it_back() -> None:
    module = latents(Tokens((12,), D), latents=3)
    x_BND = values(2, 12, D)
    groups = [module.local[0](x) for x in x_BND.split(6, dim=1)]
    starts = [x.mean(dim=1, keepdim=True) + module.latents_LD for x in x_BND.split(6, dim=1)]
    z_BLD = torch.cat([module.read[0](z, x) for z, x in zip(starts, groups, strict=True)], dim=1)
    z_BLD = module.everywhere[0](z_BLD)
    y = [module.write[0](x, z) for x, z in zip(groups, z_BLD.split(3, dim=1), strict=True)]
    torch.testing.assert_close(module(x_BND), torch.cat(y, dim=1))


@pytest.mark.promise("S5")
def test_groups_meet_through_their_latents_alone() -> None:
    module, x_BND = latents(Tokens((23,), D)), values(2, 23, D)
    assert felt(module, x_BND, 9) == list(range(23))
    zero(module.everywhere)
    assert felt(module, x_BND, 9) == [5, 6, 7, 8, 9, 10]
    zero(module.write)
    zero(module.local)
    assert torch.equal(module(x_BND), x_BND)


# Token merging


@pytest.mark.parametrize("count", [1, 7, 23])
@pytest.mark.promise("R4")
def test_merged_tokens_are_means_by_an_assignment_that_each_takes_its_changes_back_by(count: int) -> None:
    module = make("token_merging", Tokens((count,), D), local(3), merged=5)
    x_BND, kept = values(2, count, D), min(5, count)
    scores = x_BND @ module.assign.weight.T + module.assign.bias
    g_BNP = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
    torch.testing.assert_close(g_BNP.sum(dim=-1), torch.ones(2, count, dtype=torch.float64))
    z_BPD = torch.einsum("bnp,bnd->bpd", g_BNP, x_BND) * kept / count
    changed = module.passes(z_BPD) - z_BPD
    torch.testing.assert_close(module(x_BND), x_BND + torch.einsum("bnp,bpd->bnd", g_BNP, changed))


@pytest.mark.promise("R4")
@pytest.mark.promise("R5")
def test_what_goes_where_depends_on_the_input_and_how_much_does_not() -> None:
    module = make("token_merging", VARIATES, local(3), merged=5, unmerge=False)
    assert module.tokens == Tokens((3, 5), D, variates=3)
    x_BND = values(4, 69, D)
    assert module(x_BND).shape == (4, 15, D)
    route = module.assignment(x_BND.reshape(12, 23, D))
    assert route.shape == (12, 23, 5)
    assert (route[0] - route[1]).abs().max() > 0.05


@pytest.mark.promise("S10")
def test_passes_that_change_nothing_leave_every_token_as_it_was() -> None:
    module, x_BND = make("token_merging", SERIES, local(3)), values(2, 23, D)
    zero(module.passes)
    assert torch.equal(module(x_BND), x_BND)


# Gates of whole passes


@pytest.mark.promise("R5")
def test_how_much_a_pass_adds_depends_on_its_input() -> None:
    config = PassConfig(mixer=local(4).mixer, gate="pass", channel_mixer=FEED.channel_mixer)
    one = Pass(SERIES, config).double()
    x_BND = values(64, 23, D) + 3 * values(64, 1, D)
    assert one.whole_gate is not None
    assert one.mixer is not None
    zero(one.channel_mixer or one)
    added_BND = one.mixer(functional.layer_norm(x_BND, (D,)))
    gate_BND = (one(x_BND) - x_BND) / added_BND
    gate_B11 = gate_BND[:, :1, :1]
    torch.testing.assert_close(gate_BND, gate_B11.expand_as(gate_BND), rtol=1e-6, atol=1e-6)
    assert gate_B11.max() - gate_B11.min() > 0.3
    assert gate_B11.min() > 0
    assert gate_B11.max() < 1
    with torch.no_grad():
        one.whole_gate.weight.zero_()
        one.whole_gate.bias.fill_(-1000.0)
    assert torch.equal(one(x_BND), x_BND)


# Accuracy on longer sequences


class Recall(nn.Module):
    """Reads the class of the first token off the last."""

    def __init__(self, tokens: int, topology: dict[str, Any], passes: tuple[PassConfig, ...]) -> None:
        super().__init__()
        over = Tokens((tokens,), 32)
        self.embed = nn.Linear(5, 32)
        self.encoding = parts.make("encodings", {"name": "learned"}, over)
        self.topology = parts.make("topologies", topology, over, passes)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.topology(self.encoding(self.embed(x)))[:, -1]))
        return y


FORMS: dict[str, Callable[[int], tuple[dict[str, Any], tuple[PassConfig, ...]]]] = {
    "local": lambda n: ({"name": "stack"}, (local(8),) * 3),
    "full": lambda n: ({"name": "stack"}, (local(n),) * 3),
    "token_merging": lambda n: ({"name": "token_merging"}, (local(8),) * 3),
    "latents": lambda n: ({"name": "latents"}, (local(8), local(n))),
    "hierarchy": lambda n: ({"name": "hierarchy", "factor": 4}, (local(8),) * 3),
}
"""Three passes at most; `n` tokens. Windows are of 8 but for what is full, and for the 2 latents of every 8 tokens."""


def recalled(form: str, tokens: int, steps: int, rate: float) -> float:
    """Share of 1,000 new sequences whose first token is told from the last, after `steps` of 32."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)

    def sequences(count: int) -> tuple[Tensor, Tensor]:
        y_B = torch.randint(0, 4, (count,), generator=generator)
        x = torch.randn(count, tokens, 5, generator=generator) * 0.5
        x[:, 0, :4] += 2.0 * functional.one_hot(y_B, 4)
        return x, y_B

    model = Recall(tokens, *FORMS[form](tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(steps):
        x, y_B = sequences(32)
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y_B).backward()
        optimizer.step()
    with torch.no_grad():
        x, y_B = sequences(1000)
        return float((model(x).argmax(dim=1) == y_B).double().mean())


@pytest.mark.promise("R6")
def test_merged_tokens_recall_what_is_far_and_a_window_does_not() -> None:
    assert recalled("token_merging", 48, steps=150, rate=3e-3) > 0.9
    assert recalled("local", 48, steps=20, rate=3e-3) < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [24, 48, 96])
@pytest.mark.promise("R6")
def test_what_is_routed_keeps_its_accuracy_on_longer_sequences(tokens: int) -> None:
    accuracy = {form: recalled(form, tokens, steps=500, rate=1e-3) for form in FORMS}
    assert accuracy["local"] < 0.4  # of 4 classes, 0.25 is chance
    for form in ("token_merging", "latents", "hierarchy"):
        assert accuracy[form] > 0.9, accuracy
        assert accuracy[form] > accuracy["full"] - 0.08, accuracy
