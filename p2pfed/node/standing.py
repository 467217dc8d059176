"""What a centre is in its federation, and what becomes of one that is a member no more.

Whoever left or was removed can post nothing and offer nothing: no round would look at it. Jobs of a
centre that left which wait for a host are cancelled, so that their users can run them at home; what
runs goes on to its end. Others readmit by vote, and connect again by themselves when they do.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from p2pfed.core.ids import CentreName
from p2pfed.core.lifecycle import JobState
from p2pfed.core.records import Cancel
from p2pfed.core.units import hlc_ms
from p2pfed.errors import StateError
from p2pfed.node.effects import INFO, WARNING
from p2pfed.node.ledger import Ledger
from p2pfed.node.turn import Turn

HOME_AT_ONCE: Final = 5_000
"""Waiting jobs that come home in one round; the rest follow in the next ones."""


class Standing(Enum):
    """What a centre is at a cut."""

    NEWCOMER = "newcomer"  # no decision made it a member yet
    MEMBER = "member"
    SUSPENDED = "suspended"  # its fork is proven
    LEFT = "left"
    REMOVED = "removed"

    @property
    def former(self) -> bool:
        """Whether it was a member and is none."""
        return self in (Standing.LEFT, Standing.REMOVED)


def standing_of(ledger: Ledger, centre: CentreName) -> Standing:
    """What the centre is in the newest round."""
    governance, cut_ms = ledger.view.state.governance, ledger.view.cut_ms
    if centre in governance.members_at(cut_ms):
        suspended = centre in ledger.live.suspended
        return Standing.SUSPENDED if suspended else Standing.MEMBER
    known = governance.version_at(cut_ms).known.get(centre)
    if known is None:
        return Standing.NEWCOMER
    return Standing.LEFT if known.feed in governance.leaves else Standing.REMOVED


def require_member(ledger: Ledger, now_ms: int) -> None:
    """Refuses what only a member can do.

    Raises:
        StateError: `not-a-member`.
    """
    time_ms = hlc_ms(ledger.next_time(now_ms))
    if ledger.me.name not in ledger.live.governance.members_at(time_ms):
        raise StateError(
            "not-a-member",
            f"{ledger.me.name} is not a member of the federation",
            remedy="ask a member to propose its admission, see: p2pfed invite",
        )


class OwnStanding:
    """Our own standing, followed from round to round."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.now: Standing | None = None

    def follow(self, turn: Turn) -> None:
        """After a round: tells the log when we are something else than before."""
        found = standing_of(self._ledger, self._ledger.me.name)
        before, self.now = self.now, found
        if found is before:
            return
        if found is Standing.REMOVED:
            turn.note(WARNING, "removed", self.explain())
        elif found is Standing.LEFT:
            turn.note(INFO, "left", self.explain())
        elif found is Standing.MEMBER and before is not None:
            turn.note(INFO, "member", "this centre is a member of the federation")

    def explain(self) -> str:
        """What a former member should know; empty for any other."""
        match self.now:
            case Standing.REMOVED:
                return (
                    "the members removed this centre: nothing of it is matched, and they answer it "
                    f"no more; see p2pfed why member {self._ledger.me.name}"
                )
            case Standing.LEFT:
                return (
                    "this centre left the federation: only a vote brings it back; stop the daemon "
                    "when no guests and no own jobs elsewhere are left"
                )
            case _:
                return ""

    def bring_home(self, turn: Turn) -> None:
        """Of a centre that left: cancels some of the jobs that wait for a host."""
        if self.now is not Standing.LEFT:
            return
        live, me = self._ledger.live, self._ledger.me.name
        found = 0
        for job_id, entry in live.jobs.items():
            if job_id.centre != me or entry.cancelled:
                continue
            if live.judge(entry).state is JobState.QUEUED:
                self._ledger.write(Cancel(job_id=job_id), turn.now_ms)
                found += 1
                if found == HOME_AT_ONCE:
                    return
