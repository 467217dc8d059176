"""What each centre has said, one register per writer: the part of the state that is a pure merge.

Theory of operation. A record writes only registers of its author: its offers, its jobs, its side of
a claim. Blocks of one feed are folded in the feed's order, feeds in any order, so every register
ends with the same value however blocks arrived (design invariant 5). What needs both sides (is this
job running?) is computed from the registers when asked, by the tables of `p2pfed.core.lifecycle`.

A record is folded into nothing, and returned as a reason, when it names something that its author
may not speak for, or that its side's machine has no move for: such a record is inert, not fatal
(invariant 6). A statement about a claim may come before the claim itself only from a centre that
broke the protocol; it is kept under its writer's name, so that even then order can't matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId, Position
from p2pfed.core.lifecycle import (
    BARRING_REASONS,
    JOINT,
    ClaimState,
    HomePhase,
    HostPhase,
    JobState,
    advance_home,
    advance_host,
)
from p2pfed.core.records import (
    FINAL_OUTCOMES,
    Accept,
    Cancel,
    Claim,
    Close,
    Contact,
    Dispute,
    End,
    ForkProof,
    Handover,
    Inert,
    Job,
    Lost,
    Offer,
    OfferClose,
    OfferUpdate,
    Outcome,
    Receipt,
    Record,
    Release,
    Start,
)
from p2pfed.core.units import HlcTime, hlc_ms
from p2pfed.errors import InputError


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

    @property
    def host(self) -> CentreName:
        """The centre that offers."""
        return self.offer_id.centre


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


_SILENT = HostSide()


@dataclass(slots=True)
class ClaimEntry:
    """Both sides of a claim. `claim` is None while only others have spoken of it."""

    claim_id: ClaimId
    claim: Claim | None = None
    claimed: HlcTime = HlcTime(0)
    phase: HomePhase = HomePhase.CLAIMED
    changed_ms: int = 0
    release_reason: str = ""
    lease_until_ms: int = 0
    handover: Position | None = None
    handover_ms: int = 0
    settlement: Receipt | Dispute | None = None
    settled: HlcTime = HlcTime(0)
    sides: dict[CentreName, HostSide] = field(default_factory=dict)

    @property
    def home(self) -> CentreName:
        """The centre whose job it is."""
        return self.claim_id.centre

    @property
    def host_side(self) -> HostSide:
        """The host's side; a silent one while it has said nothing (or the claim is unknown)."""
        if self.claim is None:
            return _SILENT
        return self.sides.get(self.claim.offer_id.centre, _SILENT)

    @property
    def state(self) -> ClaimState:
        """What the claim is, by both sides."""
        return JOINT[self.phase, self.host_side.phase]

    @property
    def over(self) -> bool:
        """True if the claim keeps its job from no other place any more."""
        state = self.state
        if state is ClaimState.ENDED:
            return self.settlement is not None
        return state in (ClaimState.CLOSED, ClaimState.RELEASED, ClaimState.LOST)


