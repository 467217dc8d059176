"""What the daemon logs, and how: one line an event, on standard error, for whatever collects it."""

from __future__ import annotations

import logging

_ACCEPTING = "trio.serve_listeners"
"""Logs an error, with its stack, each time that there is no file descriptor for a caller."""


def begin_logging(level: str) -> None:
    """Sends all records of at least `level` ("info") to standard error; once a process."""
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger(_ACCEPTING).addFilter(without_stack)


def without_stack(record: logging.LogRecord) -> bool:
    """Takes the stack off a record whose message says it all."""
    record.exc_info = None
    return True
