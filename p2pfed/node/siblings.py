"""Own jobs that were made from a local job: both are one piece of work, and only one may run.

The local job, the *sibling*, waits in this centre's own batch system while its copy waits in the
federation; whichever can start first does. So before a copy is handed over, its sibling must surely
be held: the node asks for that (`SecureSibling`), keeps whoever asked for the payload waiting, and
writes Handover only on the answer that it is held. If it runs already, the claim is released and
the copy cancelled. While a host has the copy, the sibling stays held; when the claim is over and
the job is not, the sibling is freed (`FreeSibling`).

A crash leaves the sibling held too long, never free too early: it is freed only on this module's
word, which rests on the ledger. Which jobs have a sibling stands in local rows, written in one
transaction with the Job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from p2pfed.core.entries import ClaimEntry
from p2pfed.core.ids import ClaimId, JobId, parse_position
from p2pfed.core.lifecycle import HomePhase
from p2pfed.node.effects import FreeSibling, SecureSibling
from p2pfed.node.events import PayloadAsked
from p2pfed.node.ledger import Ledger
from p2pfed.node.turn import Turn

ROWS: Final = "node/sibling/"
"""Prefix of the rows of jobs that have a sibling; an empty row counts as none."""


class Siblings:
    """Which of our jobs have a sibling, and for which claims it is held."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.known: dict[JobId, bytes] = {}
        self._waiting: dict[ClaimId, list[PayloadAsked]] = {}
        self._secured: set[ClaimId] = set()

    def restore(self, rows: Mapping[str, bytes]) -> None:
        """Takes up what a former run left in its rows."""
        for key, value in rows.items():
            if key.startswith(ROWS) and value:
                self.known[JobId(parse_position(key.removeprefix(ROWS)))] = value

    def resume(self, turn: Turn) -> None:
        """After a restart: frees the siblings that nothing needs held, keeps the others."""
        live = self._ledger.live
        for job_id in sorted(self.known):
            job = live.jobs.get(job_id)
            if job is None or live.judge(job).state.final:
                continue
            handed = [c for c in job.claims if live.claims[c].phase is not HomePhase.CLAIMED]
            bound = [c for c in handed if not live.claims[c].over]
            self._secured.update(bound)
            if not bound:
                turn.do(FreeSibling(job_id=job_id))

    def add(self, job_id: JobId, sibling: bytes) -> None:
        """A job was posted that has a sibling."""
        self.known[job_id] = sibling
        self._ledger.keep(f"{ROWS}{job_id}", sibling)

    def done(self, job_id: JobId) -> None:
        """The sibling was finished."""
        if self.known.pop(job_id, None) is not None:
            self._ledger.keep(f"{ROWS}{job_id}", b"")

    def may_hand_over(self, job_id: JobId, asked: PayloadAsked, turn: Turn) -> bool:
        """True if nothing stands against a Handover; else asks, and keeps who asked waiting."""
        if job_id not in self.known or asked.claim_id in self._secured:
            return True
        waiting = self._waiting.setdefault(asked.claim_id, [])
        if not waiting:
            turn.do(SecureSibling(job_id=job_id, claim_id=asked.claim_id))
        waiting.append(asked)
        return False

    def secured(self, claim_id: ClaimId, *, held: bool) -> list[PayloadAsked]:
        """The answer came; returns who waited for it."""
        if held:
            self._secured.add(claim_id)
        return self._waiting.pop(claim_id, [])

    def review(self, entry: ClaimEntry, job_id: JobId, *, final: bool, turn: Turn) -> None:
        """Frees the sibling if the claim that it is held for is over and the job is not."""
        if entry.over and entry.claim_id in self._secured:
            self._secured.discard(entry.claim_id)
            if not final:
                turn.do(FreeSibling(job_id=job_id))