@dataclass(slots=True)
class JobEntry:
    """A job, and the claims that its home made for it, in order."""

    job_id: JobId
    job: Job
    posted: HlcTime
    cancelled: bool = False
    claims: tuple[ClaimId, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a job is, computed from its registers.

    Attributes:
        state: see `JobState`.
        live: the claim that it is bound to, if any.
        attempts: claims that were started or handed over and did not finish the job.
        declined: offers that turned this job away for good, ascending.
        outcome: how it ended, once it did.
    """

    state: JobState
    live: ClaimId | None = None
    attempts: int = 0
    declined: tuple[OfferId, ...] = ()
    outcome: Outcome | None = None


class Registers:
    """All registers of a federation.

    Args:
        check_proof: returns the centre that a ForkProof convicts; raises `InputError` if it proves
            nothing. Passed in because only the holder of the keys can tell.
        max_attempts: attempts after which a job fails (rules).
    """

    def __init__(self, check_proof: Callable[[ForkProof], CentreName], max_attempts: int) -> None:
        self._check_proof = check_proof
        self._max_attempts = max_attempts
        self.offers: dict[OfferId, OfferEntry] = {}
        self.jobs: dict[JobId, JobEntry] = {}
        self.claims: dict[ClaimId, ClaimEntry] = {}
        self.claims_by_offer: dict[OfferId, list[ClaimId]] = {}
        self.contacts: dict[CentreName, str] = {}
        self.suspended: set[CentreName] = set()
        self._folders: dict[type[Record], Callable[..., Position | str]] = {
            Contact: self._fold_contact,
            Offer: self._fold_offer,
            OfferUpdate: self._fold_offer_update,
            OfferClose: self._fold_offer_close,
            Job: self._fold_job,
            Cancel: self._fold_cancel,
            Claim: self._fold_claim,
            Release: self._fold_home_move,
            Handover: self._fold_home_move,
            Lost: self._fold_home_move,
            Receipt: self._fold_settlement,
            Dispute: self._fold_settlement,
            Accept: self._fold_host_move,
            Close: self._fold_host_move,
            Start: self._fold_host_move,
            End: self._fold_host_move,
            ForkProof: self._fold_proof,
        }

    def fold(self, position: Position, time: HlcTime, record: Record | Inert) -> Position | str:
        """Writes one record into its author's registers.

        Returns:
            The id of the offer, job or claim that it touched (the record's own position for
            others), or a text that says why the record is inert.
        """
        if isinstance(record, Inert):
            return f"{record.code}: {record.detail}"
        return self._folders[type(record)](position, time, record)

    # Offers

    def _fold_contact(self, position: Position, time: HlcTime, record: Contact) -> Position | str:
        self.contacts[position.centre] = record.address
        return position

    def _fold_offer(self, position: Position, time: HlcTime, record: Offer) -> Position | str:
        offer_id = OfferId(position)
        self.offers[offer_id] = OfferEntry(
            offer_id, record, time, record.nodes, record.walltime_max_s, record.until_ms
        )
        return position

    def _own_offer(self, position: Position, offer_id: Position) -> OfferEntry | str:
        entry = self.offers.get(OfferId(offer_id))
        if entry is None or offer_id.centre != position.centre:
            return f"{offer_id} is not an offer of its author"
        if entry.closed:
            return f"offer {offer_id} is closed"
        return entry

    def _fold_offer_update(
        self, position: Position, time: HlcTime, record: OfferUpdate
    ) -> Position | str:
        entry = self._own_offer(position, record.offer_id)
        if isinstance(entry, str):
            return entry
        entry.nodes = record.nodes
        entry.walltime_max_s = record.walltime_max_s
        entry.until_ms = record.until_ms
        return record.offer_id

    def _fold_offer_close(
        self, position: Position, time: HlcTime, record: OfferClose
    ) -> Position | str:
        entry = self._own_offer(position, record.offer_id)
        if isinstance(entry, str):
            return entry
        entry.closed = True
        return record.offer_id

    # Jobs

    def _fold_job(self, position: Position, time: HlcTime, record: Job) -> Position | str:
        job_id = JobId(position)
        self.jobs[job_id] = JobEntry(job_id, record, time)
        return position

    def _fold_cancel(self, position: Position, time: HlcTime, record: Cancel) -> Position | str:
        entry = self.jobs.get(JobId(record.job_id))
        if entry is None or record.job_id.centre != position.centre:
            return f"{record.job_id} is not a job of its author"
        entry.cancelled = True
        return record.job_id

    # Claims

    def _claim_entry(self, claim_id: Position) -> ClaimEntry:
        entry = self.claims.get(ClaimId(claim_id))
        if entry is None:
            entry = self.claims[ClaimId(claim_id)] = ClaimEntry(ClaimId(claim_id))
        return entry

    def _fold_claim(self, position: Position, time: HlcTime, record: Claim) -> Position | str:
        job = self.jobs.get(JobId(record.job_id))
        if job is None or record.job_id.centre != position.centre:
            return f"{record.job_id} is not a job of its author"
        if record.offer_id.centre == position.centre:
            return f"{record.offer_id} is an offer of its author"
        entry = self._claim_entry(position)
        entry.claim, entry.claimed, entry.changed_ms = record, time, hlc_ms(time)
        job.claims = (*job.claims, entry.claim_id)
        self.claims_by_offer.setdefault(OfferId(record.offer_id), []).append(entry.claim_id)
        return position

    def _own_claim(self, position: Position, claim_id: Position) -> ClaimEntry | str:
        entry = self.claims.get(ClaimId(claim_id))
        if entry is None or entry.claim is None or claim_id.centre != position.centre:
            return f"{claim_id} is not a claim of its author"
        return entry

    def _fold_home_move(
        self, position: Position, time: HlcTime, record: Release | Handover | Lost
    ) -> Position | str:
        entry = self._own_claim(position, record.claim_id)
        if isinstance(entry, str):
            return entry
        phase = advance_home(entry.phase, type(record))
        if phase is None:
            return f"claim {record.claim_id} is {entry.phase.value}"
        entry.phase, entry.changed_ms = phase, hlc_ms(time)
        if isinstance(record, Release):
            entry.release_reason = record.reason
        elif isinstance(record, Handover):
            entry.lease_until_ms = record.lease_until_ms
            entry.handover, entry.handover_ms = position, hlc_ms(time)
        return record.claim_id

    def _fold_settlement(
        self, position: Position, time: HlcTime, record: Receipt | Dispute
    ) -> Position | str:
        entry = self._own_claim(position, record.claim_id)
        if isinstance(entry, str):
            return entry
        if entry.settlement is not None:
            return f"claim {record.claim_id} is settled already"
        entry.settlement, entry.settled = record, time
        return record.claim_id

    def _fold_host_move(
        self, position: Position, time: HlcTime, record: Accept | Close | Start | End
    ) -> Position | str:
        entry = self._claim_entry(record.claim_id)
        if entry.claim is not None and entry.claim.offer_id.centre != position.centre:
            return f"claim {record.claim_id} is not on an offer of its author"
        side = entry.sides.get(position.centre)
        if side is None:
            side = entry.sides[position.centre] = HostSide()
        phase = advance_host(side.phase, type(record))
        if phase is None:
            return f"claim {record.claim_id} is {side.phase.value}"
        side.phase, side.changed_ms = phase, hlc_ms(time)
        if isinstance(record, Accept):
            side.accept_until_ms, side.accepted_ms = record.accept_until_ms, hlc_ms(time)
        elif isinstance(record, Close):
            side.close_reason = record.reason
        elif isinstance(record, Start):
            side.native_name, side.started_ms = record.native_name, hlc_ms(time)
        else:
            side.end, side.ended = record, time
        return record.claim_id

    def _fold_proof(self, position: Position, time: HlcTime, record: ForkProof) -> Position | str:
        try:
            self.suspended.add(self._check_proof(record))
        except InputError as error:
            return f"{error.code}: {error.what}"
        return position

    # What follows from both sides

    def job_of(self, claim_id: ClaimId) -> JobEntry | None:
        """The job of a claim, or None for a claim that only others have spoken of."""
        entry = self.claims.get(claim_id)
        if entry is None or entry.claim is None:
            return None
        return self.jobs.get(JobId(entry.claim.job_id))

    def judge(self, job: JobEntry) -> Verdict:
        """What the job is now. Cost: its claims, of which there are few."""
        live: ClaimEntry | None = None
        done: Outcome | None = None
        attempts = 0
        declined: set[OfferId] = set()
        for claim_id in job.claims:
            entry = self.claims[claim_id]
            if entry.claim is None:
                continue
            state = entry.state
            if not entry.over:
                live = live or entry
            elif state is ClaimState.LOST:
                attempts += 1
            elif state is ClaimState.ENDED and entry.host_side.end is not None:
                outcome = Outcome(entry.host_side.end.outcome)
                if outcome in FINAL_OUTCOMES:
                    done = done or outcome
                else:
                    attempts += 1
            elif state is ClaimState.CLOSED:
                # Closed after the handover: the host had its chance, so such jobs don't circle.
                attempts += entry.phase is HomePhase.HANDED
                if entry.host_side.close_reason in BARRING_REASONS:
                    declined.add(OfferId(entry.claim.offer_id))
        return Verdict(
            self._job_state(job, live, done, attempts),
            None if live is None else live.claim_id,
            attempts,
            tuple(sorted(declined)),
            done,
        )

    def _job_state(
        self,
        job: JobEntry,
        live: ClaimEntry | None,
        done: Outcome | None,
        attempts: int,
    ) -> JobState:
        if done is Outcome.COMPLETED:
            return JobState.COMPLETED
        if done is Outcome.CANCELLED:
            return JobState.CANCELLED
        if done is not None:
            return JobState.FAILED
        if live is not None:
            return JobState.CANCELLING if job.cancelled else JobState(live.state.value)
        if job.cancelled:
            return JobState.CANCELLED
        if attempts >= self._max_attempts:
            return JobState.FAILED
        return JobState.QUEUED
