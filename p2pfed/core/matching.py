"""Who runs what: the pure function that every node computes from the same view.

Theory of operation. Homes stand in a heap by the score of their first job. The highest job is
taken; if offers fit, it goes to the one that has least left over, its home is charged at once
(which lowers the balance and so the scores of the home's other jobs), and the home goes back into
the heap. If none fits, its shape is passed over for the rest of the round, because free capacity
and balances only go down while placing; but the job gets a reservation where it can start first.
The round ends when no shape is left.

Scores are compared in exact integers: urgency is per hour and balance in ppm, so all terms are
scaled by `SCALE`, which both divide; floors appear only in what is shown. Waiting time enters as
`- waiting_since`, since the cut is common to all. Every order ends in an id.

docs/explanation/matching.md states the rules by definition, and a matcher that follows that text
word by word must agree with this one (tests/properties/test_matching_agreement.py).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, NamedTuple

from p2pfed.core.accounting import Standing, balance
from p2pfed.core.ids import CentreName, JobId, OfferId
from p2pfed.core.matching_fit import (
    Amount,
    OfferState,
    Running,
    amount_of,
    capacity_of,
    end_ms,
    fits,
)
from p2pfed.core.matching_index import OfferIndex
from p2pfed.core.queue import HOUR_MS, Cell, Key, Kind, Queue, QueuedJob, Shape
from p2pfed.core.rules import PPM, Rules

__all__ = [
    "Amount",
    "MatchInput",
    "Matcher",
    "Matching",
    "OfferState",
    "Placement",
    "Reservation",
    "Running",
    "Score",
    "amount_of",
    "capacity_of",
    "fits",
    "match",
]

SCALE: Final = 18_000_000
"""Least common multiple of `HOUR_MS` and `PPM`: what scores are multiplied by to be exact."""
ORDER_SCALE: Final = SCALE // HOUR_MS
BALANCE_SCALE: Final = SCALE // PPM


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchInput:
    """Everything that a matching depends on.

    Attributes:
        round: the round's number.
        cut_ms: its cut; the queue, offers and standings are those at the cut.
        standings: per home, what is committed included in its usage; absent means all zero.
        alive: the centres whose newest block at the cut is young enough and that are members in
            good standing. Offers and jobs of others don't count.
    """

    round: int
    cut_ms: int
    rules: Rules
    queue: Queue
    offers: Mapping[OfferId, OfferState]
    standings: Mapping[CentreName, Standing]
    alive: Container[CentreName]


class Score(NamedTuple):
    """The terms of a score in points, each rounded down for show; compared are exact values."""

    class_points: int
    urgency_points: int
    balance_points: int

    @property
    def total(self) -> int:
        """The sum of the terms."""
        return sum(self)


class Placement(NamedTuple):
    """A matched pair; `score` is the job's at its turn, after what its home was charged before."""

    job_id: JobId
    offer_id: OfferId
    score: Score


class Reservation(NamedTuple):
    """A job for which capacity of an offer is kept: enough is surely back at `starts_ms`."""

    job_id: JobId
    offer_id: OfferId
    starts_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """What a round decided.

    Attributes:
        placements: in the order of being placed; `by_job` finds one.
        reservations: in the order of being made.
        valid_until_ms: if nothing but time changes and nothing was placed, the same holds for
            every cut up to this one; None means for ever.
        tried: how many shapes were looked at: what the round's cost follows.
    """

    round: int
    cut_ms: int
    placements: tuple[Placement, ...]
    reservations: tuple[Reservation, ...]
    valid_until_ms: int | None
    tried: int

    def placement(self, job_id: JobId) -> Placement | None:
        """The placement of a job, if it has one. Cost: a pass over all."""
        return next((p for p in self.placements if p.job_id == job_id), None)

    def reservation(self, job_id: JobId) -> Reservation | None:
        """The reservation of a job, if it has one. Cost: a pass over all."""
        return next((r for r in self.reservations if r.job_id == job_id), None)


def score_of(job: QueuedJob, cut_ms: int, balance_ppm: int, rules: Rules) -> Score:
    """The terms of the job's score at the cut, each rounded down."""
    waited_ms = cut_ms - job.waiting_since_ms
    return Score(
        job.class_points,
        waited_ms * rules.urgency_points_per_hour // HOUR_MS,
        balance_ppm * rules.balance_points // PPM,
    )


def charge_of(shape: Shape, rules: Rules) -> int:
    """The points that a placement adds to its home's usage: all it needs, for its walltime."""
    resource = rules.resource_class(shape.resource_class)
    if resource is None:
        return 0
    node_s = shape.nodes * shape.walltime_s
    amount = resource.amount(
        core_s=node_s * shape.cores_per_node, gpu_s=node_s * shape.gpus_per_node
    )
    return resource.points(amount)


