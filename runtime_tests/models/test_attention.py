"""Softmax-attention mixers are the formulas of their papers, reach the tokens they say, and cost what they say."""

import itertools
import math
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edgepass.errors import InputError
from edgepass.models import create, parts
from edgepass.models.config import Config
from edgepass.models.parts import Tokens

DIM = 8
GRIDS = [(3, 5), (1, 7), (7, 1), (2, 3, 4)]


def mixer(name: str, grid: tuple[int, ...], dim: int = DIM, **chosen: Any) -> Any:
    """In float64."""
    return parts.make("mixers", {"name": name, **chosen}, Tokens(grid, dim)).double()


def noise(grid: tuple[int, ...], dim: int = DIM, batch: int = 2) -> Tensor:
    return torch.randn(batch, math.prod(grid), dim, dtype=torch.float64)


def reference(module: Any, heads: int) -> nn.MultiheadAttention:
    """PyTorch's own attention with the weights of `module`."""
    full = nn.MultiheadAttention(module.query.in_features, heads, batch_first=True).double()
    qkv = (module.query, module.key, module.value)
    with torch.no_grad():
        full.in_proj_weight.copy_(torch.cat([f.weight for f in qkv]))
        full.in_proj_bias.copy_(torch.cat([f.bias for f in qkv]))
        full.out_proj.weight.copy_(module.out.weight)
        full.out_proj.bias.copy_(module.out.bias)
    return full


def attend(full: nn.MultiheadAttention, x_BND: Tensor, mask: Tensor | None = None) -> Tensor:
    y_BND: Tensor = full(x_BND, x_BND, x_BND, attn_mask=mask, need_weights=False)[0]
    return y_BND


def felt(module: Any, x_BND: Tensor, token: int) -> set[int]:
    """Tokens whose output changes when `token` does."""
    z_BND = x_BND.clone()
    z_BND[:, token] += 1
    return set((module(x_BND) != module(z_BND)).any(dim=(0, 2)).nonzero().flatten().tolist())


