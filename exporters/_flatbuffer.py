"""What converters leave to be put right in the flatbuffer of a .tflite."""

import math
import re
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import numpy as np

from edgepass.exporters._apart import Cut
from edgepass.quantize import weights
from edgepass.quantize.weights import Array

# A per-channel hybrid FULLY_CONNECTED came with this version. Under a lower number, which ai-edge-quantizer leaves in
# place, TFLite 2.14 loads the file and gives one and the same output for every input.
HYBRID_PER_CHANNEL = 12
NUMBERED = re.compile(rb"(?:args|output)_(\d+)")


def raise_version(content: bytes) -> tuple[bytes, list[str]]:
    """The file with FULLY_CONNECTED at the version that its int8 weights need, so that old runtimes refuse it."""
    from ai_edge_litert import schema_py_generated as schema

    model = parsed(content)
    raised = 0
    for code in model.operatorCodes or ():
        is_linear = max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.FULLY_CONNECTED
        if is_linear and code.version < HYBRID_PER_CHANNEL:
            code.version, raised = HYBRID_PER_CHANNEL, raised + 1
    if not raised:
        return content, []
    note = f"FULLY_CONNECTED raised to version {HYBRID_PER_CHANNEL}, so that TFLite 2.14 and older refuse the file"
    return packed(model), [f"{note} rather than misread it"]


def readers(content: bytes, values: Sequence[Array]) -> list[str]:
    """The first outputs' names of the operations that read one of these float32 constants."""
    if not values:
        return []
    model, sizes = parsed(content), {value.size for value in values}
    found: list[str] = []
    for graph in model.subgraphs:
        held = {
            index
            for index, tensor in enumerate(graph.tensors)
            if math.prod(int(n) for n in tensor.shape) in sizes
            and (constant := _float32(model, tensor)) is not None
            and weights.same(constant, values)
        }
        found += [
            graph.tensors[operator.outputs[0]].name.decode()
            for operator in graph.operators
            if held.intersection(int(i) for i in operator.inputs)
        ]
    return found


def _float32(model: Any, tensor: Any) -> Array | None:
    """The values of a constant; None where it is none, or not of float32."""
    from ai_edge_litert.schema_py_generated import TensorType

    data = model.buffers[tensor.buffer].data
    if tensor.type != TensorType.FLOAT32 or data is None or not len(data):
        return None
    return np.asarray(data, np.uint8).view(np.float32)


