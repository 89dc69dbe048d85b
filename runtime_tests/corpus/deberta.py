"""DeBERTa (arXiv:2006.03654) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import tokens
from runtime_tests.corpus._transformers import SMALL, from_config

MODEL = from_config(
    "DebertaV2Model",
    takes="input_ids",
    gives="last_hidden_state",
    data=partial(tokens, 500, 24),
    vocab_size=500,
    relative_attention=True,
    pos_att_type=["p2c", "c2p"],
    position_buckets=16,
    **SMALL,
)
