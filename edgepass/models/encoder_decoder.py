"""Text from an input of any kind, as two graphs: one encodes the input once, the other writes a word a step.

    encoder   input ─ trunk ─ norm ─ keys and values of every layer, computed once
    decoder   word, position, those, cache ─ layers ─ scores of the next word, cache

A layer is a causal attention to what is written, an attention to the input, and a feed-forward part. The cache has
`length` places, a static size; key k is written to place t, and later places are masked, by

    p_s = relu(1 - |t - s|),    K'_s = K_s (1 - p_s) + k p_s,    score_s - 1e4 (1 - clamp(t - s + 1, 0, 1))

so no index meets a tensor: targets without scatter take it, and the delegates keep it.

Shapes: B batch, M tokens of the input, T places, D width, H heads, E = D / H, L layers, V vocabulary.
Source: Elfeki et al., "Return of the Encoder: Maximizing Parameter Efficiency for SLMs", 2025; layers as in Vaswani et
al., "Attention Is All You Need", 2017, with their norms first.
"""

from typing import Annotated, cast

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepass.models import config as configs
from edgepass.models import folds, parts
from edgepass.models.config import TrunkConfig
from edgepass.models.parts import Count, Positive, Tokens
from edgepass.models.passformer import Trunk

MASKED = 1e4
"""Taken from the score of a place that is not written yet; float16 holds it, and exp(-1e4) is 0."""
Length = Annotated[int, msgspec.Meta(ge=1, le=2048)]
"""Places of the cache; float16 counts no further than 2048 by ones."""


class EncoderDecoderConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The encoder's trunk, and the decoder: `length` is the most words that it writes."""

    name: str = "encoder-decoder"
    encoder: TrunkConfig
    vocabulary: Count = 32
    length: Length = 64
    layers: Count = 2
    heads: Count = 4
    ratio: Positive = 2.0


class EncoderDecoder(nn.Module):
    """`encoder` and `decoder` are the two graphs to export; together they are the model to train.

    Raises InputError for what cannot be built.
    """

    def __init__(self, config: EncoderDecoderConfig, *, shape: tuple[int, ...]) -> None:
        super().__init__()
        with parts.inside(f"model {config.name!r}"):
            configs.check_trunk(config.encoder)
            self.encoder = Encoder(config, shape)
            self.decoder = Decoder(config, self.encoder.trunk.tokens.dim)

    def forward(self, x: Tensor, word_BT: Tensor) -> Tensor:
        """[B, *shape] and the words so far, int64 -> scores of each next word, y_BTV: the whole window at once."""
        return self.decoder.window(word_BT, self.encoder(x))

    def greedy(self, x: Tensor, first_B: Tensor, count: int) -> Tensor:
        """[B, *shape] and the first words, int64 -> the `count` words that follow, each the likeliest, w_BK.

        Raises InputError for more words than the cache has places.
        """
        length = self.decoder.length
        parts.must(count <= length, f"{count} words do not fit in a cache of {length} places; give a greater length")
        memory, cache = self.encoder(x), self.decoder.start(len(x))
        words = [first_B]
        for place in range(count):
            scores_BV, *cache = self.decoder(words[-1], torch.full((len(x),), float(place)), *memory, *cache)
            words.append(scores_BV.argmax(dim=1))
        return torch.stack(words[1:], dim=1)


