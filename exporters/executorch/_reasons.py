"""Why XNNPACK's partitioner declines an operation: it says so at DEBUG level only."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Collector(logging.Handler):
    """Keeps what the partitioner says about a node that it declines."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.reasons: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        message: Any = record.msg
        if type(message).__name__ == "WhyNoPartition":
            self.reasons[str(message.node)] = str(message.reason)


@contextmanager
def collected() -> Iterator[dict[str, str]]:
    """Node -> reason, filled while a program is partitioned inside."""
    collector = _Collector()
    # The partitioner and the checks it calls. The serialiser beside them, when at DEBUG, writes every delegated graph
    # into the current directory.
    names = ("executorch.backends.xnnpack.partition", "executorch.backends.xnnpack._passes")
    loggers = [logging.getLogger(n) for n in logging.root.manager.loggerDict if n.startswith(names)]
    before = [(log, log.level, log.propagate) for log in loggers]
    disabled = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    for log in loggers:
        log.setLevel(logging.DEBUG)
        log.propagate = False
        log.addHandler(collector)
    try:
        yield collector.reasons
    finally:
        logging.disable(disabled)
        for log, level, propagate in before:
            log.removeHandler(collector)
            log.setLevel(level)
            log.propagate = propagate
