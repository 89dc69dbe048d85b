"""Models that nobody here wrote, a file each: to add one is to add a file that holds a `MODEL`.

They are built from timm, transformers, torch and facenet-pytorch, small: few layers, few pixels. Most have random
weights, settled so that every layer changes something; a dozen are trained on the spot, and three come with weights.
"""

from importlib import import_module
from pathlib import Path

from runtime_tests.corpus._foreign import Foreign


def names() -> list[str]:
    """All of them, sorted."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))


def load(name: str) -> Foreign:
    """One of them."""
    model: Foreign = import_module(f"{__name__}.{name}").MODEL
    return model
