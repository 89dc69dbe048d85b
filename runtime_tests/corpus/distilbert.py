"""DistilBERT (arXiv:1910.01108) of transformers, of 2 layers, on questions about texts."""

from edgepass.examples import text
from runtime_tests.corpus._transformers import trained

MODEL = trained(
    "DistilBertForSequenceClassification",
    takes="input_ids",
    data=text.questions,
    epochs=12,
    vocab_size=128,
    dim=64,
    n_layers=2,
    n_heads=4,
    hidden_dim=128,
    num_labels=2,
)
