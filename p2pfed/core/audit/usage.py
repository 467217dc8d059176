"""What became of every usage record, and how much of it.

An End states what a job consumed. Its home countersigns it (receipted), disputes it, or says
nothing: until the deadline it is one-sided, after it overdue, and the End stands. A dispute that
the parties or the members decided is settled. Sums are of raw amounts, so that they hold whatever
rates were agreed; what counts in points stands in the accounts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, cast

from p2pfed.core.audit.course import Told
from p2pfed.core.audit.findings import Finding, Findings, Severity
from p2pfed.core.blocks import Block
from p2pfed.core.entries import ClaimEntry
from p2pfed.core.ids import CentreName, ClaimId, JobId, Position
from p2pfed.core.records import Dispute, End, Job, Receipt
from p2pfed.core.registers import Registers
from p2pfed.core.rules import Rules
from p2pfed.core.units import hlc_ms


class Standing(Enum):
    """What the home has said to a usage record."""

    RECEIPTED = "receipted"
    DISPUTED = "disputed"
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

    def add(self, end: End) -> None:
        """Counts one more."""
        self.count += 1
        self.core_s += end.core_s
        self.gpu_s += end.gpu_s


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
"""Takes each usage record once it is known what became of it."""


class UsageBook:
    """Follows every usage record until it is settled."""

    def __init__(
        self, registers: Registers, rules: Rules, findings: Findings, sink: Sink | None = None
    ) -> None:
        self._registers = registers
        self._rules = rules
        self._findings = findings
        self._sink = sink
        self._open: dict[ClaimId, _Open] = {}
        self.trades: dict[Trade, Sums] = {}

    def watch(self, block: Block, told: Told) -> None:
        """Reads the usage records and settlements of a block that was just folded."""
        now_ms = hlc_ms(block.time)
        for position, record in told:
            kind = type(record)
            if kind is End:
                self._ended(position, cast(End, record), now_ms)
            elif kind is Receipt or kind is Dispute:
                self._settled(cast("Receipt | Dispute", record), now_ms)

    def _ended(self, position: Position, end: End, now_ms: int) -> None:
        entry = self._registers.claims.get(ClaimId(end.claim_id))
        job = None if entry is None else self._registers.job_of(entry.claim_id)
        if entry is None or entry.claim is None or job is None:
            return
        deadline_ms = now_ms + self._rules.receipt_deadline_ms
        job_id = JobId(entry.claim.job_id)
        found = _Open(end, position, position.centre, job_id, deadline_ms, entry, job.job)
        if entry.settlement is not None:
            # Settled before it was stated: counts as never settled, conduct names it.
            self._count(entry.claim_id, found, Standing.OVERDUE)
        else:
            self._open[entry.claim_id] = found

    def _settled(self, record: Receipt | Dispute, now_ms: int) -> None:
        claim_id = ClaimId(record.claim_id)
        found = self._open.pop(claim_id, None)
        if found is None:
            return
        if now_ms > found.deadline_ms:
            text = f"its home answered {now_ms - found.deadline_ms} ms after the deadline"
            self._name("usage-overdue", claim_id, found, text, now_ms)
            self._count(claim_id, found, Standing.OVERDUE)
        elif isinstance(record, Dispute):
            text = f"{record.core_s} of {found.end.core_s} core-seconds: {record.reason}"
            self._name("usage-disputed", claim_id, found, text, now_ms)
            self._count(claim_id, found, Standing.DISPUTED)
        else:
            self._count(claim_id, found, Standing.RECEIPTED)

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

    def _count(self, claim_id: ClaimId, found: _Open, standing: Standing) -> None:
        trade = Trade(claim_id.centre, found.host, standing)
        self.trades.setdefault(trade, Sums()).add(found.end)
        if self._sink is not None:
            self._sink(self._line(claim_id, found, standing))

    def _line(self, claim_id: ClaimId, found: _Open, standing: Standing) -> UsageLine:
        end, settled = found.end, found.entry.settlement
        core_s, gpu_s = end.core_s, end.gpu_s
        if standing is Standing.DISPUTED and settled is not None:
            core_s, gpu_s = min(core_s, settled.core_s), min(gpu_s, settled.gpu_s)
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
