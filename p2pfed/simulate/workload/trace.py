"""One centre's history of jobs, as the readers leave it.

A trace knows what a scheduler would have known (when a job came, how many processors and how much
time it asked for) and how long it then ran. Whatever else a log says, recorded waits above all, is
left behind: waits are what is simulated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError

DAY_S = 86_400
WEEK_S = 7 * DAY_S
WALLTIME_MAX_S = 366 * DAY_S
"""The longest time a job may ask for; longer and unlimited requests count as this."""


class TraceJob(NamedTuple):
    """A job of a log.

    Attributes:
        submit_s: when it came, in seconds from the start of its trace.
        run_s: how long it ran; not longer than `walltime_s`, when it would have been ended.
        walltime_s: how long it asked for, at least 1.
        procs: how many processors it asked for, at least 1.
    """

    submit_s: int
    run_s: int
    walltime_s: int
    procs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The jobs of one centre.

    Attributes:
        procs: the processors of the machine.
        jobs: by submission, equal times in the order of the log.
        start_unix_s: what time 0 of the trace is, in seconds since 1970 UTC; None if not known.
        skipped: how many lines were left out because they describe nothing that could be run
            (never started, no processors, wider than the machine).
    """

    name: CentreName
    procs: int
    jobs: tuple[TraceJob, ...]
    start_unix_s: int | None = None
    skipped: int = 0


def make_trace(
    name: CentreName,
    jobs: Iterable[TraceJob],
    *,
    procs: int,
    start_unix_s: int | None = None,
    skipped: int = 0,
    where: str = "",
) -> Trace:
    """The trace of these jobs: sorted, ended at their walltime, the too wide ones left out.

    Raises:
        InputError: `workload-procs` if the machine has none; `workload-empty` if no job is left.
    """
    if procs < 1:
        raise InputError("workload-procs", f"{procs} is not a number of processors", where=where)
    kept = []
    for job in jobs:
        if job.procs > procs:
            skipped += 1
            continue
        walltime_s = min(max(job.walltime_s, 1), WALLTIME_MAX_S)
        kept.append(job._replace(run_s=min(job.run_s, walltime_s), walltime_s=walltime_s))
    if not kept:
        raise InputError(
            "workload-empty",
            f"the trace holds no job that {procs} processors could run",
            where=where,
            remedy="give a log with jobs that ran, or the right number of processors",
        )
    kept.sort(key=lambda job: job.submit_s)
    return Trace(
        name=name, procs=procs, jobs=tuple(kept), start_unix_s=start_unix_s, skipped=skipped
    )
