"""What a fault is, and how a module lists its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RECIPES = ("fp32", "fp16", "static_wi8_ai8")
Plant = Callable[..., Any]
INT8 = ("static_wi8_ai8",)
ENDS = ("fp32", "static_wi8_ai8")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Where it is planted and by what; its name is the function's, and its text the docstring."""

    where: str
    plant: Plant
    model: str = "small"
    targets: tuple[str, ...] = ("executorch", "coreml", "tflite", "onnx")
    recipes: tuple[str, ...] = RECIPES

    @property
    def name(self) -> str:
        """In words."""
        return self.plant.__name__.replace("_", " ")

    @property
    def text(self) -> str:
        """What is done."""
        return " ".join((self.plant.__doc__ or "").split())


def lister(faults: list[Fault]) -> Callable[..., Callable[[Plant], Plant]]:
    """The decorator that puts a function into this list. `where`: graph, weight, making, none, file or folder."""

    def fault(where: str, **options: Any) -> Callable[[Plant], Plant]:
        def put(plant: Plant) -> Plant:
            faults.append(Fault(where=where, plant=plant, **options))
            return plant

        return put

    return fault
