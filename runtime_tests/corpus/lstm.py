"""torch's LSTM, of 2 layers and both directions, on waves."""

from torch import nn

from runtime_tests.corpus._torch import Classifier, trained

MODEL = trained(lambda: Classifier(nn.LSTM(32, 32, num_layers=2, bidirectional=True, batch_first=True), 64))
