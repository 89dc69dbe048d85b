"""Recurrent layers step by step, for targets whose converter does not know them.

    before   x ─ gru ─ y
    after    x ─ linear ─ split by step ─ (linear, gates) for each step ─ cat ─ y

coremltools 9.0 knows them of TorchScript only ("Unsupported fx node gru"). The number of steps is that of the example.
"""

import torch
from torch._decomp import get_decompositions

from edgepass.rewrites import Table

aten = torch.ops.aten
LAYERS = (aten.gru.input, aten.lstm.input, aten.rnn_tanh.input, aten.rnn_relu.input)

TABLE: Table = dict(get_decompositions(LAYERS))
