"""A whole pass as one operation: norm, attention in windows, gate, skip, norm, feed-forward, skip.

    n = norm_1(x),    a = x + sigmoid(W_g n + b_g) * (W_o attend(W_q n + b_q, W_k n + b_k, W_v n + b_v) + b_o)
    y = a + W_2 f(norm_2(a)) + b_2,    f(m) = gelu(W_1 m + b_1), or silu(W_1 m + b_1) * (W_3 m + b_3) where it is gated

attend is attention inside windows of neighbouring tokens, per head; the last window is shorter where they do not divide
the sequence, and with `causal` no token sees a later one. Without `gate` the factor sigmoid(...) is 1; without `skip`
the terms `x +` and `a +` are gone. The norm is the layer norm, or the RMS norm with `rms`.

`edgepass::fused_pass` computes this formula on every device that has no kernel of its own; gradients go through it,
computed anew. The length of the sequence and the batch may vary from call to call.

Shapes: B batch, N tokens, D channels, H heads, E = D / H, W window, F hidden; x, n, a and y are [B, N, D]; weights are
[out, in].
Sources: Vaswani et al., "Attention Is All You Need", 2017; the gated feed-forward: Shazeer, "GLU Variants Improve
Transformer", 2020.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgepass.kernels import windows
from edgepass.models import folds


def names(*, gate: bool, gated: bool, rms: bool) -> tuple[str, ...]:
    """What the tensors of `weights` are, in their order."""
    norm = ("weight",) if rms else ("weight", "bias")
    linears = ["query", "key", "value", *(["gate"] if gate else []), "out"]
    feed = ["widen", *(["multiply"] if gated else []), "narrow"]
    both = ("weight", "bias")
    groups = (("norm_mix", norm), *((n, both) for n in linears), ("norm_feed", norm), *((n, both) for n in feed))
    return tuple(f"{group}.{part}" for group, parts in groups for part in parts)


def formula(
    x: Tensor,
    weights: Sequence[Tensor],
    heads: int,
    window: int,
    causal: bool,
    gate: bool,
    gated: bool,
    rms: bool,
    skip: bool,
    eps: float,
) -> Tensor:
    """x_BND -> y_BND. `weights` are the tensors of `names`."""
    w = dict(zip(names(gate=gate, gated=gated, rms=rms), weights, strict=True))

    def linear(name: str, x_BNI: Tensor) -> Tensor:
        return functional.linear(x_BNI, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(name: str, x_BND: Tensor) -> Tensor:
        scale_D = w[f"{name}.weight"]
        if rms:
            return functional.rms_norm(x_BND, scale_D.shape, scale_D, eps)
        return functional.layer_norm(x_BND, scale_D.shape, scale_D, w[f"{name}.bias"], eps)

    n_BND = norm("norm_mix", x)
    q_BHNE, k_BHNE, v_BHNE = (folds.split(linear(name, n_BND), heads) for name in ("query", "key", "value"))
    mixed_BND = linear("out", folds.join(windows.attend(q_BHNE, k_BHNE, v_BHNE, window, causal=causal)))
    if gate:
        mixed_BND = mixed_BND * torch.sigmoid(linear("gate", n_BND))
    a_BND = x + mixed_BND if skip else mixed_BND
    m_BND = norm("norm_feed", a_BND)
    h_BNF = linear("widen", m_BND)
    h_BNF = functional.silu(h_BNF) * linear("multiply", m_BND) if gated else functional.gelu(h_BNF)
    y_BND = linear("narrow", h_BNF)
    return a_BND + y_BND if skip else y_BND


fused_pass = torch.library.custom_op("edgepass::fused_pass", formula, mutates_args=())


@fused_pass.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weights, *ctx.form = inputs
    ctx.save_for_backward(x, *weights)


def _backward(ctx: Any, grad_BND: Tensor) -> tuple[Any, ...]:
    """Through the formula, computed anew: one pass of activations is never kept."""
    x, *weights = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
    with torch.enable_grad():
        y_BND = formula(x, weights, *ctx.form)
    grad_x, *grads = torch.autograd.grad(y_BND, (x, *weights), grad_BND)
    return grad_x, grads, *(None for _ in ctx.form)


fused_pass.register_autograd(_backward, setup_context=_keep)
