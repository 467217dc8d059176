"""The entries of the registers: what each centre has said of an offer, a job, its side of a claim.

An entry is written only by `p2pfed.core.registers`; everybody else reads it. What a claim is
follows from both its sides by the table of `p2pfed.core.lifecycle`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId, Position
from p2pfed.core.lifecycle import FREES_JOB, ClaimState, HomePhase, HostPhase
from p2pfed.core.records import Claim, Dispute, End, Job, Offer, Outcome, Receipt
from p2pfed.core.units import HlcTime


@dataclass(slots=True)
class OfferEntry:
    """An offer as its host last stated it."""

    offer_id: OfferId
    terms: Offer
    opened: HlcTime
    nodes: int
    walltime_max_s: int
    until_ms: int
    closed: bool = False
    closed_ms: int = 0
    shared: bool = field(default=False, compare=False)

    @property
    def host(self) -> CentreName:
        """The centre that offers."""
        return self.offer_id.centre

    def copy(self) -> OfferEntry:
        """An entry that holds the same and changes alone."""
        return replace(self, shared=False)


@dataclass(slots=True)
class HostSide:
    """What one centre said as the host of a claim."""

    phase: HostPhase = HostPhase.SILENT
    accepted_ms: int = 0
    accept_until_ms: int = 0
    close_reason: str = ""
    native_name: str = ""
    changed_ms: int = 0
    started_ms: int = 0
    end: End | None = None
    ended: HlcTime = HlcTime(0)


SILENT = HostSide()
"""The side of a host that has said nothing; never written to."""


@dataclass(slots=True)
class ClaimEntry:
    """Both sides of a claim. `claim` is None while only others have spoken of it.

    Attributes:
        host_side: the host's side; a silent one while it has said nothing, or the claim is unknown.
        state: what the claim is, by both sides.
        settlement: the home's first word on the usage.
        dispute: the home's objection, which may follow a receipt.
        settles: (centre, time, core_s, gpu_s) of every offer to settle, ascending.
        early: what centres said of the claim before it was known.
    """

    claim_id: ClaimId
    claim: Claim | None = None
    claimed: HlcTime = HlcTime(0)
    phase: HomePhase = HomePhase.CLAIMED
    host_side: HostSide = field(default_factory=lambda: SILENT)
    state: ClaimState = ClaimState.CLAIMED
    changed_ms: int = 0
    release_reason: str = ""
    lease_until_ms: int = 0
    handover: Position | None = None
    handover_ms: int = 0
    settlement: Receipt | Dispute | None = None
    settled: HlcTime = HlcTime(0)
    dispute: Dispute | None = None
    disputed: HlcTime = HlcTime(0)
    settles: tuple[tuple[CentreName, HlcTime, int, int], ...] = ()
    early: dict[CentreName, HostSide] | None = None
    shared: bool = field(default=False, compare=False)

    @property
    def home(self) -> CentreName:
        """The centre whose job it is."""
        return self.claim_id.centre

    @property
    def over(self) -> bool:
        """True if the claim keeps its job from no other place any more."""
        if self.state is ClaimState.ENDED:
            return self.settlement is not None
        return self.state in FREES_JOB

    @property
    def kept_by_host(self) -> bool:
        """True while the host must keep what it has of the claim: to start, end or hand back.

        A home that calls a claim lost ends nothing: what runs must stay in the host's hand.
        """
        phase = self.host_side.phase
        if phase is HostPhase.STARTED:
            return True
        return not self.over or (phase is HostPhase.ENDED and self.settlement is None)

    def agreement(self) -> tuple[HlcTime, int, int] | None:
        """When home and host first named the same (core_s, gpu_s) for a dispute, and which."""
        if self.claim is None or self.dispute is None:
            return None
        host = self.claim.offer_id.centre
        agreed = [
            (max(ours[1], theirs[1]), *ours[2:])
            for ours in self.settles
            for theirs in self.settles
            if (ours[0], theirs[0]) == (self.home, host) and ours[2:] == theirs[2:]
        ]
        return min(agreed, default=None)

    def copy(self) -> ClaimEntry:
        """An entry that holds the same and changes alone."""
        side = self.host_side
        return replace(
            self,
            host_side=side if side is SILENT else replace(side),
            early=self.early and {centre: replace(said) for centre, said in self.early.items()},
            shared=False,
        )


@dataclass(slots=True)
class JobEntry:
    """A job, and the claims that its home made for it, in order.

    Attributes:
        held: its home keeps it out of the matching for now.
        done: its home says no more about it.
    """

    job_id: JobId
    job: Job
    posted: HlcTime
    cancelled: bool = False
    cancel_time: HlcTime = HlcTime(0)
    held: bool = False
    claims: tuple[ClaimId, ...] = ()
    done: bool = False
    shared: bool = field(default=False, compare=False)

    def copy(self) -> JobEntry:
        """An entry that holds the same and changes alone."""
        return replace(self, shared=False)


def outcome_of(entry: ClaimEntry, job: JobEntry) -> Outcome | None:
    """How the claim's native job ended, None while it has not.

    Only the home may cancel: an end that says "cancelled" without, or before, the home's Cancel is
    the host's own doing, and counts as preempted. (After Lost the host had to end it.)
    """
    end = entry.host_side.end
    if end is None:
        return None
    asked = job.cancelled and job.cancel_time < entry.host_side.ended
    if end.outcome == Outcome.CANCELLED and not asked and entry.state is not ClaimState.LOST:
        return Outcome.PREEMPTED
    return Outcome(end.outcome)
