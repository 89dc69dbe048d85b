"""A dimension that varies, as it is written: `1=1..512`, or `tokens:1=1..512` of one input alone."""

import re

from edgepass.errors import InputError
from edgepass.judging.manifest import Varying

FORM = re.compile(r"(?:(?P<input>[^\W\d]\w*):)?(?P<axis>\d+)=(?P<low>\d+)\.\.(?P<high>\d+)")


def read(text: str) -> Varying:
    """Raises InputError for another form, or a range of less than two sizes."""
    found = FORM.fullmatch(text)
    if not found:
        raise InputError(
            f"--dynamic {text!r} is not of the form 1=1..512, a dimension with its least and largest size, or "
            "tokens:1=1..512 of one input"
        )
    made = Varying(axis=int(found["axis"]), low=int(found["low"]), high=int(found["high"]), input=found["input"] or "")
    if not 1 <= made.low < made.high:
        raise InputError(f"--dynamic {text} is no range of sizes; let the first be 1 or more, and the second larger")
    if not made.axis:
        raise InputError(f"--dynamic {text} is of the batch; give its largest size by --max-batch")
    return made
