"""Traces from files: what a file holds decides how it is read, not what it is called."""

from __future__ import annotations

import gzip
import zlib
from datetime import UTC, tzinfo
from pathlib import Path

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError
from p2pfed.simulate.workload.sacct import head_of, parse_sacct
from p2pfed.simulate.workload.swf import parse_swf
from p2pfed.simulate.workload.trace import Trace

_TEXT_BYTES_MAX = 1 << 30
"""The largest trace that is read, unpacked; a small archive may unpack to anything."""
_HEAD_CHARS = 8_192
"""Of these it is told what a file holds."""


def read_text(path: Path) -> str:
    """The text of a file, unpacked if it is gzip; bytes that are not UTF-8 are replaced.

    Raises:
        InputError: `workload-file` if it can't be read or is larger than 1 GiB.
    """
    try:
        raw = path.open("rb")
        with raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            data = file.read(_TEXT_BYTES_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            "workload-file", f"can't read the trace: {error}", where=str(path)
        ) from None
    if len(data) > _TEXT_BYTES_MAX:
        raise InputError("workload-file", "the trace is larger than 1 GiB", where=str(path))
    return data.decode("utf-8", errors="replace")


def read_trace(
    path: Path, name: CentreName, *, procs: int | None = None, zone: tzinfo = UTC
) -> Trace:
    """The trace in a file: SWF (`.swf`, `.swf.gz`), or else what `sacct --parsable2` printed.

    What the file holds decides, not its name: one of the first lines of `sacct` names columns,
    those of SWF are comments or numbers.

    Args:
        path: the file.
        name: the centre.
        procs: the machine's processors; None to take them from an SWF header.
        zone: the time zone of times that `sacct` printed.

    Raises:
        InputError: see `parse_swf`, `parse_sacct` and `read_text`.
    """
    text = read_text(path)
    first = text[:_HEAD_CHARS].lstrip()
    named = head_of(first.splitlines()) is not None or "|" in first.partition("\n")[0]
    if named and not first.startswith(";"):
        return parse_sacct(text, name, procs=procs, zone=zone, where=str(path))
    return parse_swf(text, name, procs=procs, where=str(path))
