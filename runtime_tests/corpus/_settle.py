"""Batch statistics of a model that was never trained, as training would have left them."""

import torch
from torch import Tensor, nn

SMALL = 1e-3
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def settled(model: nn.Module, *batch: Tensor) -> nn.Module:
    """The model with the mean and variance of `batch`, [B, ...] each, in every batch norm, and no branch that is 0.

    Many an initialisation begins with residual branches scaled by 0 or 1e-6, so that the model computes little; such
    scales are drawn from [0.5, 1) here, and what training would have moved is not left at its trivial value.
    """
    with torch.no_grad():
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                is_scale = isinstance(module, NORMS) and name == "weight"
                if (is_scale or (weight.dim() <= 1 and "bias" not in name)) and bool((weight.abs() < SMALL).all()):
                    weight.uniform_(0.5, 1.0)
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms:
            momenta = [norm.momentum for norm in norms]
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the mean of all batches, of which there is one
            model.train()(*batch)
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return model.eval()
