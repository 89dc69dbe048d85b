"""Reads a flatbuffer by its schema, with the compiler and the schemas that ExecuTorch's wheel brings.

Importing ExecuTorch's own reader imports its exporter too, five seconds for each child process.
"""

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROGRAM = "exir/_serialize/program.fbs"
XNNPACK = "backends/xnnpack/serialization/schema.fbs"
VULKAN = "backends/vulkan/serialization/schema.fbs"


def decode(data: bytes, schema: str) -> Any:
    """The buffer as JSON: unions as `x` beside `x_type`, enumerations by name, defaults written out.

    Raises ValueError when the buffer does not follow the schema, ModuleNotFoundError without ExecuTorch.
    """
    try:
        wheel = distribution("executorch")
    except PackageNotFoundError:
        raise ModuleNotFoundError(name="executorch") from None
    with TemporaryDirectory() as name:
        folder = Path(name)
        flatc = Path(str(wheel.locate_file("executorch/data/bin/flatc")))
        if not os.access(flatc, os.X_OK):  # some installers drop the mode
            flatc = Path(shutil.copy(flatc, folder))
            flatc.chmod(0o755)
        (folder / "buffer.bin").write_bytes(data)
        options = ("--json", "--defaults-json", "--strict-json", "--raw-binary", "-o", name)
        schema_file = str(wheel.locate_file(f"executorch/{schema}"))
        command = [str(flatc), *options, schema_file, "--", str(folder / "buffer.bin")]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise ValueError(f"a flatbuffer in it does not follow {Path(schema).name}")
        text = (folder / "buffer.json").read_bytes()
    # flatc writes infinities as bare words, which JSON has not; nothing here reads them
    return json.loads(re.sub(rb"(?<=[:\[,\s])[-+]?(inf|nan)\b(?=[,\s}\]])", b"null", text))
