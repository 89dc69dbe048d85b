"""torch's GRU, on waves."""

from torch import nn

from runtime_tests.corpus._torch import CHANNELS, Classifier, trained

MODEL = trained(lambda: Classifier(nn.GRU(CHANNELS, 48, batch_first=True), 48), epochs=12)
