"""The judgement at the end: did every job run once, elsewhere, and rightly, and do all books agree?

The centres never stop writing (heartbeats, idle capacity), so their ledgers are compared at a
common moment: the cut of a round that every daemon has computed with the same view digest. Each
daemon's export is then audited on its own, and its blocks up to that cut must give that digest and
the same balances as every other export.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from p2pfed.core.audit import Report, verify_ledger
from p2pfed.core.ids import CentreName, FederationId
from p2pfed.errors import StateError
from p2pfed.shell.answers import AttemptView
from p2pfed.shell.client import Client
from p2pfed.shell.demo.board import Board
from p2pfed.shell.demo.daemons import Daemons
from p2pfed.shell.demo.plan import JobPlan, Plan
from p2pfed.shell.demo.report import BalanceLine, CentreReport, DecisionLine, DemoReport, JobLine

_AGREE_S: Final = 60
_ASK_S: Final = 0.1
_OUTPUT_BYTES_MAX: Final = 1 << 16
_NEVER_RAN: Final = frozenset({"not-started", "not-found"})
"""Outcomes that a host states only when it has made sure that the script can't begin any more."""


@dataclass(frozen=True, slots=True)
class _Common:
    """What the daemons say of one round; `agreed` if all say the same."""

    round: int
    digests: dict[CentreName, str]
    agreed: bool


