"""PatchTSMixer (arXiv:2306.09364) of transformers, of 2 layers, a forecaster."""

from functools import partial

from runtime_tests.corpus._sequences import waves
from runtime_tests.corpus._transformers import from_config

MODEL = from_config(
    "PatchTSMixerForPrediction",
    takes="past_values",
    gives="prediction_outputs",
    data=partial(waves, 96, 3),
    num_input_channels=3,
    context_length=96,
    prediction_length=24,
    patch_length=16,
    patch_stride=16,
    d_model=32,
    num_layers=2,
)
