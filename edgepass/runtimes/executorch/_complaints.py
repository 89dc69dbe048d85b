"""What ExecuTorch has against a program: its exceptions carry a number, the reason is only printed."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Any

from edgepass.errors import one_line

_OPERATOR = re.compile(r"KernelCall failed at instruction \S+ in operator ([^\s:]+::[^\s:]+): (\w+)")
_CHECK = re.compile(r"\] Check failed \((?P<check>.*?)\): ?(?P<words>.*)")


def without_kernel(operators: list[dict[str, Any]], known: list[str]) -> list[str]:
    """The operators of a plan for which no kernel is registered, as torch calls them."""
    names = {f"{o['name']}.{o['overload']}" if o.get("overload") else str(o["name"]) for o in operators}
    return sorted(names - set(known))


def of(call: Callable[[], object]) -> str | None:
    """The operator in which a failing call fails, and the check that it does not pass; None where it does not say.

    The call is made again, its standard error read: that goes past Python, and nothing else tells.
    """
    lines = _printed(call)
    failed = [found for line in lines if (found := _OPERATOR.search(line))]
    if not failed:
        return None
    checks = [found for line in lines if (found := _CHECK.search(line))]
    why = (checks[0]["words"] or f"{checks[0]['check']} does not hold") if checks else f"error {failed[0][2]}"
    return f"{failed[0][1]} fails: {one_line(why)}"


def _printed(call: Callable[[], object]) -> list[str]:
    kept = os.dup(2)
    with TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            with suppress(RuntimeError):
                call()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        return file.read().decode(errors="replace").splitlines()
