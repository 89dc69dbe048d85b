"""edgepass: a PyTorch model and a budget in, phone files and their proof out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepass.judging.gates import Gates
    from edgepass.judging.manifest import Manifest
    from edgepass.pipeline import build

__version__ = "0.1.0"
__all__ = ["Gates", "Manifest", "__version__", "build"]

_HOMES = {"Gates": "edgepass.judging.gates", "Manifest": "edgepass.judging.manifest", "build": "edgepass.pipeline"}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import edgepass` and `edgepass --help` import no torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgepass' has no attribute {name!r}")
