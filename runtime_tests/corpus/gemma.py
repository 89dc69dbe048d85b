"""Gemma 2 (arXiv:2408.00118) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import tokens
from runtime_tests.corpus._transformers import SMALL, from_config

MODEL = from_config(
    "Gemma2ForCausalLM",
    takes="input_ids",
    gives="logits",
    data=partial(tokens, 500, 24),
    vocab_size=500,
    num_key_value_heads=2,
    head_dim=16,
    use_cache=False,
    **SMALL,
)
