"""What a recipe's own graph computes in torch, and what converter and runtime made of it.

    float32 model --expected loss--> the recipe's graph in torch --conversion--> the file

The graph rounds as the recipe says and nothing else, so its noise is what the recipe costs. A file of it rounds at the
same places, though not the same values: a flip of one rounding early in a network moves all that come after it. So the
file is no closer to the graph than to the float32 model, but its noise is as large as the graph's, in every slice.

The graph is the recipe's own for every target, also where a vendor's quantiser makes the file: weights as read from a
file would carry the faults of that file into what is expected of it. Only what such a quantiser makes int8 beyond the
recipe's graph, lookups and convolutions, is int8 in the graph that its files are held against.

How much larger the noise may be is set by measurement: every mechanism of the catalogue, for every target, under every
recipe, judged by 64 samples; CATALOGUE.md shows how near they come. The noise of a whole output is at most 2.4 times
the graph's, so MULTIPLE is 4, or 6 dB. To it comes the sampling error of a ratio of two noises from few
samples, SIGMAS times its deviation: the fewer the samples, the wider the bound. The slice nearest to its bound, of
split attention in a static .tflite, has 4.76 times the graph's noise where 6.69 may be. What was beyond was wrong each
time: a state that tflite gave in int8 and the recipe leaves in float, activations that onnxruntime rounded under a
recipe of weights, a fixed table that three quantisers took for a weight.

A float16 file may round where torch does not, within an operation, and an output that torch's graph has without noise
is no better in a file than float16 is, 74 dB: FORGIVEN_DB is the noise of some roundings. The catalogue holds without.
What was seen beyond that was wrong too: softplus written out in halves, 29.4 dB in a slice that has 60.8, and raw
values that Core ML's converter had in float16 where the model keeps float32, 53.4 dB where 64.4 were expected.

Halves are rounded as they are, their mean with them, so where the graph itself gives halves, float16 is forgiven of
those: the probabilities of a sigmoid, that have 65.7 dB in XNNPACK's float16 and 73.9 dB in torch's, vary by a part of
themselves.

XNNPACK sums in float16 too where a processor can, and so does the graph that its float16 files are held against
(quantize/sums.py). Where the processor cannot, such a file is better than its graph.

`python -m runtime_tests.bench.mechanisms` measures again, and `python -m runtime_tests.bench.halves` what float16 is.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from edgepass.errors import first_line
from edgepass.judging import parity
from edgepass.judging.manifest import Excess, Kept
from edgepass.judging.parity import Agreement, Reals
from edgepass.judging.weights import are_halves
from edgepass.quantize.recipe import Scheme
from edgepass.runtimes import Array
from edgepass.samples import Samples

ROWS = 64
"""Evaluation samples, evenly spread, on which graphs and float32 files are run."""
MULTIPLE = 4.0
"""Of the graph's noise power, which the file's may be."""
SIGMAS = 4.0
"""Standard deviations of the logarithm of that ratio, which widen it."""
FLOAT32_DB = 80.0
"""Least centred SQNR of a float32 file; healthy ones of the catalogue have 120 raw at least."""
FORGIVEN_DB: dict[Scheme, float] = {"float16": 70.0}
"""Noise that is never too much, in dB below the signal; FLOAT32_DB where nothing is said."""


FLOAT_MAX = float(np.finfo(np.float64).max)


class Expected:
    """The outputs of a recipe's own graph, computed once for all the targets that take it."""

    def __init__(self, graph: Callable[[], nn.Module]) -> None:
        self._graph = graph
        self._outputs: dict[tuple[int, int] | None, list[Array]] = {}
        self.note = ""
        """Why there are none."""

    def outputs(self, samples: Samples, size: tuple[int, int] | None = None) -> list[Array]:
        """One array [n, *shape] per output; none at all where torch cannot run the graph, or gives no number.

        `size`: the dimension that is of another size than usual, and which.
        """
        if size not in self._outputs:
            try:
                graph = self._graph()
                with torch.no_grad():
                    rows = [outputs for _, outputs in samples.run(graph)]
                self._outputs[size] = [np.stack(column) for column in zip(*rows, strict=True)]
            except Exception as error:  # whatever torch raises for an operation that it lacks in this number format
                self._outputs[size] = []
                self.note = f"torch cannot run the recipe's own graph: {first_line(error)}"
        return self._outputs[size]


