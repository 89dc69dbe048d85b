"""wav2vec 2.0 (arXiv:2006.11477) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import sound
from runtime_tests.corpus._transformers import SMALL, from_config

MODEL = from_config(
    "Wav2Vec2Model",
    takes="input_values",
    gives="last_hidden_state",
    data=partial(sound, 3200),
    conv_dim=(32,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    **SMALL,
)
