"""Balances worked out anew from blocks, slowly and plainly, by nobody's code but this.

A second opinion on `p2pfed.core.accounting` and `p2pfed.core.state`: it shares the reading of
records with them and nothing else. Every number is counted from the first block, each time.
It knows one set of rules and feeds without branches: it is asked only where there were no others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from p2pfed.core.blocks import Block
from p2pfed.core.ids import CentreName, Position
from p2pfed.core.records import (
    Accept,
    Cancel,
    Claim,
    Close,
    Dispute,
    End,
    Handover,
    Job,
    Lost,
    Offer,
    OfferClose,
    OfferUpdate,
    Receipt,
    Release,
    Start,
)
from p2pfed.core.rules import Rules

DAY_MS = 86_400_000
MILLION = 1_000_000
_CHARGED = ("completed", "failed", "timeout", "out-of-memory", "cancelled")
_OUTCOMES = {1: "completed", 2: "failed", 3: "timeout", 4: "out-of-memory", 5: "cancelled"}


def _ms(block: Block) -> int:
    return block.time >> 16


@dataclass
class _Claim:
    claim: Claim
    home: CentreName
    home_says: list[str] = field(default_factory=list)
    host_says: list[str] = field(default_factory=list)
    end: End | None = None
    ended: int = 0
    settled: Receipt | Dispute | None = None
    settled_ms: int = 0
    disputed: Dispute | None = None
    disputed_ms: int = 0

    @property
    def ended_ms(self) -> int:
        """When the host said that it was over."""
        return self.ended >> 16


@dataclass
class _Offer:
    terms: Offer
    nodes: int
    until_ms: int
    opened_ms: int
    open: bool = True


class Sums(NamedTuple):
    """What a centre gave, took and may owe, in points."""

    contribution: int
    usage: int
    credit_line: int


class Books:
    """All amounts of a set of blocks.

    Args:
        blocks: each after those that it names.
        rules: those that were in force all the time.
    """

    def __init__(self, blocks: Iterable[Block], rules: Rules) -> None:
        self._rules = rules
        self._jobs: dict[Position, Job] = {}
        self._cancelled: dict[Position, int] = {}
        self._claims: dict[Position, _Claim] = {}
        self._offers: dict[Position, _Offer] = {}
        self._heard_ms: dict[CentreName, int] = {}
        self._offered_ms: dict[tuple[CentreName, str], int] = defaultdict(int)
        self._offered: dict[tuple[CentreName, str, int], int] = defaultdict(int)
        for block in sorted(blocks, key=lambda b: (b.time, b.header.centre, b.seq_num)):
            self._count_offers(block)
            for index, record in enumerate(block.records):
                self._take(block, block.position(index), record)

    # Reading

    def _take(self, block: Block, at: Position, record: object) -> None:
        now_ms = _ms(block)
        match record:
            case Job():
                self._jobs[at] = record
            case Cancel():
                self._cancelled.setdefault(record.job_id, block.time)
            case Offer():
                self._offers[at] = _Offer(record, record.nodes, record.until_ms, now_ms)
            case OfferUpdate():
                offer = self._offers[record.offer_id]
                offer.nodes, offer.until_ms = record.nodes, record.until_ms
            case OfferClose():
                self._offers[record.offer_id].open = False
            case Claim():
                self._claims[at] = _Claim(record, at.centre)
            case Release() | Handover() | Lost():
                self._claims[record.claim_id].home_says.append(type(record).__name__)
            case Accept() | Close() | Start():
                self._claims[record.claim_id].host_says.append(type(record).__name__)
            case End():
                claim = self._claims[record.claim_id]
                claim.host_says.append("End")
                claim.end, claim.ended = record, block.time
            case Receipt() | Dispute():
                claim = self._claims[record.claim_id]
                if claim.settled is None:
                    claim.settled, claim.settled_ms = record, now_ms
                if isinstance(record, Dispute) and claim.disputed is None:
                    claim.disputed, claim.disputed_ms = record, now_ms

    def _count_offers(self, block: Block) -> None:
        """A centre made its open offers available since its last block, if that is not long ago."""
        centre, now_ms = block.header.centre, _ms(block)
        silent_ms = now_ms - self._heard_ms.get(centre, 0)
        since_ms = now_ms - min(silent_ms, self._rules.offer_lease_ms)
        self._heard_ms[centre] = now_ms
        for offer_id, offer in self._offers.items():
            if offer_id.centre != centre or not offer.open:
                continue
            until_ms = min(now_ms, offer.until_ms) if offer.until_ms else now_ms
            open_ms = max(0, until_ms - max(since_ms, offer.opened_ms))
            name = offer.terms.resource_class
            unit_is_core = self._unit(name) == "core"
            per_node = offer.terms.cores_per_node if unit_is_core else offer.terms.gpus_per_node
            self._offered_ms[centre, name] += offer.nodes * per_node * open_ms
            whole, rest = divmod(self._offered_ms[centre, name], 1000)
            self._offered[centre, name, now_ms // DAY_MS] += whole
            self._offered_ms[centre, name] = rest

    def _unit(self, resource_class: str) -> str:
        return next(c.unit for c in self._rules.resource_classes if c.name == resource_class)

    def _points(self, resource_class: str, amount: int) -> int:
        rate = next(c for c in self._rules.resource_classes if c.name == resource_class)
        return amount * rate.points_num // rate.points_den

    # Counting

    def _claimed(self, job: Job) -> int:
        of_core = self._unit(job.resource_class) == "core"
        per_node = job.cores_per_node if of_core else job.gpus_per_node
        return job.nodes * per_node * job.walltime_s

    def _amount(self, said: End | Receipt | Dispute, job: Job) -> int:
        return said.core_s if self._unit(job.resource_class) == "core" else said.gpu_s

    def _consumed(self, claim: _Claim, cut_ms: int) -> int | None:
        """What counts of a claim at the cut; None if nothing does, or not yet."""
        end, job = claim.end, self._jobs[claim.claim.job_id]
        if end is None or "Handover" not in claim.home_says:
            return None
        outcome = _OUTCOMES.get(end.outcome, "")
        lost = "Lost" in claim.home_says
        if outcome not in _CHARGED:
            return None
        asked = self._cancelled.get(claim.claim.job_id, claim.ended) < claim.ended
        if outcome == "cancelled" and not asked and not lost:
            return None
        most = min(self._amount(end, job), self._claimed(job))
        deadline_ms = claim.ended_ms + self._rules.receipt_deadline_ms
        if claim.disputed is not None and claim.disputed_ms <= deadline_ms:
            return min(most, self._amount(claim.disputed, job))
        if claim.settled is not None and claim.settled_ms <= deadline_ms:
            return min(most, self._amount(claim.settled, job))
        return most if cut_ms >= deadline_ms else None

    def _committed(self, claim: _Claim, cut_ms: int) -> int:
        """Points of a claim that runs, or may still be settled at the cut."""
        job = self._jobs[claim.claim.job_id]
        home, host = claim.home_says, claim.host_says
        closed = "Close" in host or "Release" in home or "Lost" in home
        ended = "End" in host and "Handover" in home
        deadline_ms = claim.ended_ms + self._rules.receipt_deadline_ms
        if closed or (ended and (claim.settled is not None or cut_ms >= deadline_ms)):
            return 0
        return self._points(job.resource_class, self._claimed(job))

    def sums(self, centre: CentreName, cut_ms: int, credit_line: int, *, later: int = 0) -> Sums:
        """The decayed sums of a centre at the cut, or that many days later."""
        delivered: dict[tuple[str, int], int] = defaultdict(int)
        consumed: dict[tuple[str, int], int] = defaultdict(int)
        committed = 0
        for claim in self._claims.values():
            amount = self._consumed(claim, cut_ms)
            name = self._jobs[claim.claim.job_id].resource_class
            day = claim.ended_ms // DAY_MS
            if amount is not None and claim.claim.offer_id.centre == centre:
                delivered[name, day] += amount
            if amount is not None and claim.home == centre:
                consumed[name, day] += amount
            if claim.home == centre:
                committed += self._committed(claim, cut_ms)
        gave: dict[int, int] = defaultdict(int)
        took: dict[int, int] = defaultdict(int)
        offered = {(n, d): a for (c, n, d), a in self._offered.items() if c == centre}
        for name, day in {*delivered, *offered}:
            full = delivered.get((name, day), 0)
            idle = max(0, offered.get((name, day), 0) - full)
            gave[day] += self._points(name, full + idle * self._rules.idle_rate_ppm // MILLION)
        for (name, day), amount in consumed.items():
            took[day] += self._points(name, amount)
        today = cut_ms // DAY_MS + later
        return Sums(self._decayed(gave, today), self._decayed(took, today) + committed, credit_line)

    def _decayed(self, by_day: dict[int, int], today: int) -> int:
        past = [day for day in by_day if day <= today]
        if not past:
            return sum(by_day.values())
        total = 0
        for day in range(max(min(past), today - self._rules.decay_days + 1), today + 1):
            total = total * self._rules.decay_num // self._rules.decay_den
            total += by_day.get(day, 0)
        return total + sum(value for day, value in by_day.items() if day > today)
