"""One offer's books during a round: what is free, what comes back when, and for whom it is kept.

Theory of operation (EASY backfilling; Lifka, "The ANL/IBM SP Scheduling System", 1995, with the
reservations per offer and up to `reserve_depth` deep). A job that fits an offer's terms, but not
what is free, may be given a *reservation*: it is taken to start when enough has come back for it
and for all reservations made there before it, which are assumed to hold their part for ever. So
later reservations never delay earlier ones, and starts never go down in the order of making.

Another job passes a reservation if its capacity is surely back by the reserved start, or if its
need fits the *room*: what will be free at that start, less this and the earlier reservations.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate

from p2pfed.core.ids import JobId
from p2pfed.core.matching_fit import Amount, OfferState, covers

_Columns = tuple[list[int], list[int], list[int]]
"""Cores, GPUs and memory that are back by each end."""


@dataclass(slots=True)
class Reserved:
    """A job's place on an offer: capacity enough is surely back at `starts_ms`.

    `room` is what others may take without delaying it, if they don't end before.
    """

    job_id: JobId
    starts_ms: int
    amount: Amount
    room: Amount


class Books:
    """What happens to one offer in the course of a round.

    `free` of each resource only goes down, so a job that once failed here fails for the rest of
    the round. The three amounts stand in attributes of their own because the matching reads them
    hundreds of thousands of times.
    """

    __slots__ = (
        "_back",
        "_ends",
        "cores",
        "gpus",
        "held_cores",
        "memory_mib",
        "reserved",
        "returns",
    )

    def __init__(self, offer: OfferState) -> None:
        _, self.cores, self.gpus, self.memory_mib = offer.free
        self.held_cores = offer.held_cores
        self.returns = [(part.ends_ms, part.amount) for part in offer.running]
        self.reserved: list[Reserved] = []
        self._ends: list[int] = []  # empty: to be made from `returns`
        self._back: _Columns = ([], [], [])

    @property
    def free(self) -> Amount:
        """What is free now."""
        return Amount(0, self.cores, self.gpus, self.memory_mib)

    def take(self, amount: Amount, ends_ms: int) -> None:
        """Gives `amount` to a job placed in this round."""
        self.cores -= amount.cores
        self.gpus -= amount.gpus
        self.memory_mib -= amount.memory_mib
        self.returns.append((ends_ms, amount))
        self._ends = []
        for kept in self.reserved:
            if ends_ms > kept.starts_ms:
                kept.room = _minus(kept.room, amount)

    def passes(self, need: Amount, ends_ms: int) -> bool:
        """True if a job that fits what is free delays no reservation."""
        for kept in self.reserved:
            if ends_ms > kept.starts_ms and not covers(kept.room, need):
                return False
        return True

    def start_of(self, need: Amount) -> int | None:
        """When a job of this need could start beside all reservations; None if never.

        The earliest of the known returns by which enough is back. It may lie before the cut, if
        a host has not yet said that something has ended.
        """
        _, cores, gpus, memory_mib = need
        for kept in self.reserved:
            cores += kept.amount.cores
            gpus += kept.amount.gpus
            memory_mib += kept.amount.memory_mib
        ends = self._ends or self._line_up()
        back_cores, back_gpus, back_memory = self._back
        first = 0
        if cores > self.cores:
            first = bisect_left(back_cores, cores - self.cores)
        if memory_mib > self.memory_mib:
            first = max(first, bisect_left(back_memory, memory_mib - self.memory_mib))
        if gpus > self.gpus:
            first = max(first, bisect_left(back_gpus, gpus - self.gpus))
        return ends[first] if first < len(ends) else None

    def reserve(self, job_id: JobId, starts_ms: int, amount: Amount) -> None:
        """Keeps `amount` for the job from `starts_ms` on."""
        room = _minus(self._free_at(starts_ms), amount)
        for kept in self.reserved:
            room = _minus(room, kept.amount)
        self.reserved.append(Reserved(job_id, starts_ms, amount, room))

    def _free_at(self, time_ms: int) -> Amount:
        """What is free once all is back that is surely back by then."""
        count = bisect_right(self._ends or self._line_up(), time_ms)
        if not count:
            return self.free
        cores, gpus, memory_mib = (column[count - 1] for column in self._back)
        return Amount(0, self.cores + cores, self.gpus + gpus, self.memory_mib + memory_mib)

    def _line_up(self) -> list[int]:
        """The ends, ascending, and in `_back` how much of each resource is back by each."""
        self.returns.sort()
        self._ends = [end for end, _ in self.returns]
        amounts = [amount for _, amount in self.returns]
        self._back = (
            list(accumulate(amount.cores for amount in amounts)),
            list(accumulate(amount.gpus for amount in amounts)),
            list(accumulate(amount.memory_mib for amount in amounts)),
        )
        return self._ends


def _minus(a: Amount, b: Amount) -> Amount:
    return Amount(0, a[1] - b[1], a[2] - b[2], a[3] - b[3])
