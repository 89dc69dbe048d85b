"""Words, videos, features, two inputs at once and two graphs: each against its formula, and refused in a sentence."""

from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgepass import catalog, exporters
from edgepass.errors import InputError
from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.models import parts
from edgepass.models.config import Config, PassConfig, TrunkConfig
from edgepass.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from edgepass.models.pair import Pair, PairConfig
from edgepass.models.parts import Tokens
from edgepass.models.passformer import Passformer
from edgepass.quantize import recipe
from runtime_tests.conftest import CONVERTERS_WARN

ATTEND = {"mixer": {"name": "local_attention", "heads": 2, "window": 4}, "channel_mixer": {"name": "feed_forward"}}
SERIES: dict[str, Any] = {
    "dim": 8,
    "embedding": {"name": "patch", "size": 5, "channels": "together"},
    "passes": [ATTEND],
}
PICTURE: dict[str, Any] = {"dim": 6, "embedding": {"name": "frames", "size": 3}, "passes": []}
FEATURES: dict[str, Any] = {"dim": 6, "embedding": {"name": "features"}, "encoding": {"name": "none"}, "passes": []}
LONG, STEPS = 224, 210


def embed(name: str, shape: tuple[int, ...], **choice: Any) -> Any:
    return parts.make("embeddings", {"name": name, **choice}, shape, 8)


def pair(shapes: tuple[tuple[int, ...], tuple[int, ...]], **table: Any) -> Pair:
    config = msgspec.convert({"first": SERIES, "second": PICTURE, "passes": [ATTEND]} | table, PairConfig)
    return Pair(config, shapes=shapes, outputs=4).eval()


