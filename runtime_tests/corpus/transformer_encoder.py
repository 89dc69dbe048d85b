"""torch's transformer encoder, of 2 layers, on waves."""

from torch import nn

from runtime_tests.corpus._torch import CHANNELS, Classifier, trained

MODEL = trained(
    lambda: Classifier(
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True), 2, enable_nested_tensor=False
        ),
        32,
        nn.Sequential(nn.Unflatten(1, (16, 4)), nn.Flatten(2), nn.Linear(4 * CHANNELS, 32)),
    ),
    epochs=10,
)
