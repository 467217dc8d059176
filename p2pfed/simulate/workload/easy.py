"""First come, first served with EASY backfilling on one machine: a centre on its own.

Source: D. A. Lifka, "The ANL/IBM SP scheduling system" (JSSPP 1995), as analysed by Mu'alem and
Feitelson (IEEE TPDS 12(6), 2001). The first job of the queue that does not fit gets a reservation:
the *shadow*, the time by which, going by requested times, enough processors are free for it, and
the *extra* processors that it will leave over then. A later job may start before it if it fits now
and either asks for no more time than is left till the shadow, or for no more than the extra
processors. Requested times decide; run times only say when jobs end.

At one time, ends come before arrivals, and both before one scheduling pass. (So a job that runs for
0 s ends after the pass that started it, and brings another pass at the same time.)

The loop holds numbers in lists and heaps, and two things make it fast. While the first job waits,
an arrival can't change anything for those already waiting: only the newcomer is looked at. All
that wait are scanned only when something ended and a processor is free.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from heapq import heappop, heappush


def shadow_of(running: Sequence[tuple[int, int, int]], free: int, width: int) -> tuple[int, int]:
    """When `width` processors are surely free, and how many more are free then.

    Args:
        running: (latest end, processors, id), ascending.
        free: processors free now, less than `width`.
        width: what the first waiting job needs; not more than all processors together.

    Returns:
        The shadow and the extra processors; all that end at the shadow are counted.
    """
    shadow = 0
    for ends, procs, _ in running:
        if free >= width and ends != shadow:
            break
        free += procs
        shadow = ends
    return shadow, free - width


def simulate_easy(
    submit_s: Sequence[int],
    run_s: Sequence[int],
    walltime_s: Sequence[int],
    width: Sequence[int],
    procs: int,
) -> list[int]:
    """The start time of each job.

    Columns are per job: `submit_s` ascending, `run_s` not above `walltime_s`, that at least 1,
    `width` from 1 to `procs`, the processors of the machine.
    """
    count = len(submit_s)
    start = [0] * count
    ends: list[tuple[int, int]] = []  # heap of (end, job)
    running: list[tuple[int, int, int]] = []  # (latest end, processors, job), ascending
    waiting: list[int] = []  # in the order of arrival; the first one does not fit
    free, arrived = procs, 0
    shadow = extra = 0  # of waiting[0]
    never = 1 << 62
    next_submit = submit_s[0] if count else never
    while True:
        now = ends[0][0] if ends and ends[0][0] <= next_submit else next_submit
        if now == never:
            return start
        ended = False
        while ends and ends[0][0] == now:
            job = heappop(ends)[1]
            free += width[job]
            del running[bisect_left(running, (start[job] + walltime_s[job], width[job], job))]
            ended = True
        first_new = len(waiting)
        while next_submit == now:
            waiting.append(arrived)
            arrived += 1
            next_submit = submit_s[arrived] if arrived < count else never
        begin = _head(waiting, width, free) if ended or not first_new else 0
        for job in waiting[:begin]:
            free -= width[job]
            start[job] = now
            heappush(ends, (now + run_s[job], job))
            insort(running, (now + walltime_s[job], width[job], job))
        if begin:
            del waiting[:begin]
            first_new = 0
        if ended or not first_new:
            if not waiting:
                continue
            shadow, extra = shadow_of(running, free, width[waiting[0]])
            first_new = 1
        if not free:
            continue
        # Backfilling: all that wait if something ended, else only who has just come.
        left = shadow - now
        chosen = []
        for position in range(first_new, len(waiting)):
            job = waiting[position]
            need = width[job]
            if need <= free and (need <= extra or walltime_s[job] <= left):
                if walltime_s[job] > left:
                    extra -= need
                free -= need
                chosen.append(position)
                start[job] = now
                heappush(ends, (now + run_s[job], job))
                insort(running, (now + walltime_s[job], need, job))
                if not free:
                    break
        for position in reversed(chosen):
            del waiting[position]


def _head(waiting: Sequence[int], width: Sequence[int], free: int) -> int:
    """How many of the first waiting jobs fit one after the other."""
    for position, job in enumerate(waiting):
        free -= width[job]
        if free < 0:
            return position
    return len(waiting)
