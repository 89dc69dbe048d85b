"""torch's GRU, on waves."""

from torch import nn

from runtime_tests.corpus._torch import Classifier, trained

MODEL = trained(lambda: Classifier(nn.GRU(32, 48, batch_first=True), 48), epochs=8)
