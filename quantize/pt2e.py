"""PT2E: one quantised graph, made once, that every target converts.

Weights are int8, symmetric, per channel. Static activations are int8 per tensor with ranges from calibration data;
dynamic ones get their range as they arrive; weight-only leaves them alone. The annotations are ExecuTorch's
XNNPACKQuantizer's, the only ones that all four converters take with equal accuracy.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from edgepass.errors import RefusedError, not_imported
from edgepass.quantize.recipe import Recipe

ATEN = torch.ops.aten
# Operations with weights, and the ones that XNNPACK fuses into them. The rest of the graph stays float: a residual
# stream rounded to 8 bits at every add is where accuracy goes, and the adds are not where the time goes.
TRANSPOSED = {ATEN.conv_transpose1d.default, ATEN.conv_transpose2d.input}
WEIGHTED = {ATEN.linear.default, ATEN.conv1d.default, ATEN.conv2d.default, ATEN.convolution.default, *TRANSPOSED}
CONVOLUTIONS = frozenset(WEIGHTED - {ATEN.linear.default})
# Operations with weights that are quantised nowhere.
CUBIC = frozenset({ATEN.conv3d.default, ATEN.conv_transpose3d.input})
LOOKUPS = frozenset({ATEN.embedding.default, ATEN.embedding_bag.default, ATEN._embedding_bag.default})
PRODUCTS = frozenset({
    ATEN.matmul.default, ATEN.bmm.default, ATEN.mm.default, ATEN.einsum.default, ATEN.baddbmm.default,
    ATEN.addmm.default, ATEN.bilinear.default, ATEN.tensordot.default, ATEN.mv.default,
})  # fmt: skip
RECURRENT = frozenset({
    ATEN.lstm.input, ATEN.gru.input, ATEN.rnn_tanh.input, ATEN.rnn_relu.input,
    ATEN.lstm_cell.default, ATEN.gru_cell.default, ATEN.rnn_tanh_cell.default, ATEN.rnn_relu_cell.default,
})  # fmt: skip
FLOOR = 1e-9
"""The smallest step of an observed tensor; that of a tensor that is constant zero."""
CLIPS = {ATEN.hardtanh.default, ATEN.hardtanh_.default}
RELU6 = (0.0, 6.0)
FUSED = {ATEN.relu.default, ATEN.relu_.default, *CLIPS}


def prepare(module: GraphModule, recipe: Recipe, calibration: Iterable[tuple[Tensor, ...]] | None) -> GraphModule:
    """`module` with observers in, calibrated, ready for `convert`.

    calibration: argument tuples of the captured shapes. A static recipe needs real ones; any other needs one of any
    values, because observers of weights, too, look only when the graph runs.
    Raises InputError without calibration data, RefusedError when nothing can be quantised.
    """
    try:
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
    except ImportError as error:
        raise not_imported(error, "torchao or executorch", "quantize") from None
    recipe.check_calibration(given=bool(calibration))
    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=recipe.scheme == "dynamic")
    config = _for_small_signals(config)
    if recipe.scheme == "weight-only":
        quantizer = _weight_only(recipe, config.weight)
    else:
        quantizer = _quantizer()().set_global(config)
        quantizer.set_filter_function(lambda node: _wanted(node, recipe))
    prepared: GraphModule = prepare_pt2e(module, quantizer)
    with torch.no_grad():
        for args in calibration or ():
            prepared(*args)
    return prepared


def convert(prepared: GraphModule, *, fold: bool) -> GraphModule:
    """The quantised graph; consumes `prepared`.

    `fold`: hold int8 weights (ExecuTorch, Core ML, ONNX), or float ones on their grid behind a quantise (TFLite).
    Raises RefusedError when the model has no weight to quantise.
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    with nothing_trained():
        converted: GraphModule = convert_pt2e(prepared, fold_quantize=fold)
    if not any("quantize_per" in str(node.target) for node in converted.graph.nodes):
        raise RefusedError(
            "the recipe asks for int8 weights, but the model has no linear or convolution to make int8; take fp16"
        )
    return converted if fold else _on_grid(converted)


@contextmanager
def nothing_trained() -> Iterator[None]:
    """torchao 0.18 looks for what its training in int8 leaves around batch norms, a minute long if there is any."""
    from torchao.quantization.pt2e import quantize_pt2e

    looks = quantize_pt2e._fold_conv_bn_qat
    quantize_pt2e._fold_conv_bn_qat = lambda module: module
    try:
        yield
    finally:
        quantize_pt2e._fold_conv_bn_qat = looks


def _on_grid(module: GraphModule) -> GraphModule:
    """`module`, changed in place, with float weights that are what their int8 stands for.

    A converter that quantises them by itself rounds what lies between two steps, but for float32's own error, as it
    likes: of a million weights a few. Transposed convolutions are left, which TFLite's keeps in float.
    """
    ops = torch.ops.quantized_decomposed
    back: dict[Any, Any] = {
        ops.quantize_per_channel.default: ops.dequantize_per_channel.default,
        ops.quantize_per_tensor.default: ops.dequantize_per_tensor.default,
    }
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in module.graph.nodes:
        if node.op == "get_attr":
            readers[str(node.target)] += node.users
    for name, users in readers.items():
        if len(users) != 1 or users[0].target not in back:
            continue
        if any(reader.target in TRANSPOSED for whole in users[0].users for reader in whole.users):
            continue
        quantise: Any = users[0].target
        arguments = map_arg(users[0].args, lambda node: attrgetter(str(node.target))(module))
        owner, _, leaf = name.rpartition(".")
        with torch.no_grad():
            value = back[quantise](quantise(*arguments), *arguments[1:])
        setattr(module.get_submodule(owner), leaf, torch.nn.Parameter(value, requires_grad=False))
    return module


