"""Looped and tied topologies, whose passes share weights, start as a plain repetition."""

import pytest
import torch

from edgepass import catalog
from edgepass.models import parts
from edgepass.models.config import PassConfig
from edgepass.models.parts import Tokens
from edgepass.models.topologies import tied
from runtime_tests.models.topologies import FEED, LOCAL, ONLY_FEED, PASS, D, same, stirred, topology, values

# Looped


def test_a_looped_topology_mixes_its_streams_after_each_loop() -> None:
    begin, middle, end = ONLY_FEED, PASS, ONLY_FEED
    module = topology("looped", Tokens((7,), D), begin, middle, end, loops=3, streams=4)
    x_BND = values(2, 7, D)
    streams = [module.begin(x_BND)] * 4
    for read, mix in zip(module.reads, module.mixes, strict=True):
        u_BND = sum(w * s for w, s in zip(read, streams, strict=True))
        f_BND = module.middle(u_BND) - u_BND
        streams = [sum(mix[j, i] * s for j, s in enumerate([*streams, f_BND])) for i in range(4)]
    last = sum(w * s for w, s in zip(module.last, streams, strict=True))
    torch.testing.assert_close(module(x_BND), module.end(last))
    same(module, x_BND)


@pytest.mark.parametrize("streams", [1, 2, 3])
@pytest.mark.parametrize("loops", [1, 5])
@pytest.mark.promise("V2")
def test_a_looped_topology_starts_as_a_plain_loop_with_weights_for_one(loops: int, streams: int) -> None:
    choice = {"name": "looped", "loops": loops, "streams": streams}
    module = parts.make("topologies", choice, Tokens((7,), D), (ONLY_FEED, PASS, ONLY_FEED)).double()
    x_BND = values(2, 7, D)
    y_BND = module.begin(x_BND)
    for _ in range(loops):
        y_BND = module.middle(y_BND)
    torch.testing.assert_close(module(x_BND), module.end(y_BND))
    passes = sum(p.numel() for part in (module.begin, module.middle, module.end) for p in part.parameters())
    connections = 0 if streams == 1 else loops * streams * (streams + 2) + streams
    assert sum(p.numel() for p in module.parameters()) == passes + connections


# Tied


@pytest.mark.promise("V2")
def test_a_tied_pass_is_a_stack_whose_linear_layers_differ_by_matrices_of_low_rank() -> None:
    full = PassConfig(mixer=LOCAL, gate="values", channel_mixer=FEED)
    module = topology("tied", Tokens((7,), D), full, ONLY_FEED, depth=3, rank=2)
    stack = topology("stack", Tokens((7,), D), full, ONLY_FEED, repeat=3)
    x_BND = values(2, 7, D)
    for index, layer in enumerate(stack.passes):
        depth, origin = divmod(index, 2)
        merged = {k: v for k, v in module.passes[origin].state_dict().items() if k in layer.state_dict()}
        assert merged.keys() == layer.state_dict().keys()
        for path, linear in module.passes[origin].named_modules():
            if isinstance(linear, tied.Relaxed):
                delta = linear.up[depth].weight @ linear.down[depth].weight
                assert torch.linalg.matrix_rank(delta) == 2
                merged[f"{path}.weight"] = linear.weight + delta
        layer.load_state_dict(merged)
    torch.testing.assert_close(module(x_BND), stack(x_BND))
    same(module, x_BND)


@pytest.mark.parametrize("rank", [0, 1, 99])
def test_a_tied_pass_starts_as_one_pass_repeated(rank: int) -> None:
    choice = {"name": "tied", "depth": 3, "rank": rank}
    module = parts.make("topologies", choice, Tokens((7,), D), (PASS,)).double()
    x_BND = values(2, 7, D)
    torch.testing.assert_close(module(x_BND), module.passes(module.passes(module.passes(x_BND))))
    tensors = list(module.state_dict().values())
    assert len({t.data_ptr() for t in tensors}) == len(tensors)  # each weight under one name, as a saved file wants


@pytest.mark.parametrize("kind", ["mixers", "channel_mixers"])
@pytest.mark.promise("S6")
def test_every_linear_layer_of_every_mixer_is_corrected_at_every_depth(kind: str) -> None:
    for name in catalog.names(kind):
        module = catalog.load(kind, name)
        tokens = Tokens((3, 8), 32, variates=3) if hasattr(module, "EXAMPLE") else Tokens((24,), 32)
        p = PassConfig(mixer={"name": name}) if kind == "mixers" else PassConfig(channel_mixer={"name": name})
        stack = parts.make("topologies", {"name": "tied", "depth": 2}, tokens, (p,))
        stirred(stack)(torch.randn(2, 24, 32)).square().sum().backward()
        still = [n for n, q in stack.named_parameters() if (".up." in n or ".down." in n) and q.grad is None]
        assert not still, name
