"""The mixers that convolve, pool or attend in linear order are the formulas that they name.

Letters: B batch, N tokens, D channels, H heads, E width of a head.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft
from torch import Tensor, nn
from torch.nn import functional

from edgepass.errors import InputError
from edgepass.models import parts
from edgepass.models.mixers import _linear, _pictures
from edgepass.models.mixers.frequency_attention import cosines
from edgepass.models.parts import Tokens

NAMES = (
    "pooling",
    "convolution_affinity",
    "linear_attention",
    "split_attention",
    "inception",
    "frequency_attention",
    "gated_chunks",
)
LOCAL = ("pooling", "convolution_affinity")
GRIDS = {
    "sequence": Tokens((23,), 8),
    "one": Tokens((1,), 8),
    "rows": Tokens((3, 8), 8),
    "video": Tokens((2, 5, 3), 8),
    "variates": Tokens((3, 7), 8, variates=3),
}


def mixer(name: str, tokens: Tokens, **chosen: Any) -> Any:
    """A mixer in float64 with weights that leave no term of its formula at zero."""
    torch.manual_seed(0)
    module = parts.make("mixers", {"name": name, **chosen}, tokens).double().eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return module


def noise(tokens: Tokens, batch: int = 2) -> Tensor:
    return torch.randn(batch, tokens.count, tokens.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def pictures(tokens: Tokens) -> list[list[int]]:
    """Indices of the tokens of every picture, in order."""
    rows, columns = _pictures.size(tokens)
    return torch.arange(tokens.count).reshape(-1, rows * columns).tolist()


def neighbours(tokens: Tokens, token: int, reach: int) -> set[int]:
    """Tokens at most `reach` away from a token along every axis of its picture."""
    rows, columns = _pictures.size(tokens)
    picture, place = divmod(token, rows * columns)
    row, column = divmod(place, columns)
    return {
        picture * rows * columns + r * columns + c
        for r in range(max(0, row - reach), min(rows, row + reach + 1))
        for c in range(max(0, column - reach), min(columns, column + reach + 1))
    }


def filtered(conv: nn.Conv2d, x_BND: Tensor, tokens: Tokens) -> Tensor:
    """A depthwise convolution, one tap after another."""
    rows, columns = _pictures.size(tokens)
    y_BND = torch.zeros_like(x_BND) + conv.bias
    tall, wide = conv.kernel_size
    for n in range(tokens.count):
        picture, place = divmod(n, rows * columns)
        for i in range(tall):
            for j in range(wide):
                r, c = place // columns + i - tall // 2, place % columns + j - wide // 2
                if 0 <= r < rows and 0 <= c < columns:
                    y_BND[:, n] += conv.weight[:, 0, i, j] * x_BND[:, picture * rows * columns + r * columns + c]
    return y_BND


def linear_by_weights(q_BND: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int) -> Tensor:
    """Linear attention with its N x N weights written out."""
    q, k, v = (torch.stack(x.chunk(heads, dim=-1), dim=1) for x in (q_BND, k_BND, v_BND))
    weights_BHNN = q @ k.transpose(-1, -2)
    total_BHN1 = weights_BHNN.sum(-1, keepdim=True) + _linear.EPSILON * v_BND.shape[1]
    return torch.cat((weights_BHNN / total_BHN1 @ v).unbind(1), dim=-1)


def softmax_by_heads(q_BND: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int) -> Tensor:
    parts_of_heads = [
        torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1) @ v
        for q, k, v in zip(*(x.chunk(heads, dim=-1) for x in (q_BND, k_BND, v_BND)), strict=True)
    ]
    return torch.cat(parts_of_heads, dim=-1)


on_every_grid = pytest.mark.parametrize("tokens", GRIDS.values(), ids=GRIDS.keys())


def test_variates_are_sequences_and_frames_are_pictures_of_their_own() -> None:
    assert [_pictures.size(tokens) for tokens in GRIDS.values()] == [(1, 23), (1, 1), (3, 8), (5, 3), (1, 7)]
    assert _pictures.size(Tokens((5,), 8, variates=5)) == (1, 5)


@on_every_grid
def test_tokens_become_pictures_and_return(tokens: Tokens) -> None:
    x_BND = noise(tokens)
    x_SDRC = _pictures.pictures(x_BND, _pictures.size(tokens))
    assert x_SDRC.shape[2:] == _pictures.size(tokens)
    assert torch.equal(_pictures.tokens_of(x_SDRC, tokens.count), x_BND)


@on_every_grid
@pytest.mark.parametrize("width", [1, 3, 5, 99])
def test_a_depthwise_filter_meets_its_neighbours_and_a_wide_one_keeps_only_taps_that_do(
    tokens: Tokens, width: int
) -> None:
    module = _pictures.Depthwise(tokens, 8, width).double()
    x_BND = noise(tokens)
    torch.testing.assert_close(module(x_BND), filtered(module.conv, x_BND, tokens), rtol=1e-12, atol=1e-12)
    assert all(taps <= 2 * length - 1 for taps, length in zip(module.conv.kernel_size, module.size, strict=True))


@on_every_grid
@pytest.mark.parametrize("window", [1, 3, 7])
def test_pooling_is_the_mean_of_the_neighbours_that_are_there_less_the_token(tokens: Tokens, window: int) -> None:
    module = mixer("pooling", tokens, window=window)
    x_BND = noise(tokens)
    expected = torch.stack(
        [x_BND[:, sorted(neighbours(tokens, n, window // 2))].mean(1) - x_BND[:, n] for n in range(tokens.count)], dim=1
    )
    torch.testing.assert_close(module(x_BND), expected, rtol=1e-12, atol=1e-12)
    assert not list(module.parameters())
    if tokens.count > 1 and window > 1:
        constant = torch.ones_like(x_BND)
        torch.testing.assert_close(module(constant), torch.zeros_like(constant), rtol=0, atol=1e-12)


@on_every_grid
def test_convolution_affinity_is_attention_whose_weights_depend_on_the_offset_alone(tokens: Tokens) -> None:
    module = mixer("convolution_affinity", tokens)
    x_BND = noise(tokens)
    expected = module.fuse(filtered(module.affinity.conv, module.value(x_BND), tokens))
    torch.testing.assert_close(module(x_BND), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.promise("S4")
@pytest.mark.promise("R1")
@pytest.mark.parametrize("name", LOCAL)
@given(grid=st.sampled_from(list(GRIDS)), reach=st.integers(0, 4), token=st.integers(0, 40))
@settings(max_examples=20)
def test_a_token_is_felt_by_its_neighbours_and_nowhere_else(name: str, grid: str, reach: int, token: int) -> None:
    tokens = GRIDS[grid]
    token %= tokens.count
    module = mixer(name, tokens, window=2 * reach + 1)
    x_BND = noise(tokens)
    z_BND = x_BND.clone()
    z_BND[:, token] += 1.0
    felt = (module(x_BND) != module(z_BND)).any(dim=(0, 2)).nonzero().flatten().tolist()
    assert set(felt) <= neighbours(tokens, token, reach)
    assert name == "pooling" or set(felt) == neighbours(tokens, token, reach)


@on_every_grid
def test_linear_attention_is_its_weights_written_out_and_a_convolution(tokens: Tokens) -> None:
    module = mixer("linear_attention", tokens, heads=2)
    x_BND = noise(tokens)
    q, k, v = module.query(x_BND).relu(), module.key(x_BND).relu(), module.value(x_BND)
    expected = module.out(linear_by_weights(q, k, v, 2) + filtered(module.near.conv, v, tokens))
    torch.testing.assert_close(module(x_BND), expected, rtol=1e-10, atol=1e-12)


def test_linear_attention_gives_means_and_zero_to_a_query_that_no_key_answers() -> None:
    q, k = torch.rand(2, 23, 8) + 0.5, torch.rand(2, 23, 8) + 0.5
    v = torch.full((2, 23, 8), 3.0)
    torch.testing.assert_close(_linear.attend(q, k, v, 2), v, rtol=2e-3, atol=0)
    assert torch.equal(_linear.attend(q, torch.zeros_like(k), v, 2), torch.zeros_like(v))


@pytest.mark.parametrize("tokens", [63, 8192])
def test_linear_attention_stays_inside_float16_however_long_the_sequence(tokens: int) -> None:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (30 * torch.rand(1, tokens, 8, generator=generator) for _ in range(3))
    half = _linear.attend(q.half(), k.half(), v.half(), 2)
    torch.testing.assert_close(half.float(), _linear.attend(q, k, v, 2), rtol=1e-2, atol=0)


@on_every_grid
def test_split_attention_is_four_groups_that_interact_twice(tokens: Tokens) -> None:
    module = mixer("split_attention", tokens, heads=2)
    x_BND = noise(tokens)

    def inter(block: Any, u_BNF: Tensor) -> Tensor:
        hidden = functional.gelu(block.widen(block.norm(u_BNF)))
        return u_BNF + block.narrow(filtered(block.near.conv, hidden, tokens))

    m, a, b, c = x_BND.split(2, dim=-1)
    q, k = functional.elu(module.query(a)) + 1, functional.elu(module.key(a)) + 1
    f = [linear_by_weights(q, k, a, 2), filtered(module.small.conv, b, tokens), filtered(module.large.conv, c, tokens)]
    z = torch.cat([m, inter(module.local_to_global, torch.cat(f, dim=-1))], dim=-1)
    torch.testing.assert_close(module(x_BND), inter(module.with_memory, z), rtol=1e-10, atol=1e-12)


def test_split_attention_gives_what_four_does_not_divide_to_the_memory() -> None:
    tokens = Tokens((5,), 11)
    module = mixer("split_attention", tokens)
    assert module(noise(tokens)).shape == (2, 5, 11)
    assert module.local_to_global.norm.normalized_shape == (6,)


def blocks(length: int, size: int) -> list[range]:
    return [range(start, min(start + size, length)) for start in range(0, length, size)]


@on_every_grid
@pytest.mark.parametrize("pool", [1, 2, 3, 50])
def test_inception_looks_closely_with_some_channels_and_coarsely_with_the_others(tokens: Tokens, pool: int) -> None:
    module = mixer("inception", tokens, heads=2, pool=pool)
    x_BND = noise(tokens)
    low, c, p = x_BND.split([4, 2, 2], dim=-1)
    peaks = torch.stack([p[:, sorted(neighbours(tokens, n, 1))].amax(1) for n in range(tokens.count)], dim=1)
    rows, columns = _pictures.size(tokens)
    members = [
        [picture[row * columns + column] for row in tall for column in wide]
        for picture in pictures(tokens)
        for tall in blocks(rows, pool)
        for wide in blocks(columns, pool)
    ]
    means = torch.stack([low[:, block].mean(1) for block in members], dim=1)
    attended = softmax_by_heads(*(f(means) for f in (module.coarse.query, module.coarse.key, module.coarse.value)), 2)
    back = torch.zeros_like(low)
    for number, block in enumerate(members):
        back[:, block] = attended[:, number : number + 1]
    close = functional.gelu(filtered(module.near.conv, module.conv(c), tokens))
    z = torch.cat([close, functional.gelu(module.peaks(peaks)), back], dim=-1)
    filters = torch.cat(
        [filtered(b.conv, p, tokens) for b, p in zip(module.blends, z.split(4, dim=-1), strict=True)], dim=-1
    )
    weight = torch.cat([f.weight for f in module.fuses], dim=1)
    expected = functional.linear(z + filters, weight, module.fuses[0].bias)
    torch.testing.assert_close(module(x_BND), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("low", "channels"), [(0.0, 0), (0.01, 2), (0.5, 4), (0.75, 6)])
def test_inceptions_ramp_gives_whole_heads_to_the_low_frequencies(low: float, channels: int) -> None:
    tokens = Tokens((7,), 8)
    module = mixer("inception", tokens, heads=2, low=low)
    assert (module.coarse.query.in_features if module.coarse else 0) == channels
    assert module(noise(tokens)).shape == (2, 7, 8)


@pytest.mark.parametrize("length", [1, 2, 7, 24, 63])
def test_the_cosines_are_the_orthonormal_dct_and_its_inverse(length: int) -> None:
    c_KN = cosines(length)
    x = noise(Tokens((length,), 3), 1)[0]
    torch.testing.assert_close(c_KN @ c_KN.T, torch.eye(length, dtype=torch.float64), rtol=0, atol=1e-12)
    expected = fft.dct(np.asarray(x), type=2, norm="ortho", axis=0)
    torch.testing.assert_close(c_KN @ x, torch.from_numpy(expected), rtol=0, atol=1e-12)


@on_every_grid
@pytest.mark.parametrize("keep", [0.01, 0.5, 1.0])
def test_frequency_attention_is_attention_between_a_transform_and_its_inverse(tokens: Tokens, keep: float) -> None:
    module = mixer("frequency_attention", tokens, heads=2, keep=keep)
    x_BND = noise(tokens)
    rows, columns = _pictures.size(tokens)
    high, wide = max(1, round(keep * rows)), max(1, round(keep * columns))
    y_BND = torch.zeros_like(x_BND)
    for picture in pictures(tokens):
        image = np.asarray(x_BND[:, picture]).reshape(2, rows, columns, 8)
        spectrum = fft.dctn(image, type=2, norm="ortho", axes=(1, 2))[:, :high, :wide]
        f = torch.from_numpy(spectrum.reshape(2, high * wide, 8))
        own = module.frequencies
        y = softmax_by_heads(own.query(f), own.key(f), own.value(f), 2)
        full = np.zeros_like(image)
        full[:, :high, :wide] = y.detach().numpy().reshape(2, high, wide, 8)
        y_BND[:, picture] = torch.from_numpy(fft.idctn(full, type=2, norm="ortho", axes=(1, 2))).reshape(
            2, rows * columns, 8
        )
    mobile = module.narrow(filtered(module.near.conv, module.widen(x_BND).relu(), tokens).relu())
    expected = module.merge(torch.cat([y_BND, mobile], dim=-1))
    # The matrices are float32, as the exported ones are.
    torch.testing.assert_close(module(x_BND), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.promise("R3")
def test_dropped_frequencies_shorten_the_sequence_that_attends_and_change_nothing_in_it() -> None:
    tokens = Tokens((24,), 8)
    frequencies = mixer("frequency_attention", tokens, heads=2, keep=0.25).frequencies
    attended: list[tuple[int, ...]] = []
    frequencies.query.register_forward_hook(lambda *args: attended.append(tuple(args[1][0].shape)))
    x_BND = noise(tokens)
    ripple = cosines(24)[23]
    torch.testing.assert_close(frequencies(x_BND + 5 * ripple[:, None]), frequencies(x_BND), rtol=0, atol=1e-5)
    assert attended[0] == (2, 6, 8)


@on_every_grid
@pytest.mark.parametrize("chunk", [1, 4, 99])
def test_gated_chunks_are_a_plain_quadratic_attention(tokens: Tokens, chunk: int) -> None:
    module = mixer("gated_chunks", tokens, chunk=chunk, keys=5, window=3)
    x_BND = noise(tokens)
    width = min(chunk, tokens.count)

    def near(block: Any, x: Tensor) -> Tensor:
        h = functional.silu(block.project(x))
        return h + filtered(block.near.conv, h, tokens)

    u, v = near(module.values, x_BND).chunk(2, dim=-1)
    s = near(module.shared, x_BND)
    q, k, far_q, far_k = (s * module.scale_4E[i] + module.shift_4E[i] for i in range(4))
    number = torch.arange(tokens.count) // width
    same = (number[:, None] == number).double()
    weights_BNN = same * (q @ k.transpose(1, 2) / width).relu().square() + far_q @ far_k.transpose(1, 2) / tokens.count
    gated = (weights_BNN @ u) * v * torch.sigmoid((weights_BNN @ v) * u)
    torch.testing.assert_close(module(x_BND), near(module.out, module.norm(gated)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_each_exports_with_any_batch_of_videos_in_at_most_four_axes(name: str) -> None:
    tokens = GRIDS["video"]
    module = mixer(name, tokens, **({"heads": 2} if name in ("linear_attention", "inception") else {})).float()
    x_BND = noise(tokens, 3).float()
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(module, (x_BND[:2],), dynamic_shapes=(batch,), strict=False)
    for rows in (1, 3):
        torch.testing.assert_close(program.module()(x_BND[:rows]), module(x_BND[:rows]))
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert max(v.ndim for v in values if isinstance(v, Tensor)) <= 4


@pytest.mark.parametrize(
    ("name", "chosen", "says"),
    [
        ("pooling", {"window": 4}, "a window of 4 tokens has no middle; give an odd number, such as 5"),
        ("convolution_affinity", {"window": 2}, "a window of 2 tokens has no middle"),
        ("linear_attention", {"heads": 3}, "3 heads do not divide 8 channels"),
        ("split_attention", {"heads": 4}, "4 heads do not divide 2 channels, a quarter of 8"),
        ("split_attention", {"ratio": 0.01}, "a hidden width below 1"),
        ("inception", {"low": 0.99}, "low 0.99 of 8 channels leaves 0 for the convolution and the max pool; leave 2"),
        ("frequency_attention", {"heads": 3}, "3 heads do not divide 8 channels"),
        ("frequency_attention", {"keep": 0.0}, "Expected `float` > 0"),
        ("gated_chunks", {"window": 16}, "a window of 16 tokens has no middle"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(name: str, chosen: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=f"^mixer '{name}': .*{says}"):
        mixer(name, Tokens((7,), 8), **chosen)


def test_split_attention_needs_four_channels() -> None:
    with pytest.raises(InputError, match="3 channels cannot be split in four; give 4 or more"):
        mixer("split_attention", Tokens((7,), 3))
