"""Findings: what an audit has to say, each with a code, a weight and a place.

An *error* means that the file is not a complete, valid ledger: a block is bad, missing or out of
place, or the file itself is damaged. A *warning* means that the file is sound and shows that a
member broke a rule, which the federation's own rules already made harmless. A *notice* is a pattern
worth a human look; it accuses nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from p2pfed.core.ids import CentreName, JobId

FINDINGS_PER_CODE_MAX: Final = 100
"""So many findings of one code are listed; all are counted."""


class Severity(Enum):
    """How much a finding weighs."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an auditor should know.

    Attributes:
        code: stable; docs/reference/audit-codes.md lists all of them.
        where: the block or record, as `alpha.12` or `alpha.12.3`, or the place in the file.
        text: what is wrong, in one sentence.
        centre: whose doing it is, if it is a centre's.
        job: the job that it is about, if it is about one.
        time_ms: when it was done, by the block's time; 0 if it has no time.
    """

    severity: Severity
    code: str
    where: str
    text: str
    centre: CentreName | None = None
    job: JobId | None = None
    time_ms: int = 0

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{self.severity.value}: {place}{self.text} [{self.code}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Focus:
    """What the auditor wants to hear of; by default of everything.

    Findings without a centre, job or time are always reported: they are about the whole.
    """

    centre: CentreName | None = None
    job: JobId | None = None
    since_ms: int = 0
    until_ms: int = 1 << 62

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is about what the auditor asked for."""
        return (
            (self.centre is None or finding.centre in (None, self.centre))
            and (self.job is None or finding.job in (None, self.job))
            and (not finding.time_ms or self.since_ms <= finding.time_ms <= self.until_ms)
        )


@dataclass(slots=True)
class Findings:
    """Findings as they are collected: all counted, so many of each code kept."""

    focus: Focus = field(default_factory=Focus)
    kept: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    by_centre: dict[tuple[CentreName, str], int] = field(default_factory=dict)

    def error(self, code: str, where: str, text: str, centre: CentreName | None = None) -> None:
        """Adds what makes the ledger invalid or incomplete."""
        self.add(Finding(Severity.ERROR, code, where, text, centre))

    def warning(self, code: str, where: str, text: str, centre: CentreName | None = None) -> None:
        """Adds a member's breach of a rule that is harmless by itself."""
        self.add(Finding(Severity.WARNING, code, where, text, centre))

    def notice(self, code: str, where: str, text: str, centre: CentreName | None = None) -> None:
        """Adds a pattern that a human should look at."""
        self.add(Finding(Severity.NOTICE, code, where, text, centre))

    def add(self, finding: Finding) -> None:
        """Counts the finding if it is about what was asked for, and keeps it if there is room."""
        if not self.focus.covers(finding):
            return
        count = self.counts.get(finding.code, 0) + 1
        self.counts[finding.code] = count
        if finding.centre is not None:
            key = finding.centre, finding.code
            self.by_centre[key] = self.by_centre.get(key, 0) + 1
        if count <= FINDINGS_PER_CODE_MAX:
            self.kept.append(finding)
