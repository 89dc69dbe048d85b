"""PatchTST (arXiv:2211.14730) of transformers, a classifier of quick and slow waves."""

from runtime_tests.corpus._sequences import bands
from runtime_tests.corpus._transformers import trained

MODEL = trained(
    "PatchTSTForClassification",
    takes="past_values",
    data=bands,
    epochs=4,
    gives="prediction_logits",
    num_input_channels=2,
    num_targets=4,
    context_length=64,
    patch_length=8,
    patch_stride=8,
    d_model=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    ffn_dim=64,
)
