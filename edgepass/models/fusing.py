"""A model whose passes are one operation each, the one that a GPU kernel runs, wherever they are of its form."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from edgepass.kernels.fused_pass import fused_pass, names
from edgepass.models import parts
from edgepass.models.channel_mixers import feed_forward, gated
from edgepass.models.mixers import local_attention
from edgepass.models.passes import Pass


class FusedPass(nn.Module):
    """A Pass in one operation: x_BND -> x_BND. Scales of channels are taken into the weights before them."""

    def __init__(self, whole: Pass) -> None:
        super().__init__()
        why = unfit(whole)
        parts.must(not why, f"this pass cannot be fused: {why}")
        mixer: Any = whole.mixer
        channels: Any = whole.channel_mixer
        norms: Any = whole.norm_mix, whole.norm_feed
        self.skip, self.heads, self.window, self.eps = whole.skip, mixer.heads, mixer.window, norms[0].eps
        self.gate, self.gated = whole.gate is not None, isinstance(channels, gated.Mixer)
        modules = {
            "norm_mix": norms[0],
            "query": mixer.query,
            "key": mixer.key,
            "value": mixer.value,
            "gate": whole.gate,
            "out": _scaled(mixer.out, whole.scale_mix),
            "norm_feed": norms[1],
            "widen": channels.gate if self.gated else channels.widen,
            "multiply": channels.value if self.gated else None,
            "narrow": _scaled(channels.narrow, whole.scale_feed),
        }
        self.layers = nn.ModuleDict({name: module for name, module in modules.items() if module is not None})

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        order = names(gate=self.gate, gated=self.gated, rms=False)
        weights = [self.layers.get_parameter(name) for name in order]
        form = (self.heads, self.window, False, self.gate, self.gated, False, self.skip, self.eps)
        y_BND: Tensor = fused_pass(x_BND, weights, *form)
        return y_BND


def fused(model: nn.Module) -> nn.Module:
    """A copy of `model` in evaluation mode whose passes are one operation each, where they can be.

    Raises InputError where none can, with what stands against the first.
    """
    copied = copy.deepcopy(model).eval()
    found = [
        (parent, name, child)
        for parent in copied.modules()
        for name, child in parent.named_children()
        if isinstance(child, Pass)
    ]
    parts.must(bool(found), "the model has no passes to fuse; it is none of ours, or was fused before")
    fitting = [(parent, name, child) for parent, name, child in found if not unfit(child)]
    parts.must(bool(fitting), f"no pass of the model can be fused: {unfit(found[0][2])}")
    once = {child: FusedPass(child) for _, _, child in fitting}  # a pass that is used twice stays one
    for parent, name, child in fitting:
        setattr(parent, name, once[child])
    return copied


def unfit(whole: Pass) -> str:
    """What stands against fusing a pass, in words; empty where nothing does."""
    mixer, channels = whole.mixer, whole.channel_mixer
    if type(mixer) is not local_attention.Mixer:
        return "its mixer is not local_attention"
    if mixer.query.out_features != whole.tokens.dim:
        return "its heads are wider or narrower than the channels together"
    if type(channels) is gated.Mixer and channels.activation != "silu":
        return f"its gated channel mixer has {channels.activation} and not silu"
    if type(channels) not in (feed_forward.Mixer, gated.Mixer):
        return "its channel mixer is neither feed_forward nor gated"
    if whole.norm_mix is None or whole.norm_feed is None:
        return "it has no norm"
    return "it has a gate of the whole pass" if whole.whole_gate is not None else ""


def _scaled(layer: nn.Linear, scale_D: Tensor | None) -> nn.Linear:
    """`layer`, or a copy of it with each of its outputs times a scale."""
    if scale_D is None:
        return layer
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        layer.weight.mul_(scale_D[:, None])
        layer.bias.mul_(scale_D)
    return layer
