"""python -m runtime_tests.bench.halves: what XNNPACK's float16 keeps of single operations, beside torch's own.

All against float64, SQNR in dB; `graph` is what .pte files are held against, torch with sums in float16. The .pte is of
the bare partitioner, so nothing of edgepass is in it. XNNPACK takes the kernels that the processor has: where that
computes in float16, sums are in float16 too.
"""

import copy
import warnings

import torch
from torch import Tensor, nn

from edgepass.judging import host, parity
from edgepass.quantize.sums import SumsInHalves

ROWS = 16
SUMS = (16, 64, 256, 1024)
"""Terms of a linear layer's sums."""
WIDE = 1024
"""Numbers that a softmax, or a variance, is of."""


class Variance(nn.Module):
    """Of each row."""

    def forward(self, x: Tensor) -> Tensor:
        return x.var(-1)


def cases() -> list[tuple[str, nn.Module, Tensor]]:
    """Name, operation, and what it is given."""
    wide = torch.randn(ROWS, WIDE)
    return [
        *((f"linear of {k}", nn.Linear(k, 32), torch.randn(ROWS, k)) for k in SUMS),
        ("sigmoid", nn.Sigmoid(), wide),
        (f"softmax of {WIDE}", nn.Softmax(-1), wide),
        (f"variance of {WIDE}", Variance(), wide),
    ]


def in_file(module: nn.Module, x: Tensor) -> Tensor:
    """What a .pte of the bare partitioner gives."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's, of its own internals
        exported = torch.export.export(module, (x,))
        lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    made: Tensor = Runtime.get().load_program(lowered.buffer).load_method("forward").execute([x])[0]
    return made


def main() -> None:
    print(f"{host.this().cpu}, torch {torch.__version__}: SQNR in dB\n{'':18} {'.pte':>6} {'graph':>6} {'torch':>6}")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, module, x in cases():
            half = module.eval().half()
            exact = copy.deepcopy(half).double()(x.half().double()).numpy()
            made = (in_file(half, x.half()), SumsInHalves(half)(x.half()), half(x.half()))
            figures = [parity.compare(exact, y.double().numpy()).sqnr_db for y in made]
            print(f"{name:18}" + "".join(f" {figure:6.1f}" for figure in figures))


if __name__ == "__main__":
    main()