def text_to_text(**table: Any) -> EncoderDecoder:
    encoder = {"dim": 16, "embedding": {"name": "words", "vocabulary": 40}, "passes": [ATTEND]}
    config = msgspec.convert({"encoder": encoder, "vocabulary": 50, "length": LONG} | table, EncoderDecoderConfig)
    torch.manual_seed(0)
    return EncoderDecoder(config, shape=(23,)).eval()


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=20)
def test_words_are_rows_of_the_table(vocabulary: int, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    words = embed("words", (count,), vocabulary=vocabulary)
    w_BN = torch.randint(vocabulary, (2, count))
    torch.testing.assert_close(words(w_BN), functional.one_hot(w_BN, vocabulary).float() @ words.table.weight)


@pytest.mark.promise("S2")
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
@settings(max_examples=30)
def test_patches_of_frames_are_a_convolution_of_that_stride(frames: int, rows: int, columns: int, size: int) -> None:
    patches = embed("frames", (frames, rows * size, columns * size), size=size).double()
    z_BFRC = torch.randn(2, frames, rows * size, columns * size, dtype=torch.float64)
    kernel = patches.project.weight.reshape(8, 1, size, size)
    wanted = functional.conv2d(z_BFRC.flatten(0, 1)[:, None], kernel, patches.project.bias, stride=size)
    assert patches.tokens.grid == (frames, rows, columns)
    torch.testing.assert_close(patches(z_BFRC), wanted.flatten(2).transpose(1, 2).reshape(2, -1, 8))


def test_a_feature_is_a_token_that_no_other_feature_changes() -> None:
    features = embed("features", (5,)).double()
    z_BF = torch.randn(3, 5, dtype=torch.float64)
    wanted = torch.stack([z_BF[:, f, None] * features.weight_FD[f] + features.bias_FD[f] for f in range(5)], dim=1)
    torch.testing.assert_close(features(z_BF), wanted)


def test_ragged_frames_are_refused() -> None:
    with pytest.raises(InputError, match="patches of 4 do not divide frames of 12 by 10; take a size that divides"):
        embed("frames", (2, 12, 10))


@pytest.mark.promise("A2")
def test_classes_are_scored_from_the_mean_of_all_tokens() -> None:
    head = parts.make("heads", {"name": "classify"}, Tokens((3, 7), 8, variates=3), (28, 3), 5).double()
    x_BND = torch.randn(2, 21, 8, dtype=torch.float64)
    torch.testing.assert_close(head(x_BND), x_BND.sum(1) / 21 @ head.project.weight.T + head.project.bias)
    torch.testing.assert_close(head(x_BND[:, torch.randperm(21)]), head(x_BND))


def test_channels_that_are_apart_are_not_classified() -> None:
    config = Config(dim=8, passes=(), head={"name": "classify"})
    with pytest.raises(InputError, match=r"each of the 3 channels .* channels = \"together\", or take the patch_grid"):
        Passformer(config, shape=(48, 3), outputs=2)


@pytest.mark.promise("A1")
@pytest.mark.parametrize("mixer", ["linear_recurrence", "hyena", "legendre_memory", "selective_scan"])
def test_scores_of_the_next_word_ask_nothing_of_later_words_where_the_mixer_is_causal(mixer: str) -> None:
    assert _foresight({"name": mixer}) < 1e-6


def test_a_mixer_that_is_not_causal_sees_later_words() -> None:
    assert _foresight({"name": "local_attention", "window": 17}) > 1e-3


def _foresight(mixer: dict[str, Any]) -> float:
    """How much the scores at words 0 to 10 change with words 11 to 16."""
    torch.manual_seed(0)
    layer = PassConfig(mixer=mixer, channel_mixer={"name": "feed_forward"})
    config = Config(dim=16, embedding={"name": "words"}, passes=(layer, layer), head={"name": "words"})
    model = Passformer(config, shape=(17,), outputs=32).eval()
    early, late = torch.randint(32, (3, 11)), torch.randint(32, (2, 3, 6))
    one, other = (model(torch.cat([early, end], dim=1)) for end in late)
    assert one.shape == (3, 17, 32)
    assert not torch.equal(one[:, 11:], other[:, 11:])
    return float((one - other)[:, :11].detach().abs().max())


def test_scores_of_words_need_words() -> None:
    with pytest.raises(InputError, match=r"head 'words': the input is .48, 1. and the passes give 3 tokens; scores of"):
        Passformer(Config(dim=8, passes=(), head={"name": "words"}), shape=(48, 1), outputs=9)


@pytest.mark.promise("A2")
def test_the_summary_is_a_linear_map_of_each_token_beside_the_mean_of_the_other_stream() -> None:
    merge = parts.make("merges", {"name": "summary"}, Tokens((7,), 8), Tokens((3, 5), 6)).double()
    x_BND, z_BME = torch.randn(2, 7, 8).double(), torch.randn(2, 15, 6).double()
    both = torch.cat([x_BND, z_BME.mean(1, keepdim=True).expand(2, 7, 6)], dim=2)
    wanted = both @ torch.cat([merge.own.weight, merge.side.weight], dim=1).T + merge.own.bias
    torch.testing.assert_close(merge(x_BND, z_BME), wanted)


@pytest.mark.promise("A4")
@pytest.mark.promise("V5")
@pytest.mark.parametrize("merge", catalog.names("merges"))
def test_two_modalities_meet_in_any_merge(merge: str) -> None:
    torch.manual_seed(0)
    table = {"second": PICTURE | {"dim": 8}, "merge": {"name": merge}}
    model = pair(((20, 3), (1, 6, 6)), **table)  # 4 tokens of 8 channels each
    x_BLC, z_BFRC = torch.randn(3, 20, 3), torch.randn(3, 1, 6, 6)
    y_BK = model(x_BLC, z_BFRC)
    assert y_BK.shape == (3, 4)
    for other in (model(-x_BLC, z_BFRC), model(x_BLC, -z_BFRC)):
        assert not torch.allclose(y_BK, other)
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(model, (x_BLC[:2], z_BFRC[:2]), dynamic_shapes=(batch, batch), strict=False)
    torch.testing.assert_close(program.module()(x_BLC, z_BFRC), y_BK)


@pytest.mark.promise("A4")
@pytest.mark.parametrize(
    ("second", "shape", "merge"),
    [(PICTURE, (3, 6, 9), "cross_attend"), (PICTURE, (1, 3, 3), "summary"), (FEATURES, (1,), "summary")],
)
def test_inputs_of_any_two_kinds_meet(second: dict[str, Any], shape: tuple[int, ...], merge: str) -> None:
    model = pair(((23, 2), shape), second=second, merge={"name": merge})
    assert model(torch.randn(2, 23, 2), torch.randn(2, *shape)).shape == (2, 4)


@pytest.mark.promise("S1")
def test_a_pair_is_written_in_toml() -> None:
    text = """
        first = { dim = 8, embedding = { name = "words" }, passes = [] }
        second = { dim = 6, embedding = { name = "features" }, encoding = { name = "none" }, passes = [] }
        merge = { name = "summary" }
        [[passes]]
        mixer = { name = "local_attention", window = 4 }
    """
    model = Pair(msgspec.toml.decode(text, type=PairConfig), shapes=((9,), (5,)), outputs=2)
    assert model(torch.randint(32, (3, 9)), torch.randn(3, 5)).shape == (3, 2)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"merge": {"name": "add"}}, "model 'pair': merge 'add': 6 tokens of 6 channels cannot be merged into 4 of 8"),
        ({"merge": {"name": "cross_atend"}}, "no merge 'cross_atend'; did you mean 'cross_attend'"),
        ({"first": SERIES | {"embedding": {"name": "patch"}}}, "first trunk: each of its 3 channels .*together"),
        ({"second": PICTURE | {"passes": [{}]}}, "model 'pair': second trunk: pass 1: it does nothing"),
        ({"second": FEATURES}, "second trunk: embedding 'features' takes .features., not an input of 3 axes"),
        (
            {"passes": [{"mixer": {"name": "local_attention", "heads": 3}}]},
            "'local_attention': 3 heads do not divide 8",
        ),
    ],
)
def test_a_pair_that_cannot_be_is_refused_in_a_sentence(table: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        pair(((20, 3), (1, 6, 9)), **table)


@pytest.mark.promise("A1")
def test_words_written_one_a_step_are_those_of_the_whole_window() -> None:
    model = text_to_text().double()
    model.decoder.places_T = model.decoder.places_T.double()
    w_BM, first_B = torch.randint(40, (3, 23)), torch.tensor([0, 7, 49])
    with torch.no_grad():
        written_BK = model.greedy(w_BM, first_B, STEPS)
        so_far_BT = torch.cat([first_B[:, None], written_BK[:, :-1]], dim=1)
        scores_BTV = model(w_BM, so_far_BT)
        stepped_BTV = stepped(model, w_BM, so_far_BT, model.decoder.start(3))
    assert torch.equal(scores_BTV.argmax(2), written_BK)
    torch.testing.assert_close(stepped_BTV, scores_BTV, rtol=1e-10, atol=1e-10)
    assert written_BK.unique().numel() > 5, "a text of one word would show nothing"


def test_what_an_old_cache_holds_is_not_read() -> None:
    model = text_to_text()
    w_BM, words_BT = torch.randint(40, (2, 23)), torch.randint(50, (2, 9))
    old = tuple(100 * torch.randn_like(c) for c in model.decoder.start(2))
    with torch.no_grad():
        clean, stale = (stepped(model, w_BM, words_BT, c) for c in (model.decoder.start(2), old))
    torch.testing.assert_close(stale, clean, rtol=1e-4, atol=1e-4)


def stepped(model: EncoderDecoder, w_BM: Tensor, words_BT: Tensor, cache: tuple[Tensor, ...]) -> Tensor:
    """The decoder's scores y_BTV, of one step a word."""
    memory, rows = model.encoder(w_BM), []
    for place, word_B in enumerate(words_BT.unbind(1)):
        scores_BV, *cache = model.decoder(word_B, torch.full((len(w_BM),), float(place)), *memory, *cache)
        rows.append(scores_BV)
    return torch.stack(rows, dim=1)


def step_of(model: EncoderDecoder, batch: int) -> tuple[Tensor, ...]:
    """Arguments of a step that is not the first."""
    with torch.no_grad():
        memory = model.encoder(torch.randint(40, (batch, 23)))
    cache = tuple(torch.randn_like(c) for c in model.decoder.start(batch))
    return torch.randint(50, (batch,)), torch.full((batch,), 3.0), *memory, *cache


def test_both_graphs_take_any_batch_with_four_axes_at_most_and_index_no_tensor() -> None:
    model = text_to_text()
    for graph, few, many in (
        (model.encoder, (torch.randint(40, (2, 23)),), (torch.randint(40, (5, 23)),)),
        (model.decoder, step_of(model, 2), step_of(model, 5)),
    ):
        batch = {0: torch.export.Dim("batch", min=1, max=16)}
        each: Any = (batch, batch, (batch,) * len(few[2:])) if graph is model.decoder else (batch,)
        program = torch.export.export(graph, few, dynamic_shapes=each, strict=False)
        torch.testing.assert_close(program.module()(*many), graph(*many))
        values = [n.meta["val"] for n in program.graph.nodes if isinstance(n.meta.get("val"), Tensor)]
        assert max(v.ndim for v in values) == 4
        names = " ".join(str(n.target) for n in program.graph.nodes)
        assert not any(op in names for op in ("index", "scatter", "gather", "select", "copy_"))


@pytest.mark.export
@CONVERTERS_WARN
def test_two_written_files_write_the_words_of_the_model(tmp_path: Any) -> None:
    model = text_to_text()
    w_BM, first_B = torch.randint(40, (1, 23)), torch.zeros(1, dtype=torch.int64)
    cache = [c.numpy() for c in model.decoder.start(1)]
    sessions = []
    for graph, args in ((model.encoder, (w_BM,)), (model.decoder, step_of(model, 1))):
        path = tmp_path / f"{len(sessions)}.pte"
        exporters.export("executorch", Job(capture(graph, args), recipe.read("fp32"), None), path)
        sessions.append(catalog.load("runtimes", "executorch").load(path, 1))
    encode, step = sessions
    memory, words = encode([w_BM.numpy()]), [first_B.numpy()]
    for place in range(STEPS):
        scores, *cache = step([words[-1], np.array([place], np.float32), *memory, *cache])
        words.append(scores.argmax(axis=1))
    with torch.no_grad():
        assert np.concatenate(words[1:]).tolist() == model.greedy(w_BM, first_B, STEPS)[0].tolist()


def test_a_text_too_long_and_heads_that_do_not_divide_are_refused() -> None:
    model = text_to_text(length=5)
    with pytest.raises(InputError, match="6 words do not fit in a cache of 5 places; give a greater length"):
        model.greedy(torch.zeros(1, 23, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 6)
    with pytest.raises(InputError, match="model 'encoder-decoder': 3 heads do not divide 16 channels"):
        text_to_text(heads=3)
    with pytest.raises(msgspec.ValidationError, match="<= 2048"):
        text_to_text(length=2049)
    apart = EncoderDecoderConfig(encoder=TrunkConfig(dim=8, passes=()))
    with pytest.raises(InputError, match="each of the 3 channels is a sequence of its own and would get a text"):
        EncoderDecoder(apart, shape=(48, 3))


def test_an_encoder_decoder_learns_to_write_its_input_backwards() -> None:
    torch.manual_seed(0)
    encoder = {"dim": 32, "embedding": {"name": "words"}, "passes": [ATTEND | {"mixer": {"name": "local_attention"}}]}
    config = msgspec.convert({"encoder": encoder, "length": 6, "layers": 1}, EncoderDecoderConfig)
    model = EncoderDecoder(config, shape=(6,))
    _copying(model)
    w_BM = torch.randint(1, 8, (64, 6))
    with torch.no_grad():
        written = model.eval().greedy(w_BM, torch.zeros(64, dtype=torch.int64), 6)
    assert (written == w_BM.flip(1)).double().mean() > 0.9


def _copying(model: nn.Module) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        w_BM = torch.randint(1, 8, (64, 6))
        wanted = w_BM.flip(1)
        given_BT = torch.cat([torch.zeros(64, 1, dtype=torch.int64), wanted[:, :-1]], dim=1)
        loss = functional.cross_entropy(model(w_BM, given_BT).transpose(1, 2), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