def float_ends(content: bytes) -> bytes:
    """The file with float32 inputs and outputs where the converter has made them int8.

    It quantises an end of the model wherever the layer next to it is int8. A caller would have to know the scale of
    each, and could not hand the state that one call gives to the next. What it has made int8 for a layer alone is given
    as it was before that: a state keeps its float32 values.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = parsed(content)
    for number, graph in enumerate(model.subgraphs):
        into: dict[int, int] = {}
        out: dict[int, int] = {}
        before = _before_quantise(model, graph)
        for ends, moved in ((graph.inputs, into), (graph.outputs, out)):
            for index in {int(i) for i in ends if _is_quantised(graph.tensors[i])} - before.keys():
                graph.tensors.append(_outside(graph.tensors[index]))
                moved[index] = len(graph.tensors) - 1
        quantise = [_operator(model, schema.BuiltinOperator.QUANTIZE, new, old) for old, new in into.items()]
        restore = [_operator(model, schema.BuiltinOperator.DEQUANTIZE, old, new) for old, new in out.items()]
        out |= before
        graph.inputs = [into.get(int(i), int(i)) for i in graph.inputs]
        graph.outputs = [out.get(int(i), int(i)) for i in graph.outputs]
        graph.operators = quantise + list(graph.operators) + restore
        for signature in model.signatureDefs or ():
            if signature.subgraphIndex == number:
                for maps, moved in ((signature.inputs, into), (signature.outputs, out)):
                    for entry in maps or ():
                        entry.tensorIndex = moved.get(entry.tensorIndex, entry.tensorIndex)
    return packed(model)


def joined(content: bytes, cut: Cut) -> bytes:
    """The file with its inputs and outputs as they were before its graph was cut."""
    if not cut.copies and not cut.joints:
        return content
    model = parsed(content)
    graph = model.subgraphs[0]
    inputs, outputs = [int(i) for i in graph.inputs], [int(i) for i in graph.outputs]
    sources = [*(inputs[number] for number in cut.copies), *(outputs[number] for number in cut.joints)]
    own = len(inputs) - len(sources)
    meant = dict(zip(inputs[own:], sources, strict=True))
    # A number that came back may have gone through as it is, once or more often.
    one = {index: _last(meant, index) for index in meant}
    graph.inputs = inputs[:own]
    graph.outputs = [one.get(i, i) for i in outputs[: cut.outputs]]
    for operator in graph.operators:
        operator.inputs = [one.get(int(i), int(i)) for i in operator.inputs]
    graph.operators = _in_order(graph)
    for signature in model.signatureDefs or ():
        if signature.subgraphIndex == 0:
            signature.inputs = [entry for entry in signature.inputs if entry.tensorIndex not in one]
            signature.outputs = [entry for entry in signature.outputs if _place(entry.name) < cut.outputs]
            for entry in signature.outputs:
                entry.tensorIndex = one.get(entry.tensorIndex, entry.tensorIndex)
    return packed(model)


def _last(meant: Mapping[int, int], index: int) -> int:
    while index in meant:
        index = meant[index]
    return index


def _in_order(graph: Any) -> list[Any]:
    """The operators of a graph, each behind those whose results it reads."""
    makers = {int(index): number for number, operator in enumerate(graph.operators) for index in operator.outputs}
    before = {
        number: {makers[int(i)] for i in operator.inputs if int(i) in makers}
        for number, operator in enumerate(graph.operators)
    }
    return [graph.operators[number] for number in TopologicalSorter(before).static_order()]


def _place(name: bytes) -> int:
    """The number in the name of an input or output, as litert-torch writes it; -1 without one."""
    found = NUMBERED.fullmatch(name)
    return int(found[1]) if found else -1


def named(content: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The file with these names in its signature, in the place of args_0 and output_0, which are numbers."""
    model = parsed(content)
    for signature in model.signatureDefs or ():
        for entries, names in ((signature.inputs, inputs), (signature.outputs, outputs)):
            for entry in entries or ():
                if 0 <= (place := _place(entry.name)) < len(names):
                    entry.name = names[place].encode()
    return packed(model)


def _before_quantise(model: Any, graph: Any) -> dict[int, int]:
    """The float32 tensor that each int8 output was made of, which it is the quantised form of."""
    from ai_edge_litert import schema_py_generated as schema

    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    made = {
        int(operator.outputs[0]): int(operator.inputs[0])
        for operator in graph.operators
        if codes[operator.opcodeIndex] == schema.BuiltinOperator.QUANTIZE
    }
    ends = {int(i) for i in graph.inputs} | {int(i) for i in graph.outputs}
    found: dict[int, int] = {}
    for index in {int(i) for i in graph.outputs} & made.keys():
        tensor = graph.tensors[made[index]]
        if tensor.type == schema.TensorType.FLOAT32 and made[index] not in ends | set(found.values()):
            tensor.name, graph.tensors[index].name = graph.tensors[index].name, tensor.name
            found[index] = made[index]
    return found


def parsed(content: bytes) -> Any:
    """The file, with all that it holds.

    ai-edge-quantizer puts weights of 256 KiB and more behind the flatbuffer, and says where; packed again they would
    lie elsewhere (model_modifier.py, 0.10).
    """
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0: none; 1: room for one
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def _is_quantised(tensor: Any) -> bool:
    from ai_edge_litert.schema_py_generated import TensorType

    scales = getattr(tensor.quantization, "scale", None)
    return tensor.type == TensorType.INT8 and scales is not None and len(scales) > 0


def _outside(tensor: Any) -> Any:
    """A float32 tensor of the same shape, that takes over the name by which callers know it."""
    from ai_edge_litert import schema_py_generated as schema

    outside: Any = schema.TensorT()
    outside.type, outside.shape, outside.shapeSignature = schema.TensorType.FLOAT32, tensor.shape, tensor.shapeSignature
    outside.hasRank = tensor.hasRank
    outside.name, tensor.name = tensor.name, tensor.name + b"_int8"
    return outside


def _operator(model: Any, builtin: int, source: int, result: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    if builtin not in codes:
        code: Any = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        model.operatorCodes.append(code)
        codes.append(builtin)
    operator: Any = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = codes.index(builtin), [source], [result]
    return operator


def packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
