"""T5's encoder, with positions by buckets (arXiv:1910.10683) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import tokens
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "T5EncoderModel",
    takes="input_ids",
    gives="last_hidden_state",
    data=partial(tokens, 500, 24),
    vocab_size=500,
    d_model=64,
    d_kv=16,
    d_ff=128,
    num_layers=2,
    num_heads=4,
)
