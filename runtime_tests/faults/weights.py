"""In the file: one square weight, found by its bytes."""

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from edgepass.runtimes import Array
from runtime_tests.faults.fault import INT8, Fault, lister

FAULTS: list[Fault] = []
fault = lister(FAULTS)


@dataclass(frozen=True, kw_only=True)
class Held:
    """A weight as a file has it: the numbers of its own format, and for int8 a scale for each row."""

    model: Array
    stored: Array
    scale: Array | None

    @property
    def exact(self) -> Array:
        """What the model's weight is on the grid, unrounded."""
        return self.model if self.scale is None else self.model / self.scale[:, None]


Change = tuple[Array, Array]


@fault("weight")
def scale_up_by_a_tenth(held: Held) -> Change:
    """One weight is 1.1 times what it is, by its scale where it has one."""
    before = held.stored if held.scale is None else held.scale
    return before, before * before.dtype.type(1.1)


@fault("weight")
def scale_up_by_a_fiftieth(held: Held) -> Change:
    """One weight is 1.02 times what it is."""
    before = held.stored if held.scale is None else held.scale
    return before, before * before.dtype.type(1.02)


@fault("weight")
def square_weight_transposed(held: Held) -> Change:
    """A weight of 16 by 16 lies transposed."""
    return held.stored, held.stored.T


@fault("weight")
def channel_dead(held: Held) -> Change:
    """One row of a weight is zero."""
    after = held.stored.copy()
    after[3] = 0
    return held.stored, after


@fault("weight")
def rows_swapped(held: Held) -> Change:
    """Two rows of a weight change places."""
    after = held.stored.copy()
    after[[2, 5]] = after[[5, 2]]
    return held.stored, after


@fault("weight")
def sign_of_one_value(held: Held) -> Change:
    """The largest value of a weight has the other sign."""
    after = held.stored.copy()
    place = np.unravel_index(np.abs(after.astype(np.float32)).argmax(), after.shape)
    after[place] = -after[place]
    return held.stored, after


@fault("weight", recipes=INT8)
def grid_halved(held: Held) -> Change:
    """The last bit of every int8 value is zero."""
    return held.stored, held.stored & ~np.int8(1)


@fault("weight", recipes=INT8)
def rounded_towards_zero(held: Held) -> Change:
    """Values are cut to the grid, not rounded to the nearest."""
    return held.stored, np.trunc(held.exact).astype(np.int8)


@fault("weight", recipes=INT8)
def one_scale_for_all_rows(held: Held) -> Change:
    """Every row is read with the scale of the first."""
    assert held.scale is not None
    return held.scale, np.full_like(held.scale, held.scale[0])


@fault("weight", recipes=("fp32",))
def float16_in_float32(held: Held) -> Change:
    """The values of a float32 weight are those of float16."""
    return held.stored, held.stored.astype(np.float16).astype(np.float32)


def replace_bytes(path: Path, before: Array, after: Array) -> None:
    """Wherever the array lies in a file, or in a package, in any order of its axes. Raises LookupError if nowhere."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        content = file.read_bytes()
        for axes in permutations(range(before.ndim)):
            old, new = (np.ascontiguousarray(a.transpose(axes)).tobytes() for a in (before, after))
            if old in content:
                file.write_bytes(content.replace(old, new))
                return
    raise LookupError(f"{path.name} holds no such array")
