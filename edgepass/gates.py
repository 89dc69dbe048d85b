"""Gates: the bounds that the user set, or that a recipe sets for itself. The verdict is all of them."""

from dataclasses import asdict, dataclass

from edgepass.manifest import ArtifactRecord, Outcome


@dataclass(frozen=True, kw_only=True)
class Gates:
    """Bounds on one artifact; None is no bound. Sizes in bytes, latency in microseconds, drop and shares as fractions."""

    max_metric_drop: float | None = None
    min_sqnr: float | None = None
    max_size: int | None = None
    max_peak_memory: int | None = None
    max_latency: float | None = None
    min_delegated: float | None = None
    min_coverage: float | None = None

    def over(self, defaults: "Gates") -> "Gates":
        """These bounds, with `defaults` where none is set."""
        mine = {k: v for k, v in asdict(self).items() if v is not None}
        return Gates(**{**asdict(defaults), **mine})

    def set(self) -> dict[str, float]:
        """The bounds that are set, by name."""
        return {k: float(v) for k, v in asdict(self).items() if v is not None}
