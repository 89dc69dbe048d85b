"""Depthwise convolution that sees no later token, or none but later ones.

It is two-dimensional with one row. ExecuTorch cannot make a one-dimensional kernel two-dimensional, as XNNPACK wants
it, where the kernel is a constant that is not in the state; and where the row comes after the padding, it writes int8
files that do not load.

Shapes: B batch, D channels, N tokens, K taps.
"""

from torch import Tensor
from torch.nn import functional


def conv(x_BDN: Tensor, kernel_D11K: Tensor, bias_D: Tensor | None = None, *, back: bool = False) -> Tensor:
    """x_BDN -> y_BDN; token n sees n - K + 1 ... n, or with `back` n ... n + K - 1, and zeros beyond the ends."""
    dim, taps = kernel_D11K.shape[0], kernel_D11K.shape[-1]
    x_BD1N = x_BDN.reshape(-1, dim, 1, x_BDN.shape[-1])
    if taps > 1:
        x_BD1N = functional.pad(x_BD1N, (0, taps - 1) if back else (taps - 1, 0))
    y_BD1N = functional.conv2d(x_BD1N, kernel_D11K, bias_D, groups=dim)
    return y_BD1N.reshape(-1, *x_BDN.shape[1:])
