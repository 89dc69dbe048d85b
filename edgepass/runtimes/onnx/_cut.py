"""Cuts an .onnx at what its QuantizeLinear give: each is an output, and an input to what reads it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepass.runtimes import Array, Place
from edgepass.runtimes._cut import reads
from edgepass.runtimes.onnx import cast, options

_GIVEN = "edgepass given "


class Cut:
    """Two sessions: one that only shows, and one whose parts are apart."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnx
        from onnx import numpy_helper

        model = onnx.load(path)
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        steps: list[tuple[float, int]] = []
        self.types: list[Any] = []
        shown: list[str] = []
        for node in model.graph.node:
            scale, zero = (constants.get(name) for name in (*node.input[1:3], "", "")[:2])
            if node.op_type != "QuantizeLinear" or node.input[0] in constants or scale is None or zero is None:
                continue
            values = numpy_helper.to_array(scale), numpy_helper.to_array(zero)
            if values[0].size == 1:
                steps.append((float(values[0].item()), int(values[1].item())))
                self.types.append(values[1].dtype)
                shown.append(node.output[0])
        sources = {name: list(node.input) for node in model.graph.node for name in node.output}
        self.places = [
            Place(scales=frozenset({scale}), zero=zero, reads=reads(name, shown, sources))
            for name, (scale, zero) in zip(shown, steps, strict=True)
        ]
        self.outputs = [x.name for x in model.graph.output]
        self.inputs = [x.name for x in model.graph.input if x.name not in constants]
        self.shown = shown
        have = set(self.outputs)
        for name, kind in zip(shown, self.types, strict=True):
            if name not in have:
                element = onnx.helper.np_dtype_to_tensor_dtype(kind)
                model.graph.output.append(onnx.helper.make_tensor_value_info(name, element, None))
        self.whole = self._session(model, threads)
        for name, kind in zip(shown, self.types, strict=True):
            element = onnx.helper.np_dtype_to_tensor_dtype(kind)
            model.graph.input.append(onnx.helper.make_tensor_value_info(_GIVEN + name, element, None))
        for node in model.graph.node:
            for at, name in enumerate(node.input):
                if name in shown:
                    node.input[at] = _GIVEN + name
        self.parts = self._session(model, threads)

    def _session(self, model: Any, threads: int) -> Any:
        import onnxruntime

        return onnxruntime.InferenceSession(
            model.SerializeToString(), options(threads), providers=["CPUExecutionProvider"]
        )

    def __call__(self, inputs: Sequence[Array], given: Sequence[Array] | None) -> tuple[list[Array], list[Array]]:
        session = self.whole if given is None else self.parts
        kinds = {x.name: x.type for x in session.get_inputs()}
        feed = {name: cast(x, kinds[name]) for name, x in zip(self.inputs, inputs, strict=True)}
        if given is not None:
            feed |= {_GIVEN + name: q for name, q in zip(self.shown, given, strict=True)}
        values = [np.asarray(y) for y in session.run([*self.shown, *self.outputs], feed)]
        return values[: len(self.shown)], values[len(self.shown) :]
