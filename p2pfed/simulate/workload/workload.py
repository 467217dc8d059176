"""Several traces on one time axis: what the worlds replay.

Traces differ in what their time 0 is. They are put together in one of three ways: by *calendar*
(each where it really was), by *weekday* (each shifted by whole weeks, so that Mondays meet and days
and nights stay what they were), or by *offset* (each begins at the same time, or where it is told
to). Then, if asked, load is scaled (submit times are compressed), submit times are jittered by
seeded amounts, and requested times inflated. A job is a number; its properties stand in columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError
from p2pfed.simulate.workload.trace import WALLTIME_MAX_S, WEEK_S, Trace

_MONDAY_UNIX_S = 4 * 86_400  # 1970-01-05, the first Monday of Unix time


class Alignment(StrEnum):
    """How traces are put on one time axis."""

    CALENDAR = "calendar"
    WEEKDAY = "weekday"
    OFFSET = "offset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """What is changed in traces before they are replayed.

    Attributes:
        alignment: how they are put on one axis.
        offset_s: per centre, added to its submit times after aligning (0 if absent).
        load: submit times are divided by this: 1.2 offers 20 % more work in the same time.
        jitter_s: each job comes up to this much later, uniformly, by `seed`.
        inflation: requested times are multiplied by this (run times stay).
        seed: of the jitter.
    """

    alignment: Alignment = Alignment.WEEKDAY
    offset_s: Mapping[str, int] = field(default_factory=dict)
    load: float = 1.0
    jitter_s: int = 0
    inflation: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The jobs of all centres in the order in which they come.

    Attributes:
        centres: the centres; elsewhere a centre is its index here.
        procs: per centre, the processors of its machine.
        home: per job, its centre. This and the next four are of one length.
        submit_s: per job, from the start of the replay; ascending.
        run_s: per job, how long it runs on a machine of speed 1.
        walltime_s: per job, how long it asks for; not below `run_s`.
        width: per job, its processors.
        origin_unix_s: what time 0 is; a Monday 00:00 UTC if no trace knew better.
        skipped: per centre, log lines that could not be replayed.
    """

    centres: tuple[CentreName, ...]
    procs: tuple[int, ...]
    home: Sequence[int]
    submit_s: Sequence[int]
    run_s: Sequence[int]
    walltime_s: Sequence[int]
    width: Sequence[int]
    origin_unix_s: int
    skipped: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.home)

    def of(self, centre: int) -> list[int]:
        """The jobs of a centre, in the order in which they come."""
        return [job for job, home in enumerate(self.home) if home == centre]

    def only(self, names: Sequence[str]) -> Workload:
        """The same for these centres alone, in their order here.

        Raises:
            InputError: `workload-centre` for a name that is none of the centres.
        """
        for name in names:
            self.index(name)
        kept = [number for number, name in enumerate(self.centres) if name in names]
        renumbered = {old: new for new, old in enumerate(kept)}
        jobs = [job for job, home in enumerate(self.home) if home in renumbered]
        return Workload(
            centres=tuple(self.centres[c] for c in kept),
            procs=tuple(self.procs[c] for c in kept),
            home=[renumbered[self.home[job]] for job in jobs],
            submit_s=[self.submit_s[job] for job in jobs],
            run_s=[self.run_s[job] for job in jobs],
            walltime_s=[self.walltime_s[job] for job in jobs],
            width=[self.width[job] for job in jobs],
            origin_unix_s=self.origin_unix_s,
            skipped=tuple(self.skipped[c] for c in kept) if self.skipped else (),
        )

    def index(self, name: str) -> int:
        """The index of the centre of this name.

        Raises:
            InputError: `workload-centre`.
        """
        for number, centre in enumerate(self.centres):
            if centre == name:
                return number
        raise InputError(
            "workload-centre",
            f"no centre of the replay is called {name!r}",
            remedy=f"known are {', '.join(self.centres)}",
        )


