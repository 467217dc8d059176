"""The life of a claim: one table, and the times that bound it.

Theory of operation. A claim has two writers. The *home* (who wrote the claim) is the only judge of
its job, the *host* (who wrote the offer) the only judge of its capacity. Each writes its own side,
in the order of its own feed, and each side is a small machine of its own: `HOME_MOVES` and
`HOST_MOVES`. What the claim *is* follows from both sides at once: `JOINT`. No order of arrival
matters, because each side's order is fixed by its author's chain and the joint state is a function
of the two. A record that its side's machine has no move for is inert.

The times are what keeps a job from running twice when messages are late, clocks differ by up to ε
(`clock_error_ms`), or a machine dies. They are functions here, so that the daemon, a simulation and
an exhaustive check drive the same rules:

    claim_until <= accept_until
    lease_until >= handover + fetch + queue + walltime + kill grace + ε

Each rule closes a concrete way to run a job twice, to promise capacity twice, or to hold capacity
for ever; `docs/explanation/lifecycle.md` tells which, and draws the diagram from these tables.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from p2pfed.core.records import (
    Accept,
    Close,
    End,
    Handover,
    Lost,
    Record,
    Release,
    Start,
)
from p2pfed.core.rules import Rules


class HomePhase(Enum):
    """How far the home's side has come."""

    # Members are singletons; the hash that Enum gives them, of their name, costs more than a move.
    __hash__ = object.__hash__

    CLAIMED = "claimed"
    RELEASED = "released"
    HANDED = "handed"
    LOST = "lost"


class HostPhase(Enum):
    """How far the host's side has come."""

    __hash__ = object.__hash__

    SILENT = "silent"
    ACCEPTED = "accepted"
    CLOSED = "closed"
    STARTED = "started"
    ENDED = "ended"


class ClaimState(Enum):
    """What a claim is, seen from both sides."""

    __hash__ = object.__hash__

    CLAIMED = "claimed"
    ACCEPTED = "accepted"
    LEASED = "leased"
    STARTED = "started"
    ENDED = "ended"
    CLOSED = "closed"
    RELEASED = "released"
    LOST = "lost"


class JobState(Enum):
    """What a job is; `psij` gives the word that PSI/J has for it."""

    __hash__ = object.__hash__

    QUEUED = "queued"
    CLAIMED = "claimed"
    ACCEPTED = "accepted"
    LEASED = "leased"
    STARTED = "started"
    ENDED = "ended"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True if the job will never run again."""
        return self in _FINAL_JOB_STATES

    @property
    def psij(self) -> str:
        """The state in the words of PSI/J (psi-j.org, JobState)."""
        return _PSIJ[self]


_FINAL_JOB_STATES: Final = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
_PSIJ: Final = {
    JobState.QUEUED: "QUEUED",
    JobState.CLAIMED: "QUEUED",
    JobState.ACCEPTED: "QUEUED",
    JobState.LEASED: "QUEUED",
    JobState.STARTED: "ACTIVE",
    JobState.ENDED: "ACTIVE",
    JobState.CANCELLING: "ACTIVE",
    JobState.COMPLETED: "COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELED",
}

HOME_MOVES: Final[dict[tuple[HomePhase, type[Record]], HomePhase]] = {
    (HomePhase.CLAIMED, Release): HomePhase.RELEASED,
    (HomePhase.CLAIMED, Handover): HomePhase.HANDED,
    (HomePhase.HANDED, Lost): HomePhase.LOST,
}
"""The home's side. Receipt and Dispute settle usage and move nothing. Once handed over, a claim
can't be released: the host may already run it."""

HOST_MOVES: Final[dict[tuple[HostPhase, type[Record]], HostPhase]] = {
    (HostPhase.SILENT, Accept): HostPhase.ACCEPTED,
    (HostPhase.SILENT, Close): HostPhase.CLOSED,
    (HostPhase.ACCEPTED, Close): HostPhase.CLOSED,
    (HostPhase.ACCEPTED, Start): HostPhase.STARTED,
    (HostPhase.STARTED, End): HostPhase.ENDED,
}
"""The host's side. Close is final: nothing follows it."""

