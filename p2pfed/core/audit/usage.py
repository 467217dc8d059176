"""What became of every usage record, and how much of it.

An End states what a job consumed. Its home countersigns it (receipted), disputes it (perhaps after
it had countersigned), or says nothing: until the deadline it is one-sided, after it overdue, and
the End stands. A dispute that both parties agreed on, or the members decided, is settled. Sums are
of raw amounts, so that they hold whatever rates were agreed; what counts in points stands in the
accounts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from p2pfed.core.audit.course import Handler
from p2pfed.core.audit.findings import Finding, Findings, Severity
from p2pfed.core.entries import ClaimEntry
from p2pfed.core.ids import CentreName, ClaimId, JobId, Position
from p2pfed.core.records import Dispute, End, Job, Receipt, Record, Settle
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.units import hlc_ms


class Standing(Enum):
    """What the home has said to a usage record."""

    RECEIPTED = "receipted"
    DISPUTED = "disputed"
    SETTLED = "settled"
    ONE_SIDED = "one-sided"
    OVERDUE = "overdue"


class Trade(NamedTuple):
    """Who consumed at whom, and what the home said to it."""

    home: CentreName
    host: CentreName
    standing: Standing


@dataclass(slots=True)
class Sums:
    """Usage records and their raw amounts, as the hosts state them."""

    count: int = 0
    core_s: int = 0
    gpu_s: int = 0

    def add(self, end: End, sign: int = 1) -> None:
        """Counts one more, or with sign -1 one less."""
        self.count += sign
        self.core_s += sign * end.core_s
        self.gpu_s += sign * end.gpu_s


class _Open(NamedTuple):
    end: End
    position: Position
    host: CentreName
    job: JobId
    deadline_ms: int
    entry: ClaimEntry
    posted: Job


class UsageLine(NamedTuple):
    """One usage record, as accounting systems want it.

    Attributes:
        end: what the host states.
        core_s, gpu_s: what the home agreed to: the same, or less in a dispute.
        points: what that is worth by the rules' exchange rates.
    """

    claim_id: ClaimId
    job_id: JobId
    host: CentreName
    job: Job
    end: End
    native_name: str
    standing: Standing
    core_s: int
    gpu_s: int
    points: int


Sink = Callable[[UsageLine], None]
"""Takes each usage record once it is known what became of it; again, if that changed later."""


class UsageBook:
    """Follows every usage record until it is settled, by `handlers`."""

    def __init__(self, state: State, findings: Findings, sink: Sink | None = None) -> None:
        self._state = state
        self._registers = state.registers
        self._findings = findings
        self._sink = sink
        self._open: dict[ClaimId, _Open] = {}
        self._disputed: dict[ClaimId, _Open] = {}
        self.trades: dict[Trade, Sums] = {}
        self.handlers: dict[type[Record], Handler] = {
            End: self._ended,
            Receipt: self._receipted,
            Dispute: self._dispute,
            Settle: self._settle,
        }

    @property
    def _rules(self) -> Rules:
        return self._state.rules

    def _read(self, claim_id: ClaimId, position: Position) -> _Open | None:
        """The usage record of a claim, as the registers hold it."""
        entry = self._registers.claims.get(claim_id)
        job = self._registers.job_of(claim_id)
        if entry is None or entry.claim is None or entry.host_side.end is None or job is None:
            return None
        rules = self._rules
        return _Open(
            end=entry.host_side.end,
            position=position,
            host=entry.claim.offer_id.centre,
            job=JobId(entry.claim.job_id),
            deadline_ms=hlc_ms(entry.host_side.ended) + rules.receipt_deadline_ms,
            entry=entry,
            posted=job.job,
        )

    def _ended(self, end: End, position: Position, now_ms: int) -> None:
        claim_id = ClaimId(end.claim_id)
        found = self._read(claim_id, position)
        if found is None:
            return
        if found.entry.settlement is not None:
            # Settled before it was stated: counts as never settled, conduct names it.
            self._count(claim_id, found, Standing.OVERDUE)
        else:
            self._open[claim_id] = found

    def _receipted(self, record: Receipt, position: Position, now_ms: int) -> None:
        claim_id = ClaimId(record.claim_id)
        found = self._open.pop(claim_id, None)
        if found is None:
            return
        if now_ms > found.deadline_ms:
            self._name_late(claim_id, found, now_ms)
        else:
            self._count(claim_id, found, Standing.RECEIPTED)

    def _dispute(self, record: Dispute, position: Position, now_ms: int) -> None:
        claim_id = ClaimId(record.claim_id)
        found = self._open.pop(claim_id, None)
        if found is None:
            found = self._read(claim_id, record.claim_id)
            if found is None or now_ms > found.deadline_ms:
                return
            trade = Trade(claim_id.centre, found.host, Standing.RECEIPTED)
            self.trades.setdefault(trade, Sums()).add(found.end, -1)
        elif now_ms > found.deadline_ms:
            self._name_late(claim_id, found, now_ms)
            return
        text = f"{record.core_s} of {found.end.core_s} core-seconds: {record.reason}"
        self._name("usage-disputed", claim_id, found, text, now_ms)
        self._disputed[claim_id] = found

    def _settle(self, record: Settle, position: Position, now_ms: int) -> None:
        claim_id = ClaimId(record.claim_id)
        found = self._disputed.get(claim_id)
        agreed = None if found is None else found.entry.agreement()
        if found is not None and agreed is not None:
            del self._disputed[claim_id]
            self._count(claim_id, found, Standing.SETTLED, agreed[1:])

    def _name_late(self, claim_id: ClaimId, found: _Open, now_ms: int) -> None:
        text = f"its home answered {now_ms - found.deadline_ms} ms after the deadline"
        self._name("usage-overdue", claim_id, found, text, now_ms)
        self._count(claim_id, found, Standing.OVERDUE)

    def finish(self, at_ms: int) -> None:
        """Counts what nobody has answered at the end."""
        for claim_id, found in sorted(self._open.items()):
            if at_ms <= found.deadline_ms:
                self._count(claim_id, found, Standing.ONE_SIDED)
                continue
            text = "its home neither countersigned nor disputed it by the deadline; the end stands"
            self._name("usage-overdue", claim_id, found, text, found.deadline_ms)
            self._count(claim_id, found, Standing.OVERDUE)
        self._open.clear()
        decided = {
            version.decision.claim_id: (version.decision.core_s, version.decision.gpu_s)
            for version in self._state.governance.versions()
            if version.decision is not None and version.start_ms <= at_ms
        }
        for claim_id, found in sorted(self._disputed.items()):
            agreed = decided.get(claim_id)
            standing = Standing.DISPUTED if agreed is None else Standing.SETTLED
            self._count(claim_id, found, standing, agreed)
        self._disputed.clear()

    def _count(
        self,
        claim_id: ClaimId,
        found: _Open,
        standing: Standing,
        agreed: tuple[int, int] | None = None,
    ) -> None:
        trade = Trade(claim_id.centre, found.host, standing)
        self.trades.setdefault(trade, Sums()).add(found.end)
        if self._sink is not None:
            self._sink(self._line(claim_id, found, standing, agreed))

    def _line(
        self,
        claim_id: ClaimId,
        found: _Open,
        standing: Standing,
        agreed: tuple[int, int] | None,
    ) -> UsageLine:
        end, dispute = found.end, found.entry.dispute
        core_s, gpu_s = agreed or (end.core_s, end.gpu_s)
        if standing is Standing.DISPUTED and dispute is not None:
            core_s, gpu_s = min(core_s, dispute.core_s), min(gpu_s, dispute.gpu_s)
        resource = self._rules.resource_class(found.posted.resource_class)
        amount = 0 if resource is None else resource.amount(core_s=core_s, gpu_s=gpu_s)
        return UsageLine(
            claim_id=claim_id,
            job_id=found.job,
            host=found.host,
            job=found.posted,
            end=end,
            native_name=found.entry.host_side.native_name,
            standing=standing,
            core_s=core_s,
            gpu_s=gpu_s,
            points=0 if resource is None else resource.points(amount),
        )

    def _name(self, code: str, claim_id: ClaimId, found: _Open, text: str, time_ms: int) -> None:
        where, home = str(found.position), claim_id.centre
        self._findings.add(Finding(Severity.NOTICE, code, where, text, home, found.job, time_ms))
