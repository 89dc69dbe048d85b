"""Mamba (arXiv:2312.00752) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import tokens
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "MambaForCausalLM",
    takes="input_ids",
    gives="logits",
    data=partial(tokens, 500, 12),
    vocab_size=500,
    hidden_size=64,
    num_hidden_layers=2,
    state_size=8,
    use_cache=False,
)
