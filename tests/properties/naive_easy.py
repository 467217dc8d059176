"""FCFS with EASY backfilling from its definition, time by time, without any cleverness.

Written from Mu'alem and Feitelson (IEEE TPDS 12(6), 2001), figure 1, and sharing nothing with
`p2pfed.simulate.workload.easy`: it asks at every time that anything happens who is free, makes the
whole profile of returning processors anew, and looks at every waiting job.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class NaiveJob:
    submit: int
    run: int
    asked: int
    procs: int
    start: int | None = None

    @property
    def end(self) -> int:
        assert self.start is not None
        return self.start + self.run


def naive_easy(jobs: list[NaiveJob], procs: int) -> list[int]:
    """The start of every job."""
    now = -1
    running: list[NaiveJob] = []
    while True:
        times = [job.submit for job in jobs if job.submit > now]
        times += [job.end for job in running]
        if not times:
            return [job.start for job in jobs if job.start is not None]
        now = min(times)
        running = [job for job in running if job.end != now]
        queue = [job for job in jobs if job.start is None and job.submit <= now]
        while queue and queue[0].procs <= procs - sum(job.procs for job in running):
            queue[0].start = now
            running.append(queue.pop(0))
        if queue:
            backfill(queue[0], queue[1:], running, procs, now)


def backfill(
    first: NaiveJob, others: list[NaiveJob], running: list[NaiveJob], procs: int, now: int
) -> None:
    """Starts every other job that delays the first one in no way that can be foreseen."""

    def free_at(time: int) -> int:
        """Processors free then, if all who run use what they asked for."""
        return procs - sum(j.procs for j in running if (j.start or 0) + j.asked > time)

    promised = sorted((job.start or 0) + job.asked for job in running)
    shadow = next(time for time in promised if free_at(time) >= first.procs)
    for job in others:
        if job.procs > procs - sum(j.procs for j in running):
            continue
        if now + job.asked <= shadow or free_at(shadow) - job.procs >= first.procs:
            job.start = now
            running.append(job)
