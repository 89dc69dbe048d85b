"""The address space that a converter needs: one that is given too little does not fail, but asks for it again for ever.

`ulimit -v` bounds it, for the shell and for all that is started from it. Code that is loaded, the stacks of threads and
what allocators set aside count, so a conversion needs several times the memory that it takes.
"""

import resource

from torch import Tensor
from torch.export import ExportedProgram

from edgepass.errors import UnloadableError

GIB = 1 << 30
COPIES = 9
"""Of the weights that a conversion holds at once, at most: of 67 MB 8.7 for an .onnx and 4 for the others."""


def check(name: str, space: int, program: ExportedProgram) -> None:
    """Raise UnloadableError where this shell allows less than `space`, and the copies of the program's weights."""
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    held = (*program.state_dict.values(), *program.constants.values())
    needed = space + COPIES * sum(t.nbytes for t in held if isinstance(t, Tensor))
    if allowed == resource.RLIM_INFINITY or allowed >= needed:
        return
    raise UnloadableError(
        f"{name} cannot convert in the {allowed / GIB:.3g} GiB of address space that this shell allows (ulimit -v "
        f"{allowed // 1024}), for it needs {needed / GIB:.3g} GiB for this model; say `ulimit -v unlimited` first"
    )
