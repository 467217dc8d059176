"""What verifying a ledger gives: values, findings in the order in which the file was read."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfed.core.accounting import Counters, Standing
from p2pfed.core.audit.course import AccountLine
from p2pfed.core.audit.findings import Finding, Severity
from p2pfed.core.audit.justify import ClaimTally
from p2pfed.core.audit.usage import Sums, Trade
from p2pfed.core.constitution import Version
from p2pfed.core.ids import CentreName, FederationId, Frontier, Position, ViewDigest


@dataclass(frozen=True, slots=True)
class Balance:
    """A member's account at the audit's time: points, and the balance in parts per million."""

    centre: CentreName
    standing: Standing
    balance_ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of an audit.

    Attributes:
        federation: None if the charter could not be read.
        name: of the federation.
        at_ms: the wall time that the balances are of; 0 for an empty ledger.
        blocks: entries in the file that were read as blocks, valid or not.
        admitted: blocks that are valid and whose whole past is in the file; only they count.
        records: records in admitted blocks.
        inert: those of them, up to `at_ms`, that count for nothing.
        frontier: the newest admitted block of each feed.
        view_digest: of that frontier; equal for two ledgers that hold the same.
        cut_digest: of the frontier up to `at_ms`: for the cut of a round it is the view digest that
            every daemon computed with the same blocks at that round.
        balances: by centre.
        findings: at most FINDINGS_PER_CODE_MAX of each code.
        counts: how many findings there were, by code.
    """

    federation: FederationId | None = None
    name: str = ""
    at_ms: int = 0
    blocks: int = 0
    admitted: int = 0
    records: int = 0
    inert: int = 0
    frontier: Frontier = field(default_factory=dict)
    view_digest: ViewDigest | None = None
    cut_digest: ViewDigest | None = None
    balances: tuple[Balance, ...] = ()
    findings: tuple[Finding, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if there is no error; there may be warnings."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One record about the job that the auditor asked for; `inert` says why it does not count."""

    time_ms: int
    position: Position
    kind: str
    detail: str
    inert: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """The result of a whole audit.

    Attributes:
        source: what the ledger was read from.
        ledger: what verifying it gave: counts, frontier, balances, all findings.
        by_centre: how many findings there were about each centre, by (centre, code).
        days: the accounts of every centre at the end of each day, then at the audit's time.
        curve: the same at even times, for a picture.
        claims: for each home, how many of its claims were justified.
        trades: usage records by home, host and what the home said to them.
        declines: claims that hosts closed, by (home, host, reason).
        counters: raw amounts delivered and consumed, by centre, resource class and day.
        totals: raw (centre, resource class, delivered, offered, consumed) over all days.
        versions: members and rules over time, as they follow from the votes.
        story: the records about the job in focus, in order of time.
    """

    source: str
    ledger: Report
    by_centre: dict[tuple[CentreName, str], int] = field(default_factory=dict)
    days: tuple[AccountLine, ...] = ()
    curve: tuple[AccountLine, ...] = ()
    claims: dict[CentreName, ClaimTally] = field(default_factory=dict)
    trades: dict[Trade, Sums] = field(default_factory=dict)
    declines: dict[tuple[CentreName, CentreName, str], int] = field(default_factory=dict)
    counters: Counters = field(default_factory=dict)
    totals: tuple[tuple[CentreName, str, int, int, int], ...] = ()
    versions: tuple[Version, ...] = ()
    story: tuple[StoryLine, ...] = ()

    @property
    def severity(self) -> Severity | None:
        """The heaviest that was found, None if nothing was."""
        found = {finding.severity for finding in self.ledger.findings}
        return next((severity for severity in Severity if severity in found), None)
