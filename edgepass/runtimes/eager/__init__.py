"""Eager: runs a torch.export program (.pt2) in PyTorch; the float32 reference beside which files are judged."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from edgepass.judging.manifest import Evidence
from edgepass.runtimes import Array, Contents, Session, _torch, method_of

extra = "quantize"
suffix = ".pt2"
prepare_reading = None
cut = None


def prepare(path: Path) -> None:
    """Import PyTorch, and load and run a program of one operation, so that what torch imports on first use is in."""
    import torch

    class Negate(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -x

    buffer = BytesIO()
    torch.export.save(torch.export.export(Negate(), (torch.zeros(1),)), buffer)
    buffer.seek(0)
    with torch.inference_mode():
        torch.export.load(buffer).module()(torch.zeros(1))


class _Session:
    evidence: Evidence = "host runtime"

    def __init__(self, path: Path, threads: int) -> None:
        import torch

        from edgepass.runtimes.eager._archive import load_program

        torch.set_num_threads(threads)
        self.module = load_program(path).module()

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        import torch
        from torch.utils._pytree import tree_leaves

        with torch.inference_mode():
            outputs = self.module(*(_torch.tensor(x) for x in inputs))
        return [_torch.array(y) for y in tree_leaves(outputs)]


def load(path: Path, threads: int, method: str = "") -> Session:
    """Load the program; ArtifactError for an archive that would run code of its own (see `_archive.py`)."""
    method_of(path, method, ())
    return _Session(path, threads)


def inspect(path: Path, method: str = "") -> Contents:
    """Weights and operations of the program. Nothing is planned and nothing is delegated in eager PyTorch."""
    from edgepass.runtimes.eager._archive import inspect as read

    method_of(path, method, ())
    return read(path)
