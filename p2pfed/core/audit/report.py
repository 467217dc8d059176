"""What an audit found: values, in the order in which the file was read.

An *error* means that the file is not a complete, valid ledger: a block is bad, missing or out of
place, or the file itself is damaged. A *warning* means that the file is sound and shows that a
member broke a rule, which the federation's own rules already made harmless.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from p2pfed.core.accounting import Standing
from p2pfed.core.ids import CentreName, FederationId, Frontier, ViewDigest

FINDINGS_PER_CODE_MAX: Final = 100
"""So many findings of one code are listed; all are counted."""


class Severity(Enum):
    """How much a finding weighs."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: stable; docs/reference/ledger-file.md lists all of them.
        where: the block or record, as `alpha.12` or `alpha.12.3`, or the place in the file.
        text: what is wrong, in one sentence.
    """

    severity: Severity
    code: str
    where: str
    text: str

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{self.severity.value}: {place}{self.text} [{self.code}]"


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


class Findings:
    """Findings as they are collected, bounded per code."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: dict[str, int] = {}

    def error(self, code: str, where: str, text: str) -> None:
        """Adds what makes the ledger invalid or incomplete."""
        self._add(Finding(Severity.ERROR, code, where, text))

    def warning(self, code: str, where: str, text: str) -> None:
        """Adds a member's breach of a rule that is harmless by itself."""
        self._add(Finding(Severity.WARNING, code, where, text))

    def _add(self, finding: Finding) -> None:
        count = self.counts.get(finding.code, 0) + 1
        self.counts[finding.code] = count
        if count <= FINDINGS_PER_CODE_MAX:
            self.kept.append(finding)