class Encoder(nn.Module):
    """[B, *shape] -> a key and a value of each layer, k_BHME and v_BHME, 2 L tensors."""

    def __init__(self, config: EncoderDecoderConfig, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.trunk = Trunk(config.encoder, shape=shape)
        tokens = self.trunk.tokens
        parts.must(
            tokens.folded == 1,
            f"each of the {tokens.folded} channels is a sequence of its own and would get a text of its own; "
            'give the patch embedding channels = "together", or take the patch_grid embedding',
        )
        self.heads = config.heads
        self.norm = nn.LayerNorm(tokens.dim)
        self.maps = nn.ModuleList(nn.Linear(tokens.dim, tokens.dim) for _ in range(2 * config.layers))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """[B, *shape] -> key and value of the first layer, of the second ..."""
        x_BMD = self.norm(self.trunk.represent(x))
        return tuple(folds.split(f(x_BMD), self.heads) for f in self.maps)


class Decoder(nn.Module):
    """One step: word_B int64, position_B, 2 L tensors of the encoder, 2 L of the cache -> y_BV, 2 L of the cache.

    The position is a float32, so that the delegates take all that is made of it.
    """

    places_T: Tensor

    def __init__(self, config: EncoderDecoderConfig, dim: int) -> None:
        super().__init__()
        self.length, self.heads, self.width = config.length, config.heads, parts.head_dim(dim, config.heads)
        self.words = nn.Embedding(config.vocabulary, dim)
        self.position_TD = nn.Parameter(torch.randn(config.length, dim) * 0.02)
        self.layers = nn.ModuleList(Layer(dim, config.heads, config.ratio) for _ in range(config.layers))
        self.norm = nn.LayerNorm(dim)
        self.scores = nn.Linear(dim, config.vocabulary)
        self.register_buffer("places_T", torch.arange(config.length, dtype=torch.float32), persistent=False)

    def forward(self, word_B: Tensor, position_B: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Scores of the word after `word_B`, y_BV, and the cache with that word at place `position_B`."""
        ahead_BT = position_B.reshape(-1, 1) - self.places_T
        here_BT = functional.relu(1 - ahead_BT.abs())
        mask_B11T = ((ahead_BT + 1).clamp(0, 1) - 1).reshape(-1, 1, 1, self.length) * MASKED
        x_B1D = (self.words(word_B) + here_BT @ self.position_TD).reshape(-1, 1, self.heads * self.width)
        here_B1T1 = here_BT.reshape(-1, 1, self.length, 1)
        memory, cache = tensors[: 2 * len(self.layers)], tensors[2 * len(self.layers) :]
        written: list[Tensor] = []
        for n, layer in enumerate(self.layers):
            both = slice(2 * n, 2 * n + 2)
            x_B1D, *pair = cast(Layer, layer).step(x_B1D, here_B1T1, mask_B11T, *memory[both], *cache[both])
            written += pair
        return (self.scores(self.norm(x_B1D)).reshape(-1, self.scores.out_features), *written)

    def window(self, word_BT: Tensor, memory: tuple[Tensor, ...]) -> Tensor:
        """The same for all words at once, without a cache: y_BTV."""
        x_BTD = self.words(word_BT) + self.position_TD[: word_BT.shape[1]]
        for n, layer in enumerate(self.layers):
            x_BTD = cast(Layer, layer).window(x_BTD, *memory[2 * n : 2 * n + 2])
        y_BTV: Tensor = self.scores(self.norm(x_BTD))
        return y_BTV

    def start(self, batch: int) -> tuple[Tensor, ...]:
        """The empty cache, 2 L tensors [B, H, T, E]."""
        shape = (batch, self.heads, self.length, self.width)
        return tuple(torch.zeros(shape, dtype=self.position_TD.dtype) for _ in range(2 * len(self.layers)))


class Layer(nn.Module):
    """Attention to what is written, attention to the input, feed-forward part; each behind a norm, with a skip."""

    def __init__(self, dim: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_own, self.norm_input, self.norm_feed = (nn.LayerNorm(dim) for _ in range(3))
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.query_input, self.out_input = (nn.Linear(dim, dim) for _ in range(2))
        choice = {"name": "feed_forward", "ratio": ratio}
        self.feed = cast(nn.Module, parts.make("channel_mixers", choice, Tokens((1,), dim)))

    def step(
        self,
        x_B1D: Tensor,
        here_B1T1: Tensor,
        mask_B11T: Tensor,
        inputs_BHME: Tensor,
        values_BHME: Tensor,
        keys_BHTE: Tensor,
        written_BHTE: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One word: x_B1D, and the keys and values of the cache with its own."""
        q_BH1E, k_BH1E, v_BH1E = self._own(x_B1D)
        keys_BHTE = keys_BHTE * (1 - here_B1T1) + k_BH1E * here_B1T1
        written_BHTE = written_BHTE * (1 - here_B1T1) + v_BH1E * here_B1T1
        y_BH1E = functional.scaled_dot_product_attention(q_BH1E, keys_BHTE, written_BHTE, attn_mask=mask_B11T)
        x_B1D = x_B1D + self.out(folds.join(y_BH1E))
        return self._rest(x_B1D, inputs_BHME, values_BHME), keys_BHTE, written_BHTE

    def window(self, x_BTD: Tensor, inputs_BHME: Tensor, values_BHME: Tensor) -> Tensor:
        """All words at once, x_BTD -> x_BTD."""
        y_BHTE = functional.scaled_dot_product_attention(*self._own(x_BTD), is_causal=True)
        return self._rest(x_BTD + self.out(folds.join(y_BHTE)), inputs_BHME, values_BHME)

    def _own(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n_BTD = self.norm_own(x_BTD)
        q_BHTE, k_BHTE, v_BHTE = (folds.split(f(n_BTD), self.heads) for f in (self.query, self.key, self.value))
        return q_BHTE, k_BHTE, v_BHTE

    def _rest(self, x_BTD: Tensor, inputs_BHME: Tensor, values_BHME: Tensor) -> Tensor:
        q_BHTE = folds.split(self.query_input(self.norm_input(x_BTD)), self.heads)
        y_BHTE = functional.scaled_dot_product_attention(q_BHTE, inputs_BHME, values_BHME)
        x_BTD = x_BTD + self.out_input(folds.join(y_BHTE))
        y_BTD: Tensor = x_BTD + self.feed(self.norm_feed(x_BTD))
        return y_BTD
