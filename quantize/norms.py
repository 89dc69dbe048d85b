"""Batch norms as part of the layers that they follow: W' = W g, b' = (b - mean) g + β, with g = γ / sqrt(variance + ε).

    before   x ─ conv(W, b) ─ batch_norm ─ y         after   x ─ conv(W', b') ─ y

To be done before numbers are made float16: W' is rounded once, where a runtime that folds halves has W, γ and the
variance rounded too, and one that folds nothing rounds between the two.

MobileNetV2 has 4 dB more for it as a .pte, and 9 as an .onnx (bench.corpus). Rounded weights are the same for every
sample, so that their errors add up or cancel: a single network may also lose by it, as a small DenseNet does.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgepass.quantize.pt2e import ATEN, CUBIC, TRANSPOSED, WEIGHTED, module_path
from edgepass.quantize.recipe import Recipe

BATCH_NORM, LINEAR = ATEN.batch_norm.default, ATEN.linear.default
LAYERS = WEIGHTED - {ATEN.convolution.default} | CUBIC
INPUTS_FIRST = TRANSPOSED | {ATEN.conv_transpose3d.input}
"""Layers of weights [inputs, outputs of a group, ...], whose seventh argument is the number of groups, if given."""


def fold(module: GraphModule, recipe: Recipe) -> GraphModule:
    """`module`, changed in place, less each batch norm that alone reads a layer; what `recipe` keeps stays as it is.

    Layers that share a weight are all followed by one norm, or by none that is folded.
    """
    for layer in list(module.graph.nodes):
        if layer.target in LAYERS:
            alike = list(layer.args[1].users)
            if all(_fits(other, layer, recipe) for other in alike):
                _fold(module, alike)
    module.graph.lint()
    module.recompile()
    return module


def of_outputs(layer: Node) -> bool:
    """Whether a batch norm behind `layer` has its outputs for channels, which are the second dimension, always."""
    return bool(layer.target != LINEAR or layer.meta["val"].dim() == 2)


def _fits(other: Node, layer: Node, recipe: Recipe) -> bool:
    """Whether `other` has the weight and bias of `layer`, and a norm of constants behind it that is all that reads it.

    A norm of a batch's own statistics is none.
    """
    norms: list[Any] = list(other.users)
    if other.target != layer.target or _parameters(other) != _parameters(layer) or not of_outputs(other):
        return False
    if len(norms) != 1 or norms[0].target != BATCH_NORM or norms[0].args[5]:
        return False
    followed = [user.args[1:] for user in layer.users] == [norms[0].args[1:]]
    constant = all(p is None or p.op == "get_attr" for p in (*_parameters(other), *norms[0].args[1:5]))
    return followed and constant and not any(recipe.keeps(module_path(node)) for node in (other, norms[0]))


def _parameters(layer: Node) -> tuple[Any, Any]:
    """Nodes of weight and bias; None for a bias that is not there."""
    rest: list[Any]
    _, weight, *rest = layer.args
    return weight, rest[0] if rest else None


def _fold(module: GraphModule, layers: list[Node]) -> None:
    """The norm of `layers`, which have the same parameters, into their weight and into a bias that is theirs alone."""
    norm: Any = next(iter(layers[0].users))
    weight, bias = _parameters(layers[0])
    w, b, gamma, beta, mean, variance = (_value(module, node) for node in (weight, bias, *norm.args[1:5]))
    with torch.no_grad():
        gain = torch.rsqrt(variance + norm.args[7]) * (1 if gamma is None else gamma)
        shift = ((0 if b is None else b) - mean) * gain + (0 if beta is None else beta)
        _put(module, str(weight.target), _times(w, gain, layers[0]))
    own = bool(bias) and set(bias.users) <= set(layers)
    name = str(bias.target) if own else f"{weight.target}_bias"
    _put(module, name, shift)
    if not own:
        with module.graph.inserting_after(weight):
            bias = module.graph.get_attr(name)
        bias.meta = dict(norm.args[3].meta)  # the mean's, which is of the same shape
    for layer in layers:
        layer.args = (*layer.args[:2], bias, *layer.args[3:])
        (behind,) = layer.users
        behind.replace_all_uses_with(layer)
        module.graph.erase_node(behind)


def _times(weight: Tensor, gain: Tensor, layer: Any) -> Tensor:
    """`weight` of `layer` with each of its outputs times its gain."""
    if layer.target not in INPUTS_FIRST:
        return weight * gain.reshape(-1, *[1] * (weight.dim() - 1))
    groups = layer.args[6] if len(layer.args) > 6 else 1
    split: Tensor = weight.unflatten(0, (groups, -1)) * gain.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))
    return split.flatten(0, 1)


def _value(module: GraphModule, node: Any) -> Any:
    return None if node is None else attrgetter(str(node.target))(module)


def _put(module: GraphModule, name: str, value: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
