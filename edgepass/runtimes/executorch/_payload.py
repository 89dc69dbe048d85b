"""What a program hands to a delegate, as far as it can be read."""

from collections import Counter
from dataclasses import dataclass

from edgepass.judging.manifest import Weight
from edgepass.runtimes import Array


@dataclass(frozen=True, kw_only=True)
class Payload:
    """One delegate. `ops` and `flops` are by the delegate's own names, FLOPs as multiply-adds times two.

    `values` are what the weights stand for, None where that is not read.

    `content_sha256` is equal for equal payloads, where two conversions of one model differ in bytes.
    """

    weights: list[Weight]
    values: list[Array | None]
    ops: Counter[str]
    flops: Counter[str]
    content_sha256: str | None = None
