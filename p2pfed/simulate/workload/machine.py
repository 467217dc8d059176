"""A centre's machine in a federation: its own queue under EASY, and guests beside it.

Theory of operation. Local jobs come first. In each scheduling pass the queue is treated just as on
a machine without a federation (see `easy`), with what guests hold counted in one of two ways:

- *Guests that stay* are running jobs like any other: their processors are taken, and come back when
  their time is up. What keeps them from harming local jobs is what is offered to them at all
  (`offers`).
- *Preemptible guests* are not there: a pass starts exactly the local jobs that it would start on
  the same machine without guests, and if those need processors that guests hold, the guests that
  came last are cut short.

All times are in ms. A machine holds job numbers and never looks at run times; its owner tells it
when something ends.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import NamedTuple

from p2pfed.simulate.workload.easy import shadow_of
from p2pfed.simulate.workload.options import CentrePolicy


class Capacity(NamedTuple):
    """Processors that guests may have: for how long, and until when.

    Attributes:
        procs: free for such guests now.
        long: True if guests of any length are taken, False if only short ones.
        until_ms: they must be done by then; 0 for no limit.
    """

    procs: int
    long: bool
    until_ms: int


class Guest(NamedTuple):
    """A job of another centre, by the time it must be done."""

    ends_ms: int
    procs: int
    job: int


@dataclass(slots=True)
class Pass:
    """What a scheduling pass decided: local jobs to start and guests to cut short, in order."""

    started: list[int]
    preempted: list[int]


class Machine:
    """One machine.

    Args:
        procs: its processors.
        policy: its owner's.
        width: per job, processors.
        walltime_ms: per job, requested time on this machine.
    """

    def __init__(
        self, procs: int, policy: CentrePolicy, width: list[int], walltime_ms: list[int]
    ) -> None:
        self.procs = procs
        self.policy = policy
        self.width = width
        self.walltime_ms = walltime_ms
        self.waiting: list[int] = []
        self.running: list[Guest] = []  # local jobs, by latest end
        self.guests: dict[int, Guest] = {}  # in the order of coming
        self.local_procs = 0
        self.guest_procs = 0
        self.long_procs = 0
        self._long_limit = int(policy.long_share * procs)
        self._share_limit = int(policy.share * procs)

    # What happens

    def submit(self, job: int) -> None:
        """Puts a local job into the queue: behind all that came before it."""
        insort(self.waiting, job)

    def withdraw(self, job: int) -> None:
        """Takes a job out of the queue; it goes elsewhere."""
        del self.waiting[bisect_left(self.waiting, job)]

    def waits(self, job: int) -> bool:
        """True if the job stands in the queue."""
        place = bisect_left(self.waiting, job)
        return place < len(self.waiting) and self.waiting[place] == job

    def end_local(self, ends_ms: int, job: int) -> None:
        """A local job that would have had to end by `ends_ms` has ended."""
        entry = Guest(ends_ms, self.width[job], job)
        del self.running[bisect_left(self.running, entry)]
        self.local_procs -= self.width[job]

    def admit_guest(self, job: int, ends_ms: int, *, long: bool) -> None:
        """A guest takes its processors."""
        procs = self.width[job]
        self.guests[job] = Guest(ends_ms, procs, job)
        self.guest_procs += procs
        if long:
            self.long_procs += procs

    def end_guest(self, job: int, *, long: bool) -> None:
        """A guest gives its processors back."""
        procs = self.guests.pop(job).procs
        self.guest_procs -= procs
        if long:
            self.long_procs -= procs

    # What it decides

    @property
    def idle(self) -> int:
        """Processors that nobody holds."""
        return self.procs - self.local_procs - self.guest_procs

    def schedule(self, now_ms: int) -> Pass:
        """One scheduling pass. Local jobs start here; guests are only named, to be ended."""
        waiting, width = self.waiting, self.width
        if not waiting:
            return Pass([], [])
        free = self.procs - self.local_procs
        if not self.policy.preemptible:
            free -= self.guest_procs
        started: list[int] = []
        if free > 0:
            begun = 0
            for job in waiting:
                if width[job] > free:
                    break
                free -= width[job]
                self._start(job, now_ms)
                begun += 1
            started = waiting[:begun]
            del waiting[:begun]
            if waiting and free > 0:
                started += self._backfill(now_ms, free)
        return Pass(started, self._to_preempt() if started else [])

    def _start(self, job: int, now_ms: int) -> None:
        insort(self.running, Guest(now_ms + self.walltime_ms[job], self.width[job], job))
        self.local_procs += self.width[job]

    def _backfill(self, now_ms: int, free: int) -> list[int]:
        waiting, width, walltime_ms = self.waiting, self.width, self.walltime_ms
        if len(waiting) == 1:
            return []
        shadow, extra = shadow_of(self._holders(), free, width[waiting[0]])
        left = shadow - now_ms
        chosen = []
        for position in range(1, len(waiting)):
            job = waiting[position]
            need = width[job]
            if need > free:
                continue
            if walltime_ms[job] > left:
                if need > extra:
                    continue
                extra -= need
            free -= need
            chosen.append(position)
            if not free:
                break
        started = [waiting[position] for position in chosen]
        for position in reversed(chosen):
            del waiting[position]
        for job in started:
            self._start(job, now_ms)
        return started

    def _holders(self) -> list[Guest]:
        """Who holds processors that local jobs must wait for, by latest end."""
        if self.policy.preemptible or not self.guests:
            return self.running
        return sorted([*self.running, *self.guests.values()])

    def _to_preempt(self) -> list[int]:
        """The guests that came last, as many as hold what local jobs have just taken."""
        lacking = -self.idle
        found = []
        if lacking > 0:
            for guest in reversed(self.guests.values()):
                found.append(guest.job)
                lacking -= guest.procs
                if lacking <= 0:
                    break
        return found

    def held_up(self) -> int | None:
        """The first waiting job, if it could start now but for guests; else None."""
        if self.waiting and not self.policy.preemptible and self.guest_procs:
            first = self.waiting[0]
            if self.width[first] <= self.procs - self.local_procs:
                return first
        return None

    # What it offers

    def offers(self, closes_ms: int) -> list[Capacity]:
        """What guests may have now: the same processors may stand in several of them.

        Each is what a guest of that length and end could get, so nothing is lost by cutting
        capacity into parts; whoever is accepted first takes it.

        Args:
            closes_ms: guests must be done by then in any case; 0 for no limit.
        """
        policy = self.policy
        procs = min(self.idle - policy.kept_free, self._share_limit - self.guest_procs)
        if procs <= 0:
            return []
        long_procs = min(procs, self._long_limit - self.long_procs)
        if not self.waiting or not policy.to_shadow:
            found = [(procs, False, closes_ms), (long_procs, True, closes_ms)]
        else:
            shadow, extra = self._shadow()
            until_ms = min(shadow, closes_ms) if closes_ms else shadow
            found = [(procs, False, until_ms), (long_procs, True, until_ms)]
            if policy.beyond_shadow and extra > 0:
                found.append((min(procs, extra), False, closes_ms))
                found.append((min(long_procs, extra), True, closes_ms))
        found = [one for one in dict.fromkeys(found) if one[0] > 0]
        return [Capacity(*one) for one in found if not _covered(one, found)]

    def _shadow(self) -> tuple[int, int]:
        """When the first waiting job could surely start, and what it will leave over then."""
        free = self.procs - self.local_procs
        if not self.policy.preemptible:
            free -= self.guest_procs
        return shadow_of(self._holders(), free, self.width[self.waiting[0]])

    def takes(self, now_ms: int, job: int, closes_ms: int) -> bool:
        """True if the job may come as a guest now."""
        need, ends_ms = self.width[job], now_ms + self.walltime_ms[job]
        long = self.is_long(job)
        return any(
            need <= part.procs
            and (part.long or not long)
            and (not part.until_ms or ends_ms <= part.until_ms)
            for part in self.offers(closes_ms)
        )

    def is_long(self, job: int) -> bool:
        """True if the job counts as a long guest here."""
        return self.walltime_ms[job] > self.policy.long_s * 1_000


def _covered(one: tuple[int, bool, int], found: list[tuple[int, bool, int]]) -> bool:
    """True if another capacity gives all that this one gives."""
    procs, long, until_ms = one
    for other in found:
        if other == one:
            continue
        if (
            other[0] >= procs
            and other[1] >= long
            and (not other[2] or (until_ms and other[2] >= until_ms))
        ):
            return True
    return False
