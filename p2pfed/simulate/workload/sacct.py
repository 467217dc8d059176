r"""Slurm's accounting as `sacct` prints it, for centres that have no SWF file.

Made on a login node by

    sacct --allusers --allocations --parsable2 --starttime 2026-01-01 --endtime 2026-04-01 \
        --format JobID,Submit,ElapsedRaw,TimelimitRaw,NCPUS,State > centre.sacct

A line names the columns; their order is free and others are ignored. What stands above it (a
shell's greeting, a warning) is ignored, too, and so are further lines of names, as in files that
were put together.

| column | meaning |
| --- | --- |
| Submit | local time `2026-01-31T09:30:00`, or seconds since 1970 (`SLURM_TIME_FORMAT=%s`) |
| Eligible | optional: when it could first have started; counts if later |
| ElapsedRaw, Elapsed | how long it ran: seconds, or `[days-]hours:minutes:seconds` |
| TimelimitRaw, Timelimit | asked for: minutes, or as above; `UNLIMITED`, `Partition_Limit` or |
| | nothing: no limit |
| NCPUS, AllocCPUS, ReqCPUS | processors |
| JobID | optional: steps (`12.batch`) are left out; of lines of one job the last counts |
| State | optional: `PENDING` and `RUNNING` jobs are left out, their run time is not known |

A few lines that can't be read are left out and counted; more than 1 % mean that the file is
something else. A machine's size is in no such file, so it must be given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError
from p2pfed.simulate.workload.trace import DAY_S, WALLTIME_MAX_S, Trace, TraceJob, make_trace

_RUN_COLUMNS: Final = ("ElapsedRaw", "Elapsed")
_LIMIT_COLUMNS: Final = ("TimelimitRaw", "Timelimit")
_PROCS_COLUMNS: Final = ("NCPUS", "AllocCPUS", "ReqCPUS")
_NEEDED: Final = (("Submit",), _RUN_COLUMNS, _LIMIT_COLUMNS, _PROCS_COLUMNS)
_UNFINISHED: Final = ("PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "COMPLETING")
_NO_TIME: Final = ("", "Unknown", "None", "N/A")
_NO_LIMIT: Final = ("", "UNLIMITED", "Partition_Limit")
_CLOCK: Final = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?")
_HEAD_LINES: Final = 20
"""Among so many lines from the top the names of the columns are looked for."""
_READABLE_LINES: Final = 100
"""One line of so many may be unreadable."""


def parse_sacct(
    text: str,
    name: CentreName,
    *,
    procs: int | None,
    zone: tzinfo = UTC,
    where: str = "",
) -> Trace:
    """The trace that `sacct --parsable2` printed.

    Args:
        text: its output, the line with the names of the columns included.
        name: the centre.
        procs: the machine's processors.
        zone: the time zone of its clock.
        where: the file's name, for messages.

    Raises:
        InputError: `workload-columns`, `workload-line`, `workload-procs-missing`, and as
            `make_trace`.
    """
    if procs is None:
        raise InputError(
            "workload-procs-missing",
            "sacct does not say how many processors the machine has",
            where=where,
            remedy="give their number (--procs)",
        )
    lines = text.splitlines()
    head = head_of(lines) or 0
    columns = _parse_columns(lines[head] if lines else "", f"{where}:{head + 1}")
    rows = [
        (number, line)
        for number, line in enumerate(lines[head + 1 :], start=head + 2)
        if line.strip(" |") and line != lines[head]
    ]
    found: dict[str, TraceJob] = {}
    skipped = unreadable = 0
    for number, line in rows:
        try:
            fields = _parse_fields(line, columns)
            job = _parse_job(fields, zone)
        except ValueError as error:
            unreadable += 1
            if unreadable * _READABLE_LINES > len(rows):
                raise InputError(
                    "workload-line",
                    str(error),
                    where=f"{where}:{number}",
                    remedy="print with --parsable2 and without fields that hold a vertical bar",
                ) from None
            continue
        key = f"{fields.get('JobID') or number} {fields['Submit']}"
        skipped += job is None or key in found
        if job is not None:
            found[key] = job
    start = min((job.submit_s for job in found.values()), default=0)
    return make_trace(
        name,
        [job._replace(submit_s=job.submit_s - start) for job in found.values()],
        procs=procs,
        start_unix_s=start,
        skipped=skipped + unreadable,
        where=where,
    )


def head_of(lines: Sequence[str]) -> int | None:
    """The index of the line that names the columns, if it is one of the first."""
    for index, line in enumerate(lines[:_HEAD_LINES]):
        if "Submit" in re.split(r"[|\s]+", line):
            return index
    return None


def _parse_columns(line: str, where: str) -> list[str]:
    columns = [column.strip() for column in line.split("|")]
    missing = [names[0] for names in _NEEDED if not any(name in columns for name in names)]
    if missing:
        raise InputError(
            "workload-columns",
            f"no line names {', '.join(missing)} between vertical bars",
            where=where,
            remedy="print with --parsable2 --format "
            "JobID,Submit,ElapsedRaw,TimelimitRaw,NCPUS,State and keep the line of names",
        )
    return columns


def _parse_fields(line: str, columns: Sequence[str]) -> dict[str, str]:
    """A line's fields by column. Raises ValueError if there are too few."""
    fields = [field.strip() for field in line.split("|")]
    if len(fields) < len(columns):
        raise ValueError(f"{len(fields)} fields under {len(columns)} columns")
    return dict(zip(columns, fields, strict=False))


def _parse_job(fields: Mapping[str, str], zone: tzinfo) -> TraceJob | None:
    """The job of a line; None for a step, and for what has not run or still does.

    Raises:
        ValueError: a field has a wrong form.
    """
    state = fields.get("State", "").split(" ")[0]
    if "." in fields.get("JobID", "") or state in _UNFINISHED:
        return None
    submit, ran = fields["Submit"], _first(fields, _RUN_COLUMNS)
    if submit in _NO_TIME or ran in ("", "0"):
        return None  # cancelled or failed before it began: nothing to run
    submit_s = _parse_time(submit, zone)
    eligible = fields.get("Eligible", "")
    if eligible not in _NO_TIME:
        submit_s = max(submit_s, _parse_time(eligible, zone))
    run_s = _parse_span(ran, unit_s=1)
    procs = int(_first(fields, _PROCS_COLUMNS) or 0)
    limit = _first(fields, _LIMIT_COLUMNS)
    walltime_s = WALLTIME_MAX_S if limit in _NO_LIMIT else _parse_span(limit, unit_s=60)
    if run_s < 1 or procs < 1 or submit_s < 0:
        return None
    return TraceJob(submit_s, run_s, walltime_s, procs)


def _first(fields: Mapping[str, str], names: Sequence[str]) -> str:
    """The field of the first of these columns that is there."""
    return next(fields[name] for name in names if name in fields)


def _parse_time(text: str, zone: tzinfo) -> int:
    """Seconds since 1970 UTC."""
    if text.isascii() and text.isdigit():
        return int(text)
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        time = time.replace(tzinfo=zone)
    return int(time.timestamp())


def _parse_span(text: str, *, unit_s: int) -> int:
    """Seconds, from a number of `unit_s` or from `[days-][hours:]minutes:seconds`."""
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        return int(text) * unit_s
    days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
    return days * DAY_S + hours * 3_600 + minutes * 60 + seconds
