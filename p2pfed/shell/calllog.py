"""The log of calls: one line of JSON for every call that may change something, and who made it.

Whatever the call came to (done, refused, failed, given up), its line is written before its answer
leaves, so a `kill -9` loses no line of an answered call; a power failure may lose the last few,
whose effects are in the ledger all the same. The file is opened anew for each line: whoever rotates
it (logrotate) need not tell the daemon. A disk that refuses the line costs the line, never the
call: withdrawing must work on a full disk, too. The daemon's own log then says so.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Final

from p2pfed.shell.callers import Caller

log: Final = logging.getLogger("p2pfed.control.calls")

PATH_SHOWN_MAX: Final = 512
"""Characters of a call's path in its line."""


class CallLog:
    """Appends to one file, which others than the daemon's account can't read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, at_ms: int, caller: Caller, method: str, path: str, outcome: str) -> None:
        """Notes one call; `outcome` is the HTTP status of its answer, or the code of its error."""
        line = {
            "at_ms": at_ms,
            "who": caller.name,
            "uid": caller.uid,
            "pid": caller.pid,
            "method": method,
            "path": path[:PATH_SHOWN_MAX],
            "outcome": outcome,
        }
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, json.dumps(line).encode() + b"\n")
            finally:
                os.close(descriptor)
        except OSError as error:
            log.error("a call is not in the log of calls: %s: %s", error, json.dumps(line))
