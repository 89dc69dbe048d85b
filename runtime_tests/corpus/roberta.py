"""RoBERTa (arXiv:1907.11692) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import tokens
from runtime_tests.corpus._transformers import SMALL, from_config

MODEL = from_config(
    "RobertaModel", takes="input_ids", gives="last_hidden_state", data=partial(tokens, 500, 24), vocab_size=500, **SMALL
)
