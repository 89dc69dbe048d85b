"""Between NumPy and torch, for the runtimes that take torch's tensors. torch itself is imported only when needed."""

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepass.runtimes import Array

if TYPE_CHECKING:
    from torch import Tensor


def tensor(x: Array) -> "Tensor":
    """The array as a tensor of its shape and dtype."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(x).reshape(x.shape))  # the former makes a scalar a vector


def array(y: Any) -> Array:
    """An output as an array: half precision as float32, a number as an array without dimensions."""
    import torch

    if not isinstance(y, torch.Tensor):
        return np.asarray(y)
    return np.asarray((y.float() if y.dtype in {torch.float16, torch.bfloat16} else y).numpy())
