"""What a demonstration ends with: values, ready to be printed or written as JSON.

docs/reference/cli.md describes the fields of the JSON document under `p2pfed demo`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from p2pfed.core.ids import CentreName


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """One job and what became of it.

    Attributes:
        arguments: of the example script: the first and the last number that it looked at.
        runs: attempts whose script began; 1 for a job that ran exactly once.
        output: the last line that it printed, None if nothing came back.
        verified: the output is what another method found.
    """

    job_id: str
    name: str
    home: CentreName
    host: str | None
    arguments: tuple[str, ...]
    cores: int
    state: str
    attempts: int
    runs: int
    waited_ms: int
    ran_ms: int | None
    exit_code: int | None
    output: str | None
    expected: str
    verified: bool

    def faults(self) -> list[str]:
        """What is not as it should be, in sentences."""
        checks = (
            (self.state != "completed", f"is {self.state}, not completed"),
            (self.exit_code != 0, f"has the exit code {self.exit_code}"),
            (self.runs != 1, f"ran {self.runs} times"),
            (self.host == self.home, "ran at its own home"),
            (not self.verified, f"printed {self.output!r} instead of {self.expected!r}"),
        )
        return [f"job {self.job_id} {what}" for wrong, what in checks if wrong]


@dataclass(frozen=True, slots=True, kw_only=True)
class CentreReport:
    """One centre at the end.

    Attributes:
        hosted: guests' jobs that it ran.
        view_digest: what its daemon computed for the common round, hex; empty if it did not come.
        ledger_ok: the export of its daemon verifies.
        ledger_digest: the digest of the same round by its exported ledger, hex.
        blocks, records: in the export, all centres' together.
        findings: what the audit found, errors and warnings.
    """

    centre: CentreName
    cores: int
    offered_cores: int
    posted: int
    hosted: int
    restarts: int
    view_digest: str
    ledger_ok: bool
    ledger_digest: str
    blocks: int
    records: int
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceLine:
    """One account at the common round, in points, by every ledger alike."""

    centre: CentreName
    contribution: int
    usage: int
    credit_line: int
    balance_ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionLine:
    """Something that the members did, how it came about, and whether it held everywhere."""

    what: str
    how: str
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """The whole result.

    Attributes:
        failures: what did not hold, in sentences; empty if all did.
        round, view_digest: the round that all daemons computed alike; 0 and empty if none.
        folder: where the centres stand, None if they were removed.
        decisions: what the members decided meanwhile, in order.
    """

    federation_id: str
    elapsed_ms: int
    round: int
    view_digest: str
    jobs: tuple[JobLine, ...]
    centres: tuple[CentreReport, ...]
    balances: tuple[BalanceLine, ...]
    failures: tuple[str, ...]
    folder: str | None
    decisions: tuple[DecisionLine, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return not self.failures

    @property
    def restarts(self) -> int:
        """How often a daemon that died was started again."""
        return sum(centre.restarts for centre in self.centres)

    def to_json(self) -> dict[str, object]:
        """The report as one JSON-able object."""
        return {"ok": self.ok, "restarts": self.restarts, **dataclasses.asdict(self)}
