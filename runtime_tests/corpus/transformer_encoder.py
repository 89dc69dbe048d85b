"""torch's transformer encoder, of 2 layers, on waves."""

from torch import nn

from runtime_tests.corpus._torch import Classifier, trained

MODEL = trained(
    lambda: Classifier(
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True), 2, enable_nested_tensor=False
        ),
        32,
    ),
    epochs=10,
)
