"""The worlds without a federation: every centre alone, and all under one scheduler.

The *ideal* world is one queue, first come first served with EASY backfilling, over all machines. It
knows no more of run times than a centre does, and a job runs on one machine. The first waiting job
gets its reservation on the machine where it could surely start first; on that machine others must
respect it, on all others they start if they fit. Jobs go where least is left over.

It is what one coordinator could do, and no strict bound: its only queue has only one first job, and
while that one waits for a wide hole, narrow ones wait behind it for machines that it can't use. A
federation has as many first jobs as centres.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heappop, heappush

from p2pfed.simulate.workload.easy import shadow_of, simulate_easy
from p2pfed.simulate.workload.outcome import Outcome
from p2pfed.simulate.workload.workload import Workload


def run_isolated(workload: Workload, speeds: Sequence[float] = ()) -> Outcome:
    """Every centre runs its own jobs on its own machine, and nothing else.

    Args:
        workload: the jobs.
        speeds: per centre, how fast its machine is; 1 if left out.
    """
    count = len(workload)
    start_ms, end_ms, wait_ms = [0] * count, [0] * count, [0] * count
    for centre, procs in enumerate(workload.procs):
        jobs = workload.of(centre)
        speed = speeds[centre] if speeds else 1.0
        run_s = [scaled_s(workload.run_s[job], speed) for job in jobs]
        submit_s = [workload.submit_s[job] for job in jobs]
        walltime_s = [max(1, scaled_s(workload.walltime_s[job], speed)) for job in jobs]
        width = [workload.width[job] for job in jobs]
        starts = simulate_easy(submit_s, run_s, walltime_s, width, procs)
        for job, start, submit, run in zip(jobs, starts, submit_s, run_s, strict=True):
            start_ms[job] = start * 1_000
            end_ms[job] = (start + run) * 1_000
            wait_ms[job] = (start - submit) * 1_000
    return Outcome(
        world="isolated",
        workload=workload,
        start_ms=start_ms,
        end_ms=end_ms,
        wait_ms=wait_ms,
        where=list(workload.home),
    )


def scaled_s(duration_s: int, speed: float) -> int:
    """How long something takes on a machine of this speed, rounded up; the same at speed 1."""
    return duration_s if speed == 1.0 else -int(-duration_s // speed)


class _Machines:
    """All machines and the one queue."""

    def __init__(self, workload: Workload, speeds: Sequence[float]) -> None:
        self.procs = workload.procs
        self.width = workload.width
        self.free = list(workload.procs)
        self.running: list[list[tuple[int, int, int]]] = [[] for _ in workload.procs]
        self.ends: list[tuple[int, int]] = []
        self.waiting: list[int] = []
        speeds = speeds or [1.0] * len(workload.procs)
        self.run_s = [
            workload.run_s if s == 1.0 else [scaled_s(r, s) for r in workload.run_s] for s in speeds
        ]
        self.walltime_s = [
            workload.walltime_s
            if s == 1.0
            else [max(1, scaled_s(w, s)) for w in workload.walltime_s]
            for s in speeds
        ]
        self.start_s = [0] * len(workload)
        self.where = [0] * len(workload)

    def end_next(self) -> None:
        """Ends the job that ends first."""
        job = heappop(self.ends)[1]
        centre = self.where[job]
        self.free[centre] += self.width[job]
        latest = self.start_s[job] + self.walltime_s[centre][job]
        running = self.running[centre]
        del running[bisect_left(running, (latest, self.width[job], job))]

    def start(self, job: int, centre: int, now: int) -> None:
        self.free[centre] -= self.width[job]
        self.start_s[job] = now
        self.where[job] = centre
        heappush(self.ends, (now + self.run_s[centre][job], job))
        latest = now + self.walltime_s[centre][job]
        insort(self.running[centre], (latest, self.width[job], job))

    def schedule(self, now: int) -> None:
        """One pass over the queue."""
        waiting, width = self.waiting, self.width
        begun = 0
        for job in waiting:
            centre = self._tightest(width[job])
            if centre is None:
                break
            self.start(job, centre, now)
            begun += 1
        del waiting[:begun]
        if waiting and any(self.free):
            self._backfill(now)

    def _tightest(self, need: int) -> int | None:
        """The machine on which the job fits and leaves least over."""
        fitting = [(free, c) for c, free in enumerate(self.free) if free >= need]
        return min(fitting)[1] if fitting else None

    def _backfill(self, now: int) -> None:
        waiting, width, free = self.waiting, self.width, self.free
        first = width[waiting[0]]
        reserved, shadow, extra = -1, 0, 0
        for centre, procs in enumerate(self.procs):
            if procs < first:
                continue
            time, rest = shadow_of(self.running[centre], free[centre], first)
            if reserved < 0 or time < shadow:
                reserved, shadow, extra = centre, time, rest
        left = shadow - now
        widest = max(free)
        walltime_s = self.walltime_s[reserved]
        chosen = []
        for position in range(1, len(waiting)):
            job = waiting[position]
            need = width[job]
            if need > widest:
                continue
            best = -1
            for centre, rest in enumerate(free):
                if need > rest or (best >= 0 and rest >= free[best]):
                    continue
                if centre == reserved and need > extra and walltime_s[job] > left:
                    continue
                best = centre
            if best < 0:
                continue
            if best == reserved and walltime_s[job] > left:
                extra -= need
            self.start(job, best, now)
            chosen.append(position)
            widest = max(free)
            if not widest:
                break
        for position in reversed(chosen):
            del waiting[position]


def run_ideal(workload: Workload, speeds: Sequence[float] = ()) -> Outcome:
    """All jobs in one queue over all machines.

    Args:
        workload: the jobs; none is wider than its home, so each fits somewhere.
        speeds: per centre, how fast its machine is; 1 if left out.
    """
    machines = _Machines(workload, speeds)
    submit_s, count, arrived = workload.submit_s, len(workload), 0
    ends = machines.ends
    while arrived < count or ends:
        now = submit_s[arrived] if arrived < count else ends[0][0]
        if ends and ends[0][0] < now:
            now = ends[0][0]
        while ends and ends[0][0] == now:
            machines.end_next()
        while arrived < count and submit_s[arrived] == now:
            machines.waiting.append(arrived)
            arrived += 1
        if machines.waiting:
            machines.schedule(now)
    start_s, where = machines.start_s, machines.where
    return Outcome(
        world="ideal",
        workload=workload,
        start_ms=[start * 1_000 for start in start_s],
        end_ms=[(start_s[j] + machines.run_s[where[j]][j]) * 1_000 for j in range(count)],
        wait_ms=[(start_s[j] - submit_s[j]) * 1_000 for j in range(count)],
        where=where,
    )
