"""GPT-2 of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import tokens
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "GPT2LMHeadModel",
    takes="input_ids",
    gives="logits",
    data=partial(tokens, 500, 24),
    vocab_size=500,
    n_embd=64,
    n_layer=2,
    n_head=4,
    use_cache=False,
)