def places(grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Coordinates of the tokens in their order."""
    return list(itertools.product(*map(range, grid)))


def macs(module: nn.Module, x: Tensor) -> int:
    """Multiplications and additions of matrix products, counted as they run."""
    # Of the ways that PyTorch can attend, the counter knows only this one's products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module(x)
    return int(counter.get_total_flops()) // 2


@pytest.mark.promise("L3")
@pytest.mark.parametrize("tokens", [1, 7, 23])
@pytest.mark.parametrize("heads", [1, 4, 8])
def test_grouped_attention_with_all_heads_is_multi_head_attention(tokens: int, heads: int) -> None:
    module = mixer("grouped_attention", (tokens,), heads=heads, query_heads=heads, key_heads=heads)
    x_BND = noise((tokens,))
    torch.testing.assert_close(module(x_BND), attend(reference(module, heads), x_BND))


@pytest.mark.parametrize("tokens", [1, 7, 23])
def test_grouped_attention_with_one_key_head_is_multi_query_attention(tokens: int) -> None:
    module = mixer("grouped_attention", (tokens,), heads=4, query_heads=4, key_heads=1)
    x_BND = noise((tokens,))
    queries, k, v = module.query(x_BND).split(2, dim=-1), module.key(x_BND), module.value(x_BND)
    assert k.shape == v.shape == (2, tokens, 2)
    mixed = [torch.softmax(q @ k.transpose(1, 2) / math.sqrt(2), dim=-1) @ v for q in queries]
    torch.testing.assert_close(module(x_BND), module.out(torch.cat(mixed, dim=-1)))


@pytest.mark.parametrize(("heads", "query_heads", "key_heads"), [(8, 4, 2), (8, 6, 3), (8, 3, 3), (4, 2, 1), (2, 1, 1)])
def test_a_key_head_serves_a_group_of_neighbouring_query_heads(heads: int, query_heads: int, key_heads: int) -> None:
    chosen = {"heads": heads, "query_heads": query_heads, "key_heads": key_heads}
    module, x_BND = mixer("grouped_attention", (11,), dim=16, **chosen), noise((11,), dim=16)
    width = 16 // heads
    q, k, v = (f(x_BND).split(width, dim=-1) for f in (module.query, module.key, module.value))
    assert (len(q), len(k), len(v)) == (query_heads, key_heads, key_heads)
    mixed = []
    for i in range(query_heads):
        g = i * key_heads // query_heads
        mixed.append(torch.softmax(q[i] @ k[g].transpose(1, 2) / math.sqrt(width), dim=-1) @ v[g])
    torch.testing.assert_close(module(x_BND), module.out(torch.cat(mixed, dim=-1)))


def test_query_heads_cost_scores_and_projections_and_key_heads_projections_alone() -> None:
    tokens, dim = 64, 32

    def cost(query_heads: int, key_heads: int) -> int:
        return macs(mixer("grouped_attention", (tokens,), dim=dim, query_heads=query_heads, key_heads=key_heads), x_BND)

    x_BND = noise((tokens,), dim=dim, batch=1)
    for query_heads, key_heads in [(4, 4), (4, 1), (2, 2), (2, 1), (1, 1)]:
        projections = 2 * tokens * dim * (query_heads + key_heads) * dim // 4
        assert cost(query_heads, key_heads) == projections + 2 * tokens * tokens * query_heads * dim // 4


@pytest.mark.parametrize("tokens", [1, 7, 23])
@pytest.mark.parametrize("rank", [None, 3, 99])
def test_minimal_attention_is_a_matrix_and_a_softmax(tokens: int, rank: int | None) -> None:
    x_BND = noise((tokens,))
    xt_BDN = x_BND.transpose(1, 2)
    module = mixer("minimal_attention", (tokens,))
    w_DD = module.project.weight.T
    torch.testing.assert_close(module(x_BND), torch.softmax(x_BND @ w_DD @ xt_BDN / math.sqrt(DIM), dim=-1) @ x_BND)
    module = mixer("minimal_attention", (tokens,), symmetric=True, rank=rank)
    a_DR = module.project.weight.T
    width = min(rank or DIM, DIM)
    assert [p.shape for p in module.parameters()] == [(width, DIM)]
    similar_BNN = x_BND @ a_DR @ a_DR.T @ xt_BDN / math.sqrt(width)
    torch.testing.assert_close(similar_BNN, similar_BNN.transpose(1, 2))
    torch.testing.assert_close(module(x_BND), torch.softmax(similar_BNN, dim=-1) @ x_BND)


def distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Manhattan."""
    return sum(abs(i - j) for i, j in zip(a, b, strict=True))


def enhanced(module: Any, v_BND: Tensor, grid: tuple[int, ...]) -> Tensor:
    """The depthwise convolution, written as a sum over neighbours."""
    rows, columns = ((1, *grid) if len(grid) == 1 else grid)[-2:]
    weight_DKK = module.local.weight.reshape(DIM, -1, module.local.weight.shape[-1])
    up, left = weight_DKK.shape[1] // 2, weight_DKK.shape[2] // 2
    v = v_BND.reshape(-1, rows, columns, DIM)
    y = module.local.bias.expand(v.shape).clone()
    for r, c, i, j in itertools.product(range(rows), range(columns), range(2 * up + 1), range(2 * left + 1)):
        row, column = r + i - up, c + j - left
        if 0 <= row < rows and 0 <= column < columns:
            y[:, r, c] += v[:, row, column] * weight_DKK[:, i, j]
    return y.reshape(v_BND.shape)


@pytest.mark.parametrize("grid", [(1,), (11,), *GRIDS])
def test_decay_attention_weighs_each_token_by_its_distance(grid: tuple[int, ...]) -> None:
    module, x_BND = mixer("decay_attention", grid, heads=2, kernel=3), noise(grid)
    far_NN = torch.tensor([[distance(a, b) for b in places(grid)] for a in places(grid)])
    mixed = []
    for h, gamma in enumerate((1 - 2**-2, 1 - 2**-4)):  # near 2 and span 4 over two heads
        q, k, v = (f(x_BND)[..., 4 * h : 4 * h + 4] for f in (module.query, module.key, module.value))
        mixed.append((torch.softmax(q @ k.transpose(1, 2) / 2, dim=-1) * gamma**far_NN) @ v)
    expected = module.out(torch.cat(mixed, dim=-1) + enhanced(module, module.value(x_BND), grid))
    # The decays are baked as float32.
    torch.testing.assert_close(module(x_BND), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("grid", [(11,), *GRIDS])
def test_the_decay_of_a_grid_is_the_product_of_its_axes(grid: tuple[int, ...]) -> None:
    together, apart = (mixer("decay_attention", grid, axes=axes) for axes in ("together", "apart"))
    product_HNN = torch.ones(4, 1, 1)
    for axis in range(len(grid)):
        factor = apart.get_buffer(f"decay_{axis}")
        assert factor.shape == (4, grid[axis], grid[axis])
        product_HNN = torch.stack([torch.kron(a, b) for a, b in zip(product_HNN, factor, strict=True)])
    torch.testing.assert_close(product_HNN, together.get_buffer("decay_0"), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("grid", [(11,), *GRIDS])
def test_decay_attention_with_its_axes_apart_runs_along_the_last_one_first(grid: tuple[int, ...]) -> None:
    module, x_BND = mixer("decay_attention", grid, axes="apart", heads=2), noise(grid)
    q_BND, k_BND, v_BND = module.query(x_BND), module.key(x_BND), module.value(x_BND)
    y_BND = v_BND
    for axis in reversed(range(len(grid))):
        next_BND = torch.zeros_like(y_BND)
        for n, a in enumerate(places(grid)):
            line = [m for m, b in enumerate(places(grid)) if a[:axis] + a[axis + 1 :] == b[:axis] + b[axis + 1 :]]
            far_M = torch.tensor([distance(a, places(grid)[m]) for m in line])
            for part, gamma in ((slice(0, 4), 1 - 2**-2), (slice(4, 8), 1 - 2**-4)):
                score_BM = (k_BND[:, line, part] @ q_BND[:, n, part, None])[..., 0] / 2
                weight_BM = torch.softmax(score_BM, dim=-1) * gamma**far_M
                next_BND[:, n, part] = (weight_BM[:, None] @ y_BND[:, line, part])[:, 0]
        y_BND = next_BND
    expected = module.out(y_BND + enhanced(module, v_BND, grid))
    torch.testing.assert_close(module(x_BND), expected, rtol=1e-6, atol=1e-6)


def test_decay_attention_without_decay_and_detail_is_multi_head_attention() -> None:
    module, x_BND = mixer("decay_attention", (3, 5), near=60.0), noise((3, 5))
    nn.init.zeros_(module.local.weight)
    nn.init.zeros_(module.local.bias)
    torch.testing.assert_close(module(x_BND), attend(reference(module, 4), x_BND))


def lines(module: Any, x_BND: Tensor, grid: tuple[int, ...], axis: int) -> Tensor:
    """PyTorch's own attention along one axis, line by line."""
    full = reference(module.axes[axis], 4)
    y_BND = torch.full_like(x_BND, torch.nan)
    for a in places(grid):
        line = [m for m, b in enumerate(places(grid)) if a[:axis] + a[axis + 1 :] == b[:axis] + b[axis + 1 :]]
        y_BND[:, line] = attend(full, x_BND[:, line])
    return y_BND


@pytest.mark.parametrize("grid", GRIDS)
def test_axial_attention_is_attention_along_every_line_of_the_grid(grid: tuple[int, ...]) -> None:
    x_BND = noise(grid)
    summed, chain = (mixer("axial_attention", grid, join=join) for join in ("sum", "chain"))
    expected = sum(lines(summed, x_BND, grid, axis) for axis in range(len(grid)))
    torch.testing.assert_close(summed(x_BND), expected)
    y_BND = x_BND
    for axis in range(len(grid)):
        y_BND = lines(chain, y_BND, grid, axis)
    torch.testing.assert_close(chain(x_BND), y_BND)


@pytest.mark.promise("R2")
@pytest.mark.parametrize("grid", GRIDS)
def test_summed_axes_reach_the_lines_through_a_token_and_a_chain_reaches_all(grid: tuple[int, ...]) -> None:
    x_BND, token = noise(grid), math.prod(grid) // 2
    here = places(grid)[token]
    near = {n for n, a in enumerate(places(grid)) if sum(i != j for i, j in zip(a, here, strict=True)) <= 1}
    assert felt(mixer("axial_attention", grid, join="sum"), x_BND, token) == near
    assert felt(mixer("axial_attention", grid), x_BND, token) == set(range(math.prod(grid)))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("heads", [1, 2])
def test_kronecker_attention_is_the_kronecker_product_of_its_maps(grid: tuple[int, ...], heads: int) -> None:
    module, x_BND = mixer("kronecker_attention", grid, heads=heads), noise(grid)
    width = DIM // heads
    x = x_BND.reshape(2, *grid, DIM)
    expected = torch.zeros_like(x_BND)
    for b, h in itertools.product(range(2), range(heads)):
        part = slice(h * width, (h + 1) * width)
        map_NN = torch.ones(1, 1, dtype=torch.float64)
        for axis in range(len(grid)):
            mean_AD = x[b].mean(dim=tuple(i for i in range(len(grid)) if i != axis))
            q_AE, k_AE = (f[axis](mean_AD)[:, part] for f in (module.queries, module.keys))
            map_NN = torch.kron(map_NN, torch.softmax(q_AE @ k_AE.T / math.sqrt(width), dim=-1))
        torch.testing.assert_close(map_NN.sum(dim=-1), torch.ones(math.prod(grid), dtype=torch.float64))
        expected[b, :, part] = map_NN @ module.value(x_BND)[b, :, part]
    torch.testing.assert_close(module(x_BND), module.out(expected))


@pytest.mark.promise("R2")
@given(tokens=st.integers(1, 67), stride=st.integers(1, 70), token=st.integers(0, 66))
@settings(max_examples=40)
def test_strided_attention_reaches_the_residue_class_and_no_other_token(tokens: int, stride: int, token: int) -> None:
    token %= tokens
    module = mixer("strided_attention", (tokens,), stride=stride)
    assert felt(module, noise((tokens,)), token) == set(range(token % stride, tokens, stride))


@pytest.mark.parametrize(("tokens", "stride"), [(1, 1), (1, 4), (7, 3), (23, 4), (23, 5), (24, 4), (23, 22), (23, 99)])
def test_strided_attention_is_multi_head_attention_with_all_else_masked(tokens: int, stride: int) -> None:
    module, x_BND = mixer("strided_attention", (tokens,), stride=stride), noise((tokens,))
    n = torch.arange(tokens)
    other_NN = (n[:, None] - n) % stride != 0
    torch.testing.assert_close(module(x_BND), attend(reference(module, 4), x_BND, other_NN))


@pytest.mark.parametrize("tokens", [20, 24])
def test_a_window_as_wide_as_the_stride_and_then_the_stride_connect_all_tokens(tokens: int) -> None:
    local = mixer("local_attention", (tokens,), heads=4, window=4)
    strided = mixer("strided_attention", (tokens,), heads=4, stride=4)
    for token in (0, 7, tokens - 1):
        assert felt(nn.Sequential(local, strided), noise((tokens,)), token) == set(range(tokens))


@pytest.mark.promise("R3")
@pytest.mark.parametrize("tokens", [96, 97])
def test_products_fall_with_the_window_and_with_the_stride(tokens: int) -> None:
    x_BND = noise((tokens,), dim=32, batch=1)
    projections = 4 * tokens * 32 * 32

    def pairs(sizes: list[int]) -> int:
        return projections + 2 * 32 * sum(n * n for n in sizes)

    widths = (96, 48, 24, 12, 6, 3)
    windows = [macs(mixer("local_attention", (tokens,), dim=32, window=w), x_BND) for w in widths]
    assert windows == [pairs([w] * (tokens // w) + [tokens % w]) for w in widths]
    assert windows == sorted(windows, reverse=True)
    steps = (1, 2, 4, 8, 16, 32)
    strides = [macs(mixer("strided_attention", (tokens,), dim=32, stride=s), x_BND) for s in steps]
    assert strides == [pairs([len(range(c, tokens, s)) for c in range(s)]) for s in steps]
    assert strides == sorted(strides, reverse=True)
    assert strides[0] > 2 * strides[-1]


INVERTED: dict[str, Any] = {
    "dim": 16,
    "embedding": {"name": "inverted"},
    "encoding": {"name": "none"},
    "passes": [
        {"mixer": {"name": "local_attention", "heads": 4, "window": 99}, "channel_mixer": {"name": "feed_forward"}},
        {"mixer": {"name": "grouped_attention", "heads": 4, "query_heads": 4, "key_heads": 4}},
    ],
    "direct": False,
}
"""iTransformer's mechanism, full attention over variates, written with either of the mixers that can."""


def inverted(channels: int, direct: bool = False) -> nn.Module:
    config = msgspec.convert(INVERTED | {"direct": direct}, Config)
    return create(config, lookback=30, horizon=7, channels=channels).double().eval()


@pytest.mark.parametrize("channels", [1, 2, 7])
@pytest.mark.parametrize("direct", [False, True])
def test_variates_as_tokens_may_come_in_any_order(channels: int, direct: bool) -> None:
    model = inverted(channels, direct)
    x_BLC = torch.randn(3, 30, channels, dtype=torch.float64)
    order = torch.randperm(channels)
    torch.testing.assert_close(model(x_BLC[..., order]), model(x_BLC)[..., order])
    if channels > 1:  # and they do meet: a variate's forecast depends on another
        z_BLC = x_BLC.clone()
        z_BLC[:, :15, 0] *= -1
        assert (model(z_BLC) != model(x_BLC)).all()


@pytest.mark.promise("L3")
@pytest.mark.parametrize("channels", [1, 2, 7])
def test_variates_as_tokens_equal_a_plain_implementation(channels: int) -> None:
    model: Any = inverted(channels)
    x_BLC = torch.randn(3, 30, channels, dtype=torch.float64) * 5 + 3
    mean, std = x_BLC.mean(dim=1), torch.sqrt(x_BLC.var(dim=1, correction=0) + 1e-5)
    history = (x_BLC - mean[:, None]) / std[:, None]
    net = model.passformer
    tokens = torch.stack([net.embedding.project(history[:, :, c]) for c in range(channels)], dim=1)
    first, second = net.topology.passes
    tokens = tokens + attend(reference(first.mixer, 4), first.norm_mix(tokens))
    hidden = first.channel_mixer
    tokens = tokens + hidden.narrow(nn.functional.gelu(hidden.widen(first.norm_feed(tokens))))
    tokens = tokens + attend(reference(second.mixer, 4), second.norm_mix(tokens))
    expected = net.head.project(net.norm(tokens)).transpose(1, 2) * std[:, None] + mean[:, None]
    torch.testing.assert_close(model(x_BLC), expected)


CHOICES: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"name": "grouped_attention", "query_heads": 4, "key_heads": 2}, (13,)),
    ({"name": "minimal_attention", "symmetric": True, "rank": 3}, (13,)),
    ({"name": "decay_attention", "axes": "apart"}, (3, 5)),
    ({"name": "decay_attention", "axes": "apart"}, (2, 3, 4)),
    ({"name": "decay_attention", "kernel": 9}, (3, 5)),
    ({"name": "axial_attention", "join": "sum"}, (2, 3, 4)),
    ({"name": "kronecker_attention", "heads": 1}, (2, 3, 4)),
    ({"name": "strided_attention", "stride": 5}, (13,)),
]


@pytest.mark.parametrize(("choice", "grid"), CHOICES)
def test_settings_other_than_the_usual_export_with_a_dynamic_batch(choice: dict[str, Any], grid: Any) -> None:
    module = parts.make("mixers", choice, Tokens(grid, DIM)).eval()
    x_BND = torch.randn(3, math.prod(grid), DIM)
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(module, (x_BND,), dynamic_shapes=(batch,), strict=False)
    for count in (1, 2, 3):
        torch.testing.assert_close(program.module()(x_BND[:count]), module(x_BND[:count]))
    values = [n.meta["val"] for n in program.graph.nodes if isinstance(n.meta.get("val"), Tensor)]
    assert max(v.ndim for v in values) <= 4


BAD: list[tuple[dict[str, Any], tuple[int, ...], str]] = [
    ({"name": "grouped_attention", "heads": 3}, (9,), "3 heads do not divide 8 channels"),
    (
        {"name": "grouped_attention", "heads": 2, "query_heads": 4},
        (9,),
        "4 query heads, more than the 2 heads.*at most",
    ),
    ({"name": "grouped_attention", "heads": 4, "query_heads": 3, "key_heads": 2}, (9,), "2 key heads do not divide 3"),
    ({"name": "grouped_attention", "query_heads": 0}, (9,), ">= 1.*query_heads"),
    ({"name": "minimal_attention", "rank": 4}, (9,), "rank is 4.*symmetric = true"),
    ({"name": "decay_attention", "heads": 3}, (9,), "3 heads do not divide 8 channels"),
    ({"name": "decay_attention", "kernel": 4}, (9,), "kernel is 4; it must be odd"),
    ({"name": "decay_attention", "near": 0.0}, (9,), "> 0.*near"),
    ({"name": "decay_attention", "axes": "both"}, (9,), "'both'"),
    ({"name": "axial_attention"}, (9,), "grid of two axes or more; the embedding patch_grid"),
    ({"name": "axial_attention", "heads": 3}, (3, 3), "3 heads do not divide 8 channels"),
    ({"name": "kronecker_attention"}, (9,), "grid of two axes or more; the embedding patch_grid"),
    ({"name": "kronecker_attention", "heads": 3}, (3, 3), "3 heads do not divide 8 channels"),
    ({"name": "strided_attention", "heads": 3}, (9,), "3 heads do not divide 8 channels"),
    ({"name": "strided_attention", "stride": 0}, (9,), ">= 1.*stride"),
]


@pytest.mark.parametrize(("choice", "grid", "says"), BAD)
def test_what_cannot_attend_is_refused_in_a_sentence(choice: dict[str, Any], grid: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parts.make("mixers", choice, Tokens(grid, DIM))