JOINT: Final[dict[tuple[HomePhase, HostPhase], ClaimState]] = {
    (HomePhase.CLAIMED, HostPhase.SILENT): ClaimState.CLAIMED,
    (HomePhase.CLAIMED, HostPhase.ACCEPTED): ClaimState.ACCEPTED,
    (HomePhase.CLAIMED, HostPhase.CLOSED): ClaimState.CLOSED,
    # A start without a lease: the host broke the rule, its word moves nothing.
    (HomePhase.CLAIMED, HostPhase.STARTED): ClaimState.ACCEPTED,
    (HomePhase.CLAIMED, HostPhase.ENDED): ClaimState.ACCEPTED,
    (HomePhase.RELEASED, HostPhase.SILENT): ClaimState.RELEASED,
    (HomePhase.RELEASED, HostPhase.ACCEPTED): ClaimState.RELEASED,
    (HomePhase.RELEASED, HostPhase.CLOSED): ClaimState.RELEASED,
    (HomePhase.RELEASED, HostPhase.STARTED): ClaimState.RELEASED,
    (HomePhase.RELEASED, HostPhase.ENDED): ClaimState.RELEASED,
    # A handover that nobody accepted: the home broke the rule, but it binds its own job.
    (HomePhase.HANDED, HostPhase.SILENT): ClaimState.LEASED,
    (HomePhase.HANDED, HostPhase.ACCEPTED): ClaimState.LEASED,
    (HomePhase.HANDED, HostPhase.CLOSED): ClaimState.CLOSED,
    (HomePhase.HANDED, HostPhase.STARTED): ClaimState.STARTED,
    (HomePhase.HANDED, HostPhase.ENDED): ClaimState.ENDED,
    # Lost frees the job for good; a late End counts for usage only.
    (HomePhase.LOST, HostPhase.SILENT): ClaimState.LOST,
    (HomePhase.LOST, HostPhase.ACCEPTED): ClaimState.LOST,
    (HomePhase.LOST, HostPhase.CLOSED): ClaimState.LOST,
    (HomePhase.LOST, HostPhase.STARTED): ClaimState.LOST,
    (HomePhase.LOST, HostPhase.ENDED): ClaimState.LOST,
}
"""What a claim is, for every pair of sides."""

HOLDS_CAPACITY: Final = frozenset(
    {ClaimState.CLAIMED, ClaimState.ACCEPTED, ClaimState.LEASED, ClaimState.STARTED}
)
"""States in which a claim holds a part of its offer."""

FREES_JOB: Final = frozenset({ClaimState.CLOSED, ClaimState.RELEASED, ClaimState.LOST})
"""States in which a claim keeps its job from no other place, whatever is settled."""

BOUND_JOB: Final = {state: JobState(state.value) for state in ClaimState if state not in FREES_JOB}
"""What a job is while a claim binds it."""

BARRING_REASONS: Final = frozenset({"policy", "denied", "unanswered", "constraint"})
"""Reasons of a Close after which this job is never matched with this offer again."""


def advance_home(phase: HomePhase, record: type[Record]) -> HomePhase | None:
    """The home's next phase, or None if the record is inert there."""
    return HOME_MOVES.get((phase, record))


def advance_host(phase: HostPhase, record: type[Record]) -> HostPhase | None:
    """The host's next phase, or None if the record is inert there."""
    return HOST_MOVES.get((phase, record))


# Times. `now_ms` is always the clock of whoever acts.


def claim_until(now_ms: int, rules: Rules, *, may_ask: bool) -> int:
    """Until when a new claim stands; longer where a human may be asked."""
    return now_ms + (rules.approval_wait_ms if may_ask else rules.claim_wait_ms)


def accept_until(claim_until_ms: int, rules: Rules) -> int:
    """Until when an accept holds capacity: not before the claim's own end."""
    return claim_until_ms + rules.accept_wait_ms


def may_accept(now_ms: int, claim_until_ms: int, rules: Rules) -> bool:
    """True while the home, whose clock may be ahead by ε, has not released the claim."""
    return now_ms < claim_until_ms - rules.clock_error_ms


def may_hand_over(now_ms: int, accept_until_ms: int, rules: Rules) -> bool:
    """True while the host, whose clock may be ahead by ε, has not closed its accept."""
    return now_ms < accept_until_ms - rules.clock_error_ms


def lease_until(now_ms: int, walltime_s: int, rules: Rules) -> int:
    """The end of a lease given now: time to fetch, queue, run, be killed, and ε."""
    return (
        now_ms
        + rules.fetch_ms
        + rules.queue_ms
        + walltime_s * 1000
        + rules.kill_grace_ms
        + rules.clock_error_ms
    )


def kill_at(lease_until_ms: int, rules: Rules) -> int:
    """When all native processes are dead, by the host's clock."""
    return lease_until_ms - rules.clock_error_ms


def begin_before(lease_until_ms: int, walltime_s: int, rules: Rules) -> int:
    """The last moment, by the host's clock, at which the job may begin."""
    return kill_at(lease_until_ms, rules) - walltime_s * 1000 - rules.kill_grace_ms


def may_declare_lost(now_ms: int, lease_until_ms: int) -> bool:
    """True once the lease is over by the home's clock."""
    return now_ms >= lease_until_ms
