"""The computer that judges, and when: what every figure of the host is a figure of."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from edgepass.judging.manifest import Host


def this() -> Host:
    """The computer that runs this."""
    return Host(
        cpu=_cpu() or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
    )


def now() -> str:
    """The time in UTC to the second, as ISO 8601 writes it; that of SOURCE_DATE_EPOCH where it is set to one.

    The variable is how reproducible builds give every tool the same date (reproducible-builds.org).
    """
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    try:
        moment = datetime.fromtimestamp(int(said), UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _cpu() -> str:
    """Its model name; empty where the system does not say."""
    if sys.platform == "darwin":
        asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
