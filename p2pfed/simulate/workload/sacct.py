r"""Slurm's accounting as `sacct` prints it, for centres that have no SWF file.

Made on a login node by

    sacct --allusers --allocations --parsable2 --starttime 2026-01-01 --endtime 2026-04-01 \
        --format JobID,Submit,ElapsedRaw,TimelimitRaw,NCPUS,State > centre.sacct

The first line names the columns; their order is free and others are ignored.

| column | meaning |
| --- | --- |
| Submit | local time `2026-01-31T09:30:00`, or seconds since 1970 (`SLURM_TIME_FORMAT=%s`) |
| Eligible | optional: when it could first have started; counts if later |
| ElapsedRaw | seconds that it ran |
| TimelimitRaw | minutes asked for; `UNLIMITED`, `Partition_Limit` or nothing: no limit |
| NCPUS, AllocCPUS or ReqCPUS | processors |
| JobID | optional: a job's steps (`12.batch`) are left out |
| State | optional: `PENDING` and `RUNNING` jobs are left out, their run time is not known |

A machine's size is in no such file, so it must be given.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError
from p2pfed.simulate.workload.trace import WALLTIME_MAX_S, Trace, TraceJob, make_trace

_PROCS_COLUMNS = ("NCPUS", "AllocCPUS", "ReqCPUS")
_UNFINISHED = ("PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "COMPLETING")
_NO_TIME = ("", "Unknown", "None", "N/A")


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
    columns = _parse_columns(lines[0] if lines else "", where)
    found: list[TraceJob] = []
    skipped = 0
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = line.split("|")
        if len(fields) < len(columns):
            raise InputError(
                "workload-line",
                f"{len(fields)} fields under {len(columns)} columns",
                where=f"{where}:{number}",
                remedy="print with --parsable2 and without fields that hold a vertical bar",
            )
        job = _parse_job(dict(zip(columns, fields, strict=False)), zone, f"{where}:{number}")
        if job is None:
            skipped += 1
        else:
            found.append(job)
    start = min((job.submit_s for job in found), default=0)
    return make_trace(
        name,
        [job._replace(submit_s=job.submit_s - start) for job in found],
        procs=procs,
        start_unix_s=start,
        skipped=skipped,
        where=where,
    )


def _parse_columns(line: str, where: str) -> list[str]:
    columns = [column.strip() for column in line.split("|")]
    missing = [c for c in ("Submit", "ElapsedRaw", "TimelimitRaw") if c not in columns]
    if not any(c in columns for c in _PROCS_COLUMNS):
        missing.append("NCPUS")
    if missing:
        raise InputError(
            "workload-columns",
            f"the first line does not name {', '.join(missing)}",
            where=f"{where}:1",
            remedy="print with --parsable2 --format "
            "JobID,Submit,ElapsedRaw,TimelimitRaw,NCPUS,State and keep the first line",
        )
    return columns


def _parse_job(fields: dict[str, str], zone: tzinfo, where: str) -> TraceJob | None:
    """The job of a line; None for a step, and for what has not run or still does."""
    state = fields.get("State", "").split(" ")[0]
    if "." in fields.get("JobID", "") or state in _UNFINISHED:
        return None
    submit = fields["Submit"]
    column = next(c for c in _PROCS_COLUMNS if c in fields)
    if submit in _NO_TIME or fields["ElapsedRaw"] in ("", "0"):
        return None  # cancelled or failed before it began: nothing to run
    try:
        submit_s = _parse_time(submit, zone)
        eligible = fields.get("Eligible", "")
        if eligible not in _NO_TIME:
            submit_s = max(submit_s, _parse_time(eligible, zone))
        run_s = int(fields["ElapsedRaw"])
        procs = int(fields[column] or 0)
        walltime_s = _parse_limit(fields["TimelimitRaw"])
    except ValueError as error:
        raise InputError(
            "workload-line", f"a field has a wrong form: {error}", where=where
        ) from None
    if run_s < 0 or procs < 1 or submit_s < 0:
        return None
    return TraceJob(submit_s, run_s, walltime_s, procs)


def _parse_time(text: str, zone: tzinfo) -> int:
    """Seconds since 1970 UTC."""
    if text.isascii() and text.isdigit():
        return int(text)
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        time = time.replace(tzinfo=zone)
    return int(time.timestamp())


def _parse_limit(text: str) -> int:
    """Seconds, from minutes; `WALLTIME_MAX_S` if there is no limit."""
    if text in ("", "UNLIMITED", "Partition_Limit"):
        return WALLTIME_MAX_S
    return int(text) * 60
