"""Standard Workload Format: the Parallel Workloads Archive's common form of batch logs.

Source: Chapin et al., "Benchmarks and standards for the evaluation of parallel job schedulers"
(JSSPP 1999), version 2.2. Comments and header fields begin with a semicolon; a record is 18
numbers, -1 where something is not known. Read are: 2 submit time, 4 run time, 5 processors
allocated, 8 processors requested, 9 time requested. Missing requests are taken from what was used.
The header gives the machine's size (`MaxProcs`, else `MaxNodes`) and time 0 (`UnixStartTime`).
"""

from __future__ import annotations

import re

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError
from p2pfed.simulate.workload.trace import Trace, TraceJob, make_trace

_HEADER = re.compile(r";\s*(MaxProcs|MaxNodes|UnixStartTime)\s*:\s*(-?\d+)")
_FIELDS_MIN = 9
"""Fields that are needed; later ones may be cut off, as some tools do."""


def parse_swf(text: str, name: CentreName, *, procs: int | None = None, where: str = "") -> Trace:
    """The trace that an SWF text describes.

    Args:
        text: the file.
        name: the centre.
        procs: the machine's processors; None to read them from the header.
        where: the file's name, for messages.

    Raises:
        InputError: `workload-line` for a record that is none, `workload-procs-missing`, and as
            `make_trace`.
    """
    header: dict[str, int] = {}
    jobs: list[TraceJob] = []
    skipped = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith(";"):
            found = _HEADER.match(line.lstrip())
            if found:
                header.setdefault(found[1], int(found[2]))
            continue
        fields = line.split()
        if not fields:
            continue
        job = _parse_record(fields, f"{where}:{number}")
        if job is None:
            skipped += 1
        else:
            jobs.append(job)
    size = procs
    if size is None:
        size = header.get("MaxProcs", 0) or header.get("MaxNodes", 0)
    if procs is None and size < 1:
        raise InputError(
            "workload-procs-missing",
            "the header does not say how many processors the machine has",
            where=where,
            remedy="give their number (--procs)",
        )
    start = header.get("UnixStartTime", 0)
    return make_trace(
        name,
        jobs,
        procs=size,
        start_unix_s=start if start > 0 else None,
        skipped=skipped,
        where=where,
    )


def _parse_record(fields: list[str], where: str) -> TraceJob | None:
    """The job of a record; None if it never ran."""
    if len(fields) < _FIELDS_MIN:
        raise InputError(
            "workload-line",
            f"a record of {len(fields)} fields, not of 18",
            where=where,
            remedy="give a file in Standard Workload Format",
        )
    try:
        submit_s, run_s, used, asked, walltime_s = (
            int(fields[i]) if fields[i].lstrip("-").isascii() else int("?") for i in (1, 3, 4, 7, 8)
        )
    except ValueError:
        try:
            submit_s, run_s, used, asked, walltime_s = (
                int(float(fields[i])) for i in (1, 3, 4, 7, 8)
            )
        except (ValueError, OverflowError):
            raise InputError("workload-line", "a field is not a number", where=where) from None
    procs = asked if asked > 0 else used
    if submit_s < 0 or run_s < 0 or procs < 1:
        return None
    return TraceJob(submit_s, run_s, walltime_s if walltime_s > 0 else max(run_s, 1), procs)
