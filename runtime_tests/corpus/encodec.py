"""EnCodec's encoder, convolutions and an LSTM (arXiv:2210.13438) of transformers."""

from functools import partial

from runtime_tests.corpus._sequences import spectrogram
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "EncodecModel",
    takes="",
    gives="",
    part="encoder",
    data=partial(spectrogram, 1, 960),
    num_filters=8,
    hidden_size=32,
    upsampling_ratios=[5, 4, 2],
)