def match(given: MatchInput) -> Matching:
    """The placements and reservations of a round.

    A pure function of its argument (the queue is put into the order of the rules if it was not):
    equal inputs give equal results on every machine, Python and hash seed (design invariant 4).
    """
    given.queue.set_urgency(given.rules.urgency_points_per_hour)
    return _Round(given).run()


_Follower = tuple[list[Key], int]
"""A shape's jobs and the index of the one that stands in the heap."""


class _Home:
    """A home during a round: a heap of the jobs that are next of their shape or cell."""

    __slots__ = ("charged", "heap", "last", "name", "payable", "ppm", "standing")

    def __init__(self, name: CentreName, standing: Standing, last: Key | None) -> None:
        self.name = name
        self.standing = standing
        self.last = last
        self.charged = 0
        self.ppm = balance(standing)
        self.payable = 0
        self.heap: list[tuple[int, JobId, _Source | _Follower]] = []


class _Source:
    """The heads of a cell, one after the other; those of kinds in `gone` get nothing any more."""

    __slots__ = ("cell", "checked", "gone", "heads")

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.heads: Iterator[Key] = iter(cell.heads)
        self.checked = -1
        self.gone: set[Kind] = set()


class _Round:
    """One computation of `match`."""

    def __init__(self, given: MatchInput) -> None:
        rules, alive = given.rules, given.alive
        self._given = given
        self._rules = rules
        self._queue = given.queue
        offers = (offer for offer in given.offers.values() if offer.offer_id.centre in alive)
        self._index = OfferIndex(offers, given.round, given.cut_ms, rules)
        self._weight = BALANCE_SCALE * rules.balance_points
        self._placements: list[Placement] = []
        self._reservations: list[Reservation] = []
        self._valid_until_ms: int | None = None
        self._tried = 0
        self._changes = 0

    def run(self) -> Matching:
        """Places and reserves until no shape is left."""
        homes = self._homes()
        heapify(homes)
        weight = self._weight
        while homes:
            home = homes[0][2]
            order, job_id, source = heappop(home.heap)
            if home.last is None or (order, job_id) <= home.last:
                self._turn(home, job_id, source)
            else:
                home.heap.clear()
            if home.heap:
                order, job_id, _ = home.heap[0]
                heapreplace(homes, (order * ORDER_SCALE - home.ppm * weight, job_id, home))
            else:
                heappop(homes)
        return Matching(
            round=self._given.round,
            cut_ms=self._given.cut_ms,
            placements=tuple(self._placements),
            reservations=tuple(self._reservations),
            valid_until_ms=self._valid_until_ms,
            tried=self._tried,
        )

    def _homes(self) -> list[tuple[int, JobId, _Home]]:
        """The homes that take part, each with the rank of its first job."""
        given, queue, found = self._given, self._queue, []
        for name in queue.homes():
            if name not in given.alive:
                continue
            last = None
            if queue.count(name) > self._rules.live_jobs_max:
                last = queue.key_at(name, self._rules.live_jobs_max - 1)
            home = _Home(name, given.standings.get(name, Standing(0, 0, 0)), last)
            home.payable = self._index.within_balance(home.ppm)
            for cell in queue.cells(name):
                source = _Source(cell)
                order, job_id = next(source.heads)
                home.heap.append((order, job_id, source))
            heapify(home.heap)
            order, job_id, _ = home.heap[0]
            found.append((order * ORDER_SCALE - home.ppm * self._weight, job_id, home))
        return found

    def _turn(self, home: _Home, job_id: JobId, source: _Source | _Follower) -> None:
        """Tries one job, and puts what comes after it into the home's heap."""
        if isinstance(source, _Source):
            if self._exhausted(home, source):
                return
            head = self._next_head(home, source)
            if head is not None:
                heappush(home.heap, (*head, source))
        job = self._queue[job_id]
        if not self._try(home, job):
            return
        if isinstance(source, tuple):
            members, index = source[0], source[1] + 1
        else:
            members, index = self._queue.members(job.shape), 1
        if index < len(members):
            order, follower = members[index]
            heappush(home.heap, (order, follower, (members, index)))

    def _exhausted(self, home: _Home, source: _Source) -> bool:
        """True if nothing of the cell can be placed; asked once per state of the offers."""
        if source.checked == self._changes:
            return False
        source.checked = self._changes
        return self._index.exhausted(home.name, source.cell.corner, home.payable)

    def _next_head(self, home: _Home, source: _Source) -> Key | None:
        """The next head of the cell whose kind is not exhausted, None if no such head is left."""
        queue, gone = self._queue, source.gone
        for head in source.heads:
            kind = queue[head[1]].shape.kind
            if kind in gone:
                continue
            if self._index.exhausted(home.name, source.cell.corner, home.payable, kind):
                gone.add(kind)
                continue
            key: Key = head
            return key
        return None

    def _try(self, home: _Home, job: QueuedJob) -> bool:
        """Places the job if an offer fits; else reserves for it if it can."""
        self._tried += 1
        index, shape = self._index, job.shape
        need = amount_of(shape)
        mask = index.admitting(shape, need, home.payable)
        if not mask:
            return False
        ends_ms = end_ms(self._given.cut_ms, shape.walltime_s, self._rules)
        number = None
        avoided = index.of_hosts(shape.avoided)
        if avoided:
            number = index.choose(shape, need, ends_ms, mask & ~avoided, job.job_id)
        if number is None:
            number = index.choose(shape, need, ends_ms, mask, job.job_id)
        if number is None:
            self._reserve(shape, need, mask, job.job_id)
            return False
        score = score_of(job, self._given.cut_ms, home.ppm, self._rules)
        self._placements.append(Placement(job.job_id, index.offers[number].offer_id, score))
        index.place(number, home.name, need, ends_ms)
        self._charge(home, shape)
        self._changes += 1
        return True

    def _reserve(self, shape: Shape, need: Amount, mask: int, job_id: JobId) -> None:
        index = self._index
        number = index.reserve(shape, need, mask, job_id)
        if number is None:
            return
        self._changes += 1
        offer = index.offers[number]
        starts_ms = index.books[number].reserved[-1].starts_ms
        self._reservations.append(Reservation(job_id, offer.offer_id, starts_ms))
        if offer.until_ms:
            last_ms = offer.until_ms - end_ms(0, shape.walltime_s, self._rules)
            known = self._valid_until_ms
            self._valid_until_ms = last_ms if known is None else min(known, last_ms)

    def _charge(self, home: _Home, shape: Shape) -> None:
        """Counts the placement as usage of its home."""
        home.charged += charge_of(shape, self._rules)
        home.ppm = balance(home.standing, home.charged)
        home.payable = self._index.within_balance(home.ppm)


