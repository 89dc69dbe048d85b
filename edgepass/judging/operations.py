"""Operation by operation: each part of a file between its int8 tensors, fed with the graph's own integers there.

What a part makes of the graph's integers is the graph's, but for rounding: one step of its grid, and as often up as
down. A dropped factor, swapped operands or a wrong pad is off by more, and rounding towards zero is off on
average. Only the part that is wrong shows it, so it can be named.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from edgepass.errors import first_line
from edgepass.judging import expected
from edgepass.judging.manifest import Operations
from edgepass.quantize.pt2e import module_path
from edgepass.runtimes import Array
from edgepass.runtimes._cut import Step
from edgepass.samples import Samples, spread

ROWS = 4
"""Evaluation samples on which parts are compared: a wrong one is wrong on nearly all of its elements."""
MOST = 4
"""Steps of its grid that any element of a part may be off."""
BEYOND = 1e-3
"""Share of its elements that may be off by more than one step: approximate exponentials are, now and then."""
BIAS = 0.2
"""Of a step, on average over many elements: rounding to nearest gives none, towards zero or down about a half."""
FEW = 64
"""Elements below which an average says nothing."""
OUTPUT = 1e-3
"""What an output behind the last int8 tensor may be off, of its largest value: it is float32, or float16 at worst."""

NAMES = 4


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """The int8 tensors of a graph on some samples, and its outputs; names say what makes each."""

    names: list[str]
    scales: list[float]
    values: list[NDArray[np.int32]]
    """Less their zero points, [samples, ...] each."""
    outputs: list[Array]
    output_names: list[str]
    arguments: list[Array]
    """On which, [samples, ...] each, state too."""


class Graph:
    """A recipe's own graph, run once for all the targets that take it."""

    def __init__(self, graph: Callable[[], nn.Module]) -> None:
        self._graph = graph
        self._tensors: Tensors | None = None
        self._tried = False
        self.note = ""
        """Why there are no tensors, where torch cannot run it."""

    def tensors(self, samples: Samples) -> Tensors | None:
        """Its int8 tensors; None where it has none, or where torch cannot run it."""
        if not self._tried:
            self._tried = True
            try:
                graph = self._graph()
                assert isinstance(graph, GraphModule)
                self._tensors = _tensors(graph, samples.spread(expected.ROWS if samples.state else ROWS))
            except Exception as error:  # whatever torch raises for an operation that it lacks
                self.note = f"torch cannot run the recipe's own graph: {first_line(error)}"
        return self._tensors


def compare(tensors: Tensors, steps: Sequence[Step] | None, outputs: Sequence[Array], note: str = "") -> Operations:
    """Which parts of the file are not the graph's. `outputs` are of its last parts, `note` why there are no steps."""
    if steps is None:
        return Operations(compared=0, note=note)
    differing: dict[str, str] = {}
    for step in steps:
        name = tensors.names[step.tensor]
        if step.worst > MOST or step.beyond > BEYOND:
            differing[name] = f"it is off by {step.worst} steps of its grid, on inputs that are the graph's own"
        elif step.elements >= FEW and abs(step.bias) > BIAS:
            differing[name] = f"it rounds otherwise: off by {step.bias:+.2f} of a step on average"
    for name, mine, theirs in zip(tensors.output_names, tensors.outputs, outputs, strict=False):
        if mine.size == theirs.size and mine.dtype.kind == "f" and mine.size:
            largest = float(np.abs(mine).max())
            off = float(np.abs(mine.astype(np.float64) - theirs.reshape(mine.shape).astype(np.float64)).max())
            if not off <= OUTPUT * largest and steps:
                differing[name] = f"it is off by {off / largest if largest else off:.2g} of its largest value"
    return Operations(compared=len(steps), differing=differing)


class _Recorder(Interpreter):
    """Keeps what each quantise of an activation gives."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.kept: dict[Node, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if _is_quantise(n):
            zero = n.args[2]
            assert isinstance(zero, int)
            self.kept[n] = result.to(torch.int32) - zero
        return result


def _tensors(graph: GraphModule, samples: Samples) -> Tensors | None:
    recorder = _Recorder(graph)
    kept: dict[Node, list[NDArray[np.int32]]] = {}
    rows: list[list[Array]] = []
    given: list[list[Array]] = []
    picked = spread(len(samples), ROWS)
    with torch.no_grad():
        for number, (arguments, outputs) in enumerate(samples.run(recorder.run)):
            if number in picked:
                rows.append(outputs)
                given.append([argument.numpy() for argument in arguments])
                for node, value in recorder.kept.items():
                    kept.setdefault(node, []).append(value.numpy())
    if not kept:
        return None
    stacked, fed = ([np.stack(column) for column in zip(*values, strict=True)] for values in (rows, given))
    (ends,) = graph.graph.output_node().args
    nodes = [node for node in _flat(ends) if isinstance(node, Node)]
    return Tensors(
        names=[_name(node) for node in kept],
        scales=[float(node.args[1]) for node in kept],  # type: ignore[arg-type]  # a number, in every such graph
        values=[np.ascontiguousarray(np.stack(values)) for values in kept.values()],
        outputs=stacked,
        output_names=[_name(node) for node in nodes] if len(nodes) == len(stacked) else [],
        arguments=fed,
    )


def _is_quantise(node: Node) -> bool:
    named = "quantized_decomposed.quantize_per_tensor.default" in str(node.target)
    return named and isinstance(node.args[0], Node) and node.args[0].op != "get_attr"


def _name(node: Node) -> str:
    """What makes the tensor of a quantise, back to the int8 tensors that it is made of: `body.0: linear, relu`."""
    made: list[Node] = []
    todo = [node.args[0] if _is_quantise(node) else node]
    while todo:
        at = todo.pop(0)
        inside = isinstance(at, Node) and at.op == "call_function" and "quantized_decomposed" not in str(at.target)
        if isinstance(at, Node) and inside and at not in made:
            made.append(at)
            todo += at.all_input_nodes
    last = next((path for n in made if (path := module_path(n))), "")
    names = [n.name for n in made][:NAMES][::-1]
    return f"{last + ': ' if last else ''}{', '.join(names) or 'the input'}"


def _flat(values: Any) -> list[Any]:
    return [item for value in values for item in _flat(value)] if isinstance(values, list | tuple) else [values]
