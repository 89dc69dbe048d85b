"""Operations that a converter does not know, told by their names in the place of what it raises of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch.export import ExportedProgram
from torch.fx import Node

from edgepass import rewrites
from edgepass.errors import EdgepassError, RefusedError, listed
from edgepass.exporters import Job
from edgepass.exporters._origin import origin


@contextmanager
def told(target: str, job: Job, program: ExportedProgram, knows: Callable[[Node], bool]) -> Iterator[None]:
    """While `program`, all of whose operations should be known, is converted to a file of `target`.

    Raises RefusedError in the place of another error where some are not.
    """
    try:
        yield
    except (EdgepassError, MemoryError):
        raise
    except Exception as error:  # whatever a converter raises for an operation that it does not know
        lacking = rewrites.unknown(program, knows)
        if not lacking:
            raise
        raise refusal(target, job, sorted(str(operation) for operation in lacking)) from error


def refusal(target: str, job: Job, names: list[str]) -> RefusedError:
    """Why there is no file of `target`: operations that it has in no form, by their names (`aten.cholesky.default`)."""
    where = origin(job.program.bare or job.program.exported, " ".join(names))
    said = [name.removesuffix(".default") for name in names]
    return RefusedError(
        f"{target} cannot convert the model{where}: it has no {listed(said)}, nor is there a form of it in operations "
        "that it has; compute that outside the model or otherwise, or name the other targets with --target"
    )