class Matcher:
    """`match` with a memory of one round, for rounds in which nothing changed.

    Time alone can't create a placement: with the same queue, offers, standings and living centres
    all scores grow alike, so jobs are tried in the same order; windows only get shorter, and a
    job's end only moves back against reserved starts, which are fixed by what runs. So whoever
    failed fails again, and reserves the same place, until a reserved job itself no longer fits its
    offer's window: `Matching.valid_until_ms`. (After a round with placements the answer is not
    reused: the choice among equal offers depends on the round.)
    """

    def __init__(self) -> None:
        self._last: _Memory | None = None

    def match(self, given: MatchInput) -> Matching:
        """The same as `match(given)`; cheap if nothing but time changed since the last call."""
        memory, last = _Memory.of(given), self._last
        if last is not None and last.holds_for(memory, given):
            return replace(last.result, round=given.round, cut_ms=given.cut_ms)
        memory.result = match(given)
        memory.queue_changes = given.queue.changes
        self._last = memory
        return memory.result


@dataclass(slots=True)
class _Memory:
    """What a result was computed from, as far as it can change."""

    queue: Queue
    queue_changes: int
    rules: Rules
    offers: list[OfferState]
    standings: list[tuple[CentreName, Standing]]
    dead: list[CentreName]
    result: Matching

    @classmethod
    def of(cls, given: MatchInput) -> _Memory:
        centres = sorted({*given.queue.homes(), *(offer_id.centre for offer_id in given.offers)})
        return cls(
            queue=given.queue,
            queue_changes=given.queue.changes,
            rules=given.rules,
            offers=list(given.offers.values()),
            standings=list(given.standings.items()),
            dead=[centre for centre in centres if centre not in given.alive],
            result=_NOTHING,
        )

    def holds_for(self, now: _Memory, given: MatchInput) -> bool:
        """True if `result` is also the matching of what stands now."""
        result = self.result
        return (
            not result.placements
            and given.cut_ms >= result.cut_ms
            and (result.valid_until_ms is None or given.cut_ms <= result.valid_until_ms)
            and self.queue is now.queue
            and self.queue_changes == now.queue_changes
            and self.dead == now.dead
            and self.standings == now.standings
            and self.offers == now.offers
            and self.rules == now.rules
        )


_NOTHING: Final = Matching(
    round=0, cut_ms=0, placements=(), reservations=(), valid_until_ms=None, tried=0
)
