"""Moonshine's encoder of raw sound (arXiv:2410.15608) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import sound
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "moonshine.modeling_moonshine.MoonshineEncoder",
    takes="input_values",
    gives="last_hidden_state",
    data=partial(sound, 3200),
    hidden_size=64,
    intermediate_size=128,
    encoder_num_hidden_layers=2,
    encoder_num_attention_heads=4,
    encoder_num_key_value_heads=4,
)