def make_workload(traces: Sequence[Trace], shaping: Shaping | None = None) -> Workload:
    """The traces on one time axis.

    Raises:
        InputError: `workload-empty` without traces, `workload-name` for two of one name,
            `workload-start-unknown` if aligning needs a start that a trace does not know,
            `workload-option` for a load, inflation or jitter that makes no sense.
    """
    shaping = shaping or Shaping()
    _check(traces, shaping)
    zeros, origin_unix_s = _zeros(traces, shaping.alignment)
    rows: list[tuple[int, int, int, int, int, int]] = []
    for number, (trace, zero_s) in enumerate(zip(traces, zeros, strict=True)):
        shift_s = zero_s + shaping.offset_s.get(trace.name, 0)
        random = Random(f"{shaping.seed}:{trace.name}:jitter")
        for position, job in enumerate(trace.jobs):
            submit_s = job.submit_s + shift_s
            if shaping.load != 1.0:
                submit_s = int(submit_s / shaping.load)
            if shaping.jitter_s:
                submit_s += random.randint(0, shaping.jitter_s)
            walltime_s = job.walltime_s
            if shaping.inflation != 1.0:
                inflated_s = min(int(walltime_s * shaping.inflation), WALLTIME_MAX_S)
                walltime_s = max(inflated_s, job.run_s, 1)
            rows.append((submit_s, number, position, job.run_s, walltime_s, job.procs))
    rows.sort()
    least_s = min(0, rows[0][0])
    return Workload(
        centres=tuple(trace.name for trace in traces),
        procs=tuple(trace.procs for trace in traces),
        home=[row[1] for row in rows],
        submit_s=[row[0] - least_s for row in rows],
        run_s=[row[3] for row in rows],
        walltime_s=[row[4] for row in rows],
        width=[row[5] for row in rows],
        origin_unix_s=origin_unix_s + least_s,
        skipped=tuple(trace.skipped for trace in traces),
    )


def _check(traces: Sequence[Trace], shaping: Shaping) -> None:
    if not traces:
        raise InputError("workload-empty", "there is no trace to replay")
    names = [trace.name for trace in traces]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            "workload-name",
            f"two traces are of a centre called {twice}",
            remedy="rename a file, or name the centres (NAME=FILE)",
        )
    for what, value, low, high in (
        ("load", shaping.load, 0.01, 100.0),
        ("inflation", shaping.inflation, 0.01, 1_000.0),
        ("jitter_s", shaping.jitter_s, 0, 30 * 86_400),
    ):
        if not low <= value <= high:
            raise InputError("workload-option", f"{what} is {value}, not within {low} to {high}")
    for name in shaping.offset_s:
        if name not in names:
            raise InputError(
                "workload-centre",
                f"no centre of the replay is called {name!r}",
                remedy=f"known are {', '.join(names)}",
            )


def _zeros(traces: Sequence[Trace], alignment: Alignment) -> tuple[list[int], int]:
    """Per trace, where its time 0 lies on the common axis; and what time 0 of that is."""
    if alignment is Alignment.OFFSET:
        return [-trace.jobs[0].submit_s for trace in traces], _MONDAY_UNIX_S
    starts = []
    for trace in traces:
        if trace.start_unix_s is None:
            raise InputError(
                "workload-start-unknown",
                f"the trace of {trace.name} does not say when it began (UnixStartTime)",
                remedy="align by offset, or add the header field",
            )
        starts.append(trace.start_unix_s)
    firsts = [start + t.jobs[0].submit_s for start, t in zip(starts, traces, strict=True)]
    if alignment is Alignment.CALENDAR:
        origin = _monday_before(min(firsts))
        return [start - origin for start in starts], origin
    mondays = [_monday_before(first) for first in firsts]
    zeros = [start - monday for start, monday in zip(starts, mondays, strict=True)]
    return zeros, max(mondays)


def _monday_before(unix_s: int) -> int:
    """The last Monday 00:00 UTC that is not after the time."""
    return unix_s - (unix_s - _MONDAY_UNIX_S) % WEEK_S