def excess(
    reference: Sequence[Array],
    graph: Sequence[Array],
    file: Sequence[Array],
    scheme: Scheme = "float32",
    names: Sequence[str] = (),
) -> list[Excess]:
    """Noise power of the file over that of the graph: of each output, and of the slice nearest to its bound."""
    outputs: list[Excess] = []
    parts: list[Excess] = []
    names = names or parity.names(len(reference))
    for name, r, g, f in zip(names, reference, graph, file, strict=True):
        if not parity.is_exact(r):
            whole, *rest = _excess(r, g, f, name, scheme)
            outputs.append(whole)
            parts.extend(rest)
    return outputs + sorted(parts, key=lambda part: part.ratio / part.bound)[-1:]


def kept(reference: Sequence[Array], file: Sequence[Array], names: Sequence[str] = ()) -> list[Kept]:
    """How well a float32 file keeps the float32 model: of each output, and of the slice nearest to its bound."""
    outputs: list[Kept] = []
    parts: list[Kept] = []
    for name, r, f in zip(names or parity.names(len(reference)), reference, file, strict=True):
        if not parity.is_exact(r):
            whole, *rest = (
                Kept(name=part.name, centred_db=part.centred_db, bound_db=parity.reachable(FLOAT32_DB, part.ceiling_db))
                for part in parity.slices(parity.powers(r, f), name)
            )
            outputs.append(whole)
            parts.extend(rest)
    return outputs + sorted(parts, key=lambda part: part.bound_db - part.centred_db)[-1:]


def agreed(reference: Sequence[Array], file: Sequence[Array], names: Sequence[str] = ()) -> list[Agreement]:
    """How a float32 file agrees with the float32 model in its outputs of integers, and in their worst slices."""
    found = parity.of(reference, file, names).outputs
    return [each for output in found for each in (output.agreement, output.worst_agreement) if each]


def _excess(r: Array, g: Array, f: Array, name: str, scheme: Scheme) -> Iterator[Excess]:
    """The whole output first, then every slice of it; all are [samples, ...]."""
    forgiven_db = FORGIVEN_DB.get(scheme, FLOAT32_DB)
    rounded = scheme == "float16" and are_halves(g)
    in_file, in_graph = parity.powers(r, f), parity.powers(r, g)
    parts = zip(parity.slices(in_file, name), parity.slices(in_graph, name), strict=True)
    levels = parity.noises(r, np.zeros_like(r))  # the values themselves, as an error
    for (file, graph), a_S, b_S, level_S in zip(parts, parity.noises(r, f), parity.noises(r, g), levels, strict=True):
        forgiven_S = np.full_like(a_S, a_S.mean() if np.isfinite(a_S).all() else 0.0)
        forgiven_S *= 10 ** ((file.centred_db - parity.reachable(forgiven_db, file.ceiling_db)) / 10)
        if rounded:
            forgiven_S = np.maximum(forgiven_S, level_S.mean() * 10 ** (-forgiven_db / 10))
        ratio, deviation = _ratio(a_S, b_S + forgiven_S)
        yield Excess(
            name=file.name,
            file_db=file.centred_db,
            expected_db=graph.centred_db,
            ratio=ratio,
            bound=MULTIPLE * float(np.exp(SIGMAS * deviation)),
        )


def _ratio(a_S: Reals, b_S: Reals) -> tuple[float, float]:
    """Sum of the one over sum of the other, and the standard deviation of its logarithm over draws of the samples.

    The second is that of a ratio estimator (Cochran, Sampling Techniques, 1977, section 6.3): samples in which both
    are large say nothing about their ratio.
    """
    a, b = float(a_S.sum()), float(b_S.sum())
    if not np.isfinite(b) or a == 0.0:  # whatever the file gives is no worse than what the recipe gives
        return 0.0, 0.0
    if not np.isfinite(a):
        return FLOAT_MAX, 0.0
    count = len(a_S)
    return a / b, float(np.sqrt(count / (count - 1) * np.square(a_S / a - b_S / b).sum()))
