"""Files of every format, written once."""

from runtime_tests.runtimes.conftest import files

__all__ = ["files"]
