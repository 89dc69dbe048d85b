"""A diagonal as every (width + 1)-th of a matrix in a row.

    before   x ─ diagonal(k) ─ y             after   x ─ [..., rows · columns] ─ slice(k :: columns + 1) ─ y

coremltools 9.0 knows the main diagonal of the first two dimensions alone, and makes a matrix of `diag`'s.
"""

import torch
from torch import Tensor

from edgepass.rewrites import LEFT_ALONE


def diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of `dim1` by `dim2`, `offset` above the main one, as the last dimension, as torch.diagonal."""
    rows, columns = x.shape[dim1], x.shape[dim2]
    if isinstance(rows, torch.SymInt) or isinstance(columns, torch.SymInt):
        return LEFT_ALONE
    length = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    start = offset if offset >= 0 else -offset * columns
    row = x.movedim((dim1, dim2), (-2, -1)).flatten(-2)
    if not length:
        return row.narrow(-1, 0, 0)
    every: Tensor = torch.ops.aten.slice.Tensor(row, -1, start, start + (length - 1) * (columns + 1) + 1, columns + 1)
    return every


def diag(x: Tensor, offset: int = 0) -> Tensor:
    """The diagonal of a matrix, as torch.diag; the matrix of a diagonal is left as it is."""
    return diagonal(x, offset) if x.dim() == 2 else LEFT_ALONE


TABLE = {torch.ops.aten.diagonal.default: diagonal, torch.ops.aten.diag.default: diag}
