"""The two error budgets of one file: what its recipe costs, and what converter and runtime changed."""

from dataclasses import replace

from edgepass.judging import expected, operations, parity, weights
from edgepass.judging.candidate import Candidate, Standard, Yardstick
from edgepass.judging.manifest import Conversion, Loss, Operations, WeightValues
from edgepass.quantize.recipe import Scheme
from edgepass.runtimes import Array, Contents
from edgepass.runtimes._child import Measurement


def loss(candidate: Candidate, standard: Standard, outputs: list[Array]) -> Loss:
    """What the recipe costs, in the file and in its own graph, on the same rows."""
    rows = standard.rows
    reference = [r[rows] for r in standard.reference]
    graph, note = _graph(candidate, standard)
    return Loss(
        file_db=parity.of(reference, [o[rows] for o in outputs]).centred_db,
        expected_db=parity.of(reference, graph).centred_db if graph else None,
        samples=len(rows),
        note=note,
    )


def conversion(
    candidate: Candidate, standard: Standard, outputs: list[Array], yardstick: Yardstick | None, contents: Contents
) -> Conversion | None:
    """What converter and runtime changed; None where nothing of it can be known."""
    graph, _ = _graph(candidate, standard)
    rows = standard.rows
    values = weight_values(candidate, contents)
    if len(rows) < 2 or (yardstick is None and not graph):
        return Conversion(weights=values) if values else None
    reference, file = ([array[rows] for array in arrays] for arrays in (standard.reference, outputs))
    return Conversion(
        excess=expected.excess(reference, graph, file, scheme_of(candidate), standard.outputs) if graph else [],
        float32=list(yardstick.kept) if yardstick else [],
        float32_agreement=list(yardstick.agreed) if yardstick else [],
        samples=len(rows),
        weights=values,
    )


def with_operations(
    found: Conversion | None,
    graph: operations.Graph | None,
    tensors: operations.Tensors | None,
    measured: Measurement,
) -> Conversion | None:
    """With how the file computes between the int8 tensors of a static recipe, `tensors` of its `graph`, or why not."""
    if tensors is not None:
        compared = operations.compare(tensors, measured.steps, measured.parts, measured.steps_note)
    elif graph is not None and graph.note:
        compared = Operations(compared=0, note=graph.note)
    else:
        return found
    return replace(found or Conversion(), operations=compared)


def weight_values(candidate: Candidate, contents: Contents) -> WeightValues | None:
    """The values of the file's weights against the graph's; None where nobody says what they should be."""
    stated = candidate.stated
    return weights.compare(stated, contents.weights, contents.values) if stated else None


def scheme_of(candidate: Candidate) -> Scheme:
    return candidate.recipe.scheme if candidate.recipe else "float32"


def _graph(candidate: Candidate, standard: Standard) -> tuple[list[Array], str]:
    """Outputs of the recipe's own graph in the reference's shapes, or none, and why."""
    if candidate.expected is None:
        return [], "the file was made elsewhere: what its recipe costs in torch is not known"
    outputs = candidate.expected.outputs(standard.samples.spread(expected.ROWS))
    return outputs[: len(standard.reference)], candidate.expected.note