def _for_small_signals(config: Any) -> Any:
    """`config` with observers of steps down to FLOOR, where executorch's, of 2**-12, round away what is in volts."""
    changed: dict[str, Any] = {}
    for part in dataclasses.fields(config):
        spec = getattr(config, part.name)
        if (observer := getattr(spec, "observer_or_fake_quant_ctr", None)) is not None:
            made = observer.p  # a functools.partial
            finer = made.func.with_args(**{**made.keywords, "eps": FLOOR})
            changed[part.name] = dataclasses.replace(spec, observer_or_fake_quant_ctr=finer)
    return dataclasses.replace(config, **changed)


def _wanted(node: Node, recipe: Recipe) -> bool:
    if node.op == "get_attr" or node.target in FUSED:  # asked for as part of a weighted operation
        return True
    return node.target in WEIGHTED and not recipe.keeps(module_path(node))


def module_path(node: Node) -> str:
    """Dotted path of the innermost module that a graph node came from; empty for the model itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return str(paths[-1]).removeprefix("L['self'].").removeprefix("L__self___") if paths else ""


def _quantizer() -> Any:
    """ExecuTorch's quantiser, less its rewrite of scalars and most of its joints, with ReLU6 in its layers.

    It turns the scalar operands of every add and multiply into float tensors, integer index arithmetic included, after
    which an embedding fails with "tensors used as indices must be long"; no operation that we quantise has scalars.
    And it gives whatever is joined (`cat`) one range, wanted or not: class tokens, residuals, integers.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer

    class WeightedQuantizer(XNNPACKQuantizer):  # type: ignore[misc]  # executorch has no types
        SUPPORTED_PATTERNS: ClassVar = [p for p in XNNPACKQuantizer.SUPPORTED_PATTERNS if p.name != "cat"]

        def transform_for_annotation(self, model: GraphModule) -> GraphModule:
            return model

        def annotate(self, model: GraphModule) -> GraphModule:
            annotated: GraphModule = super().annotate(model)
            for node in annotated.graph.nodes:
                _clip(node)
            for node in annotated.graph.find_nodes(op="call_function", target=ATEN.cat.default):
                _join(node)
            return annotated

    return WeightedQuantizer


def _clip(node: Node) -> None:
    """Round what a layer gives behind its ReLU6, as behind a ReLU, and not before it too.

        before   layer ─ quantise(s) ─ dequantise(s) ─ hardtanh ─ quantise(s)        s: of all that the layer gives
        after    layer ─ hardtanh ─ quantise(t)                                      t: of what is between 0 and 6

    ExecuTorch's quantiser knows ReLU alone (is_relu_node, executorch 1.5.1), so that steps were several times as large
    as what is left is, and the clip an operation of its own. Of other bounds not every format has a fused clip.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec

    if node.target not in CLIPS or node.args[1:] != RELU6:
        return
    (layer,) = node.all_input_nodes
    annotation = layer.meta.get("quantization_annotation")
    if layer.target in WEIGHTED and len(layer.users) == 1 and annotation:
        spec = annotation.output_qspec
        if isinstance(spec, QuantizationSpec):
            layer.meta["quantization_annotation"] = dataclasses.replace(annotation, output_qspec=None)
            node.meta["quantization_annotation"] = QuantizationAnnotation(output_qspec=spec, _annotated=True)


def _join(node: Node) -> None:
    """Keep int8 what is joined of int8 for int8: the inputs, and so the joint, have one range."""
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, SharedQuantizationSpec

    def annotation(of: Node) -> Any:
        return of.meta.get("quantization_annotation")

    first, *rest = node.all_input_nodes
    made = all(annotation(source) and annotation(source).output_qspec for source in (first, *rest))
    read = all(annotation(user) and node in annotation(user).input_qspec_map for user in node.users)
    if made and read:
        shared = SharedQuantizationSpec((first, node))
        node.meta["quantization_annotation"] = QuantizationAnnotation(
            input_qspec_map={first: annotation(first).output_qspec, **dict.fromkeys(rest, shared)},
            output_qspec=shared,
            _annotated=True,
        )


def _weight_only(recipe: Recipe, weight: Any) -> Any:
    """A quantiser that annotates weights and nothing else; XNNPACKQuantizer always annotates activations too."""
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, Quantizer

    class WeightOnlyQuantizer(Quantizer):  # type: ignore[misc]  # torchao has no types
        def annotate(self, model: GraphModule) -> GraphModule:
            for node in model.graph.nodes:
                if _wanted(node, recipe) and node.target in WEIGHTED and node.args[1].op == "get_attr":
                    spec = dataclasses.replace(weight, ch_axis=1) if node.target in TRANSPOSED else weight
                    annotation = QuantizationAnnotation(input_qspec_map={node.args[1]: spec}, _annotated=True)
                    node.meta["quantization_annotation"] = annotation
            return model

        def validate(self, model: GraphModule) -> None:
            return None

    return WeightOnlyQuantizer()
