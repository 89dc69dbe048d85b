"""Whisper's encoder (arXiv:2212.04356) of transformers, of 2 layers."""

from functools import partial

from runtime_tests.corpus._sequences import spectrogram
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "whisper.modeling_whisper.WhisperEncoder",
    takes="input_features",
    gives="last_hidden_state",
    data=partial(spectrogram, 16, 64),
    num_mel_bins=16,
    d_model=64,
    encoder_layers=2,
    encoder_attention_heads=4,
    encoder_ffn_dim=128,
    max_source_positions=32,
    init_std=0.1,
)
