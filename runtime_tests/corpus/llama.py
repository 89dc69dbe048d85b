"""Llama (arXiv:2302.13971) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import tokens
from runtime_tests.corpus._transformers import SMALL, from_config

MODEL = from_config(
    "LlamaForCausalLM",
    takes="input_ids",
    gives="logits",
    data=partial(tokens, 500, 24),
    vocab_size=500,
    num_key_value_heads=2,
    use_cache=False,
    **SMALL,
)