class Verdict:
    """Judges a demonstration whose jobs are over.

    Args:
        plan: what was to be done.
        federation: the id that every ledger must be of.
        daemons: all of them, running.
        board: what is known of the jobs.
        ids: the job ids by the plan's names.
    """

    def __init__(
        self,
        plan: Plan,
        federation: FederationId,
        daemons: Daemons,
        board: Board,
        ids: dict[str, str],
    ) -> None:
        self._plan = plan
        self._federation = federation
        self._daemons = daemons
        self._board = board
        self._ids = ids

    def judge(
        self,
        *,
        late: bool,
        elapsed_ms: Callable[[], int],
        folder: str | None,
        decisions: tuple[DecisionLine, ...] = (),
    ) -> DemoReport:
        """The report; asks the daemons, which may take a few rounds.

        Args:
            late: the jobs did not all come to their end in time.
            elapsed_ms: how long the demonstration has taken.
            folder: where it stays, None if nowhere.
            decisions: what the members decided meanwhile.

        Raises:
            StateError: `demo-daemon`.
        """
        failures = ["the jobs were not all over in time"] if late else []
        failures += [f"{line.what}: {line.how}" for line in decisions if not line.ok]
        jobs = tuple(self._job(job) for job in self._plan.jobs)
        for job in jobs:
            failures += job.faults()
        common = self._common_round()
        if not common.agreed:
            failures.append("the daemons came to no round with the same view")
        cut_ms = common.round * self._plan.rules.round_ms
        audits = {d.name: self._audit(d.name, cut_ms) for d in self._daemons.all}
        centres = tuple(self._centre(name, audit, common) for name, audit in audits.items())
        for centre in centres:
            failures += _centre_faults(centre)
        failures += [
            f"{name}: its ledger gives other balances than the first one's"
            for name, audit in audits.items()
            if audit.balances != next(iter(audits.values())).balances
        ]
        return DemoReport(
            federation_id=self._federation.hex(),
            elapsed_ms=elapsed_ms(),
            round=common.round,
            view_digest=next(iter(common.digests.values())) if common.agreed else "",
            jobs=jobs,
            centres=centres,
            balances=_balances(next(iter(audits.values()))),
            failures=tuple(failures),
            folder=folder,
            decisions=decisions,
        )

    # Jobs

    def _job(self, plan: JobPlan) -> JobLine:
        job_id = self._ids[plan.name]
        detail = self._daemons.ask(plan.home, lambda client: client.job(job_id))
        view, attempts = detail["job"], detail["attempts"]
        started, ended = view["started_ms"], view["ended_ms"]
        output = self._output(plan.home, job_id)
        return JobLine(
            job_id=job_id,
            name=plan.name,
            home=plan.home,
            host=view["host"],
            arguments=plan.arguments,
            cores=plan.cores,
            state=view["state"],
            attempts=len(attempts),
            runs=sum(map(_ran, attempts)),
            waited_ms=view["waited_ms"],
            ran_ms=None if started is None or ended is None else ended - started,
            exit_code=view["exit_code"],
            output=output,
            expected=plan.expected,
            verified=output == plan.expected,
        )

    def _output(self, home: CentreName, job_id: str) -> str | None:
        """The last line of what the job printed; None if there is none to be had."""

        def read(client: Client) -> bytes:
            data = b""
            for piece in client.output(job_id):
                data = (data + piece)[-_OUTPUT_BYTES_MAX:]
            return data

        try:
            lines = self._daemons.ask(home, read).decode(errors="replace").splitlines()
        except StateError as error:
            if error.code == "demo-daemon":
                raise
            return None
        return lines[-1] if lines else None

    # Ledgers

    def _common_round(self) -> _Common:
        """The first round from now on that all daemons computed alike; else the last one seen."""
        rules = self._plan.rules
        first = time.time_ns() // 1_000_000 // rules.round_ms + 1
        give_up_s = time.monotonic() + _AGREE_S
        seen: dict[int, dict[CentreName, str]] = {}
        complete = _Common(0, {}, agreed=False)
        while time.monotonic() < give_up_s:
            for daemon in self._daemons.all:
                status = self._daemons.ask(daemon.name, lambda client: client.status())
                if status["round"] >= first and status["view_digest"] is not None:
                    digests = seen.setdefault(status["round"], {})
                    digests[daemon.name] = status["view_digest"]
            for number, digests in seen.items():
                if len(digests) == len(self._daemons.all):
                    agreed = len(set(digests.values())) == 1
                    complete = _Common(number, digests, agreed=agreed)
                    if agreed:
                        return complete
            self._daemons.supervise()
            time.sleep(_ASK_S)
        return complete

    def _audit(self, name: CentreName, cut_ms: int) -> Report:
        def export(client: Client) -> Report:
            with tempfile.TemporaryFile() as file:
                for piece in client.ledger():
                    file.write(piece)
                file.seek(0)
                return verify_ledger(file, expected=self._federation, at_ms=cut_ms)

        return self._daemons.ask(name, export)

    def _centre(self, name: CentreName, audit: Report, common: _Common) -> CentreReport:
        line = self._board.centres[name]
        return CentreReport(
            centre=name,
            cores=line.cores,
            offered_cores=line.offered_cores,
            posted=line.posted,
            hosted=line.hosted,
            restarts=line.restarts,
            view_digest=common.digests.get(name, ""),
            ledger_ok=audit.ok,
            ledger_digest="" if audit.cut_digest is None else audit.cut_digest.hex(),
            blocks=audit.admitted,
            records=audit.records,
            findings=tuple(str(finding) for finding in audit.findings),
        )


def _ran(attempt: AttemptView) -> bool:
    """Whether its script began: a Start is written before, and the host may die in between."""
    return attempt["started_ms"] is not None and attempt["outcome"] not in _NEVER_RAN


def _centre_faults(centre: CentreReport) -> list[str]:
    found = []
    if not centre.ledger_ok:
        found.append(f"{centre.centre}: its ledger does not verify")
    if centre.ledger_digest != centre.view_digest:
        found.append(f"{centre.centre}: its ledger is not what its daemon matched by")
    return found


def _balances(audit: Report) -> tuple[BalanceLine, ...]:
    return tuple(
        BalanceLine(
            centre=line.centre,
            contribution=line.standing.contribution,
            usage=line.standing.usage,
            credit_line=line.standing.credit_line,
            balance_ppm=line.balance_ppm,
        )
        for line in audit.balances
    )
