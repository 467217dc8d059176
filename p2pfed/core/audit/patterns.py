"""Patterns that a human should look at. None of them breaks a rule, each may have a good reason.

All are counted while the ledger passes, in memory that follows centres and offers, not records:

- clocks: the least time between a block and the acks of it, both ways between two centres, tells
  how far their clocks are apart, as in NTP: half the difference of the two least delays;
- declines by reason, for each pair;
- offers that many claimed and on which nothing ever started;
- hosts at which nothing that they start ever runs;
- homes that answer most usage records in the last quarter before the deadline;
- homes whose jobs exceeded a class's share and were counted as the next class down;
- two centres that trade only with each other while others are there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from p2pfed.core.audit.course import Handler
from p2pfed.core.audit.findings import Finding, Findings, Severity
from p2pfed.core.blocks import Block
from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId, Position
from p2pfed.core.records import (
    Claim,
    Close,
    Dispute,
    End,
    Job,
    Lost,
    Outcome,
    Receipt,
    Record,
    Start,
)
from p2pfed.core.state import State
from p2pfed.core.units import hlc_ms

FEW: Final = 10
"""Below so many cases nothing is a pattern."""
ACKS_MIN: Final = 100
"""Acks each way, below which nothing is said about clocks."""

Pair = tuple[CentreName, CentreName]


@dataclass(slots=True)
class _Offer:
    claims: int = 0
    starts: int = 0


class Patterns:
    """Counts while the ledger passes, by `hear` and `handlers`; says at the end what stands out."""

    def __init__(self, state: State, findings: Findings) -> None:
        self._state = state
        self._findings = findings
        self._newest_ms: dict[CentreName, dict[int, int]] = {}
        self._delays: dict[Pair, tuple[int, int]] = {}
        self.declines: Counter[tuple[CentreName, CentreName, str]] = Counter()
        self._claims: Counter[Pair] = Counter()
        self._runs: Counter[Pair] = Counter()
        self._offers: dict[OfferId, _Offer] = {}
        self._ran: Counter[CentreName] = Counter()
        self._idle: Counter[CentreName] = Counter()
        self._answers: Counter[CentreName] = Counter()
        self._late: Counter[CentreName] = Counter()
        self._jobs: Counter[CentreName] = Counter()
        self._demoted: Counter[CentreName] = Counter()
        self.handlers: dict[type[Record], Handler] = {
            Job: self._job,
            Claim: self._claim,
            Close: self._close,
            Start: self._start,
            End: self._ended,
            Lost: self._lost,
            Receipt: self._answer,
            Dispute: self._answer,
        }

    def hear(self, block: Block) -> None:
        """Notes how soon after a block of another centre this one acks it."""
        centre, now_ms = block.feed.centre, hlc_ms(block.time)
        times = self._newest_ms.setdefault(centre, {})
        times[block.seq_num] = now_ms
        if len(times) > _TIMES_KEPT:
            del times[next(iter(times))]
        for feed, head in block.header.acks:
            acked_ms = self._newest_ms.get(feed.centre, {}).get(head.seq_num)
            if acked_ms is not None:
                pair = feed.centre, centre
                count, least = self._delays.get(pair, (0, now_ms))
                self._delays[pair] = count + 1, min(least, now_ms - acked_ms)

    def _job(self, record: Job, position: Position, now_ms: int) -> None:
        self._jobs[position.centre] += 1
        used = self._state.class_used(JobId(position))
        self._demoted[position.centre] += used is not None and used != record.work_class

    def _claim(self, record: Claim, position: Position, now_ms: int) -> None:
        self._claims[position.centre, record.offer_id.centre] += 1
        self._offer(OfferId(record.offer_id)).claims += 1

    def _offer(self, offer_id: OfferId) -> _Offer:
        found = self._offers.get(offer_id)
        if found is None:
            found = self._offers[offer_id] = _Offer()
        return found

    def _close(self, record: Close, position: Position, now_ms: int) -> None:
        self.declines[record.claim_id.centre, position.centre, record.reason] += 1

    def _start(self, record: Start, position: Position, now_ms: int) -> None:
        self._runs[record.claim_id.centre, position.centre] += 1
        entry = self._state.registers.claims.get(ClaimId(record.claim_id))
        if entry is not None and entry.claim is not None:
            self._offer(OfferId(entry.claim.offer_id)).starts += 1

    def _ended(self, record: End, position: Position, now_ms: int) -> None:
        ran = record.core_s > 0 or record.outcome not in _NEVER_RAN
        self._end(position.centre, ran=ran)

    def _lost(self, record: Lost, position: Position, now_ms: int) -> None:
        entry = self._state.registers.claims.get(ClaimId(record.claim_id))
        if entry is not None and entry.claim is not None and entry.host_side.native_name:
            self._end(entry.claim.offer_id.centre, ran=False)

    def _answer(self, record: Receipt | Dispute, position: Position, now_ms: int) -> None:
        entry = self._state.registers.claims.get(ClaimId(record.claim_id))
        if entry is not None and entry.host_side.ended:
            waited_ms = now_ms - hlc_ms(entry.host_side.ended)
            self._answers[position.centre] += 1
            late = 4 * waited_ms > 3 * self._state.rules.receipt_deadline_ms
            self._late[position.centre] += late

    def _end(self, host: CentreName, *, ran: bool) -> None:
        self._ran[host] += ran
        self._idle[host] += not ran

    # The end

    def finish(self) -> None:
        """Names what stands out."""
        self._name_clocks()
        for host, count in sorted(self._idle.items()):
            if count >= FEW and not self._ran[host]:
                text = f"{count} jobs that it started ended, and none of them ever ran"
                self._name("host-runs-nothing", host, text)
        self._name_declines()
        self._name_offers()
        for home, count in sorted(self._answers.items()):
            if self._late[home] >= FEW and 2 * self._late[home] > count:
                text = f"{self._late[home]} of {count} receipts came just before the deadline"
                self._name("receipts-late", home, text)
        for home, count in sorted(self._demoted.items()):
            if count >= FEW:
                text = f"{count} of {self._jobs[home]} jobs exceeded the share of their class"
                self._name("class-share-exceeded", home, text)
        self._name_closed_pairs()

    def _name(self, code: str, centre: CentreName, text: str, where: str = "") -> None:
        finding = Finding(Severity.NOTICE, code, where or centre, text, centre)
        self._findings.add(finding)

    def _name_clocks(self) -> None:
        """Names the centre of a pair whose clock is ahead."""
        for (one, other), (count, least) in sorted(self._delays.items()):
            back_count, back = self._delays.get((other, one), (0, 0))
            if min(count, back_count) < ACKS_MIN:
                continue
            # A clock that is ahead makes what it says look later, and what it hears look older.
            ahead_ms = (back - least) // 2
            if ahead_ms > self._state.rules.clock_error_ms:
                text = f"its clock seems to be {ahead_ms} ms ahead of {other}'s"
                self._name("clock-offset", one, text)

    def _name_declines(self) -> None:
        for (home, host, reason), count in sorted(self.declines.items()):
            claims = self._claims[home, host]
            if count >= FEW and 2 * count > claims:
                text = f"{count} of {claims} claims of {home} were closed as {reason!r}"
                self._name("declines-frequent", host, text)

    def _name_offers(self) -> None:
        for offer_id, offer in sorted(self._offers.items()):
            if offer.claims >= FEW and not offer.starts:
                text = f"{offer.claims} claims, and nothing was ever started"
                self._name("offer-not-honoured", offer_id.centre, text, str(offer_id))

    def _name_closed_pairs(self) -> None:
        """Homes that ran only at one host, which ran only theirs, while there were others."""
        if len(self._state.members) < _MEMBERS_MIN:
            return
        hosts: dict[CentreName, set[CentreName]] = {}
        homes: dict[CentreName, set[CentreName]] = {}
        for home, host in self._runs:
            hosts.setdefault(home, set()).add(host)
            homes.setdefault(host, set()).add(home)
        for (home, host), count in sorted(self._runs.items()):
            if count >= FEW and len(hosts[home]) == len(homes[host]) == 1:
                others = hosts.get(host, {home}) == {home} and homes.get(home, {host}) == {host}
                if others:
                    text = f"{count} jobs ran at {host}, which ran no other centre's, nor they"
                    self._name("pair-closed", home, text)


_TIMES_KEPT: Final = 256
_MEMBERS_MIN: Final = 3
_NEVER_RAN: Final = frozenset({Outcome.NOT_STARTED, Outcome.NOT_FOUND, Outcome.NODE_FAILURE})
