"""Products of float16 that are summed in float16 too, as processors do that compute in it.

torch sums x_1 w_1 + … + x_K w_K in float32 and rounds once. A processor with float16 arithmetic adds term after term,
and rounds after each: y = half(y + x_k w_k), K times (fused multiply-add, IEEE 754-2019, 5.4.1). So do the float16
kernels of XNNPACK where they find one, and the noise of a wide layer is 10 to 27 dB larger for it:
`python -m runtime_tests.bench.halves` measures both.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import ceil, prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten
CHUNKS = 8
"""Parts that a sum is taken in. Only their ends are rounded, by as much more as what they stand for."""


class SumsInHalves(nn.Module):
    """`module` with every product of float16 matrices summed in float16."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any) -> Any:
        """What `module` gives, shapes and types as there."""
        with _composed(), _InHalves():  # type: ignore[no-untyped-call]
            return self.module(*inputs)


@contextmanager
def _composed() -> Iterator[None]:
    """Attention and recurrent layers come to products of matrices, and attention computes in what it is given."""
    cuda, mkldnn = torch.backends.cuda, torch.backends.mkldnn
    allowed = cuda.fp16_bf16_reduction_math_sdp_allowed()  # asked on every device, whatever its name says
    cuda.allow_fp16_bf16_reduction_math_sdp(True)
    enabled, *_ = mkldnn.set_flags(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mkldnn.set_flags(enabled)
        cuda.allow_fp16_bf16_reduction_math_sdp(allowed)


class _InHalves(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        halves = all(a.dtype == torch.float16 for a in args if isinstance(a, Tensor))
        compute = PRODUCTS.get(func, func) if halves else func
        return compute(*args, **(kwargs or {}))


def _matmul(x: Tensor, w: Tensor, start: Tensor | None = None) -> Tensor:
    """x [..., m, k] times w [..., k, n], added to `start` of that shape."""
    chunk = ceil(x.shape[-1] / CHUNKS)
    parts = (a.float() @ b.float() for a, b in zip(x.split(chunk, -1), w.split(chunk, -2), strict=True))
    return _sum(parts, chunk, start)


def _addmm(start: Tensor, x: Tensor, w: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta start + alpha x w."""
    return _matmul(alpha * x, w, beta * start)


def _mv(x: Tensor, w: Tensor) -> Tensor:
    """x [m, k] times w [k]."""
    return _matmul(x, w[:, None])[:, 0]


def _addmv(start: Tensor, x: Tensor, w: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta start + alpha x w, w a vector."""
    return beta * start + _mv(alpha * x, w)


def _dot(x: Tensor, w: Tensor) -> Tensor:
    """x [k] times w [k]."""
    return _mv(x[None], w)[0]


def _convolution(x: Tensor, w: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
    """x [batch, channels, ...] with w [out, channels / groups, ...], or [channels, out / groups, ...] transposed.

    `settings` as aten.convolution has them.
    """
    stride, _, _, transposed, _, groups = settings
    channels = x.shape[1] // groups
    chunk = ceil(channels / CHUNKS)
    x = x.unflatten(1, (groups, channels))
    w = w.unflatten(0, (groups, channels)) if transposed else w[None]
    parts = (
        ATEN.convolution(a.flatten(1, 2).float(), b.flatten(0, 1).float(), None, *settings)
        for a, b in zip(x.split(chunk, 2), w.split(chunk, 1 if transposed else 2), strict=True)
    )
    taps = prod(w.shape[3:]) / (prod(stride) if transposed else 1)
    start = None if bias is None else bias.reshape(-1, *[1] * (w.ndim - 3))
    return _sum(parts, max(1.0, chunk * taps), start)


PRODUCTS: dict[OpOverload, Any] = {
    ATEN.mm.default: _matmul,
    ATEN.bmm.default: _matmul,
    ATEN.addmm.default: _addmm,
    ATEN.baddbmm.default: _addmm,
    ATEN.mv.default: _mv,
    ATEN.addmv.default: _addmv,
    ATEN.dot.default: _dot,
    ATEN.convolution.default: _convolution,
}
"""What all products come to below torch's own compositions."""


def _sum(parts: Iterable[Tensor], terms: float, start: Tensor | None) -> Tensor:
    """The sum of `start` and of the float32 `parts`, each of `terms` terms, as float16 gives it.

    The roundings within a part are independent, and as large as the sum is there. The one at its end stands for all of
    them: sqrt(terms) times as large; after the first part, in which the sum grows from nothing, with half that power.
    """
    total = torch.zeros(()) if start is None else start.float()
    for number, part in enumerate(parts):
        total = total + part
        rounded = total.half().float()
        total = torch.lerp(total, rounded, sqrt(terms if number else (terms + 1) / 2))
        total = torch.where(rounded.isfinite(), total, rounded)
    return total.half()
