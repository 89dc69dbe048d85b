"""ELECTRA (arXiv:2003.10555) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import tokens
from runtime_tests.corpus._transformers import SMALL, from_config

MODEL = from_config(
    "ElectraModel",
    takes="input_ids",
    gives="last_hidden_state",
    data=partial(tokens, 500, 24),
    vocab_size=500,
    embedding_size=32,
    **SMALL,
)
