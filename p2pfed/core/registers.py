"""What each centre has said, one register per writer: the part of the state that is a pure merge.

Theory of operation. A record writes only registers of its author: its offers, its jobs, its side of
a claim. Blocks of one feed are folded in the feed's order, feeds in any order, so every register
ends with the same value however blocks arrived (design invariant 5). What needs both sides (is this
job running?) is computed from the registers when asked, by the tables of `p2pfed.core.lifecycle`.

A record is folded into nothing, and returned as a reason, when it names something that its author
may not speak for, or that its side's machine has no move for: such a record is inert, not fatal
(invariant 6). A statement about a claim may come before the claim itself only from a centre that
broke the protocol; it is kept under its writer's name, so that even then order can't matter.

The registers know how far each feed was folded, and so tell a claim that is over, and was forgotten
(`p2pfed.core.closing`), from one that is not known yet: what names the first is without effect.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple, cast

from p2pfed.core.blocks import Block
from p2pfed.core.entries import SILENT, ClaimEntry, HostSide, JobEntry, OfferEntry, outcome_of
from p2pfed.core.governance import GOVERNANCE_RECORDS, Governance
from p2pfed.core.ids import CentreName, ClaimId, FeedKey, JobId, OfferId, Position
from p2pfed.core.lifecycle import (
    BARRING_REASONS,
    BOUND_JOB,
    JOINT,
    ClaimState,
    HomePhase,
    JobState,
    advance_home,
    advance_host,
)
from p2pfed.core.proposals import Disputed
from p2pfed.core.records import (
    FINAL_OUTCOMES,
    Accept,
    Cancel,
    Checkpoint,
    Claim,
    Close,
    Contact,
    Dispute,
    Done,
    End,
    ForkProof,
    Handover,
    Hold,
    Inert,
    Job,
    Lost,
    NewEpoch,
    Offer,
    OfferClose,
    OfferUpdate,
    Outcome,
    Receipt,
    Record,
    Release,
    RotateKey,
    Settle,
    Start,
    StateDigests,
    Unhold,
)
from p2pfed.core.rules import Rules
from p2pfed.core.tables import Tables
from p2pfed.core.units import HlcTime, hlc_ms
from p2pfed.errors import InputError

EXPIRED: Final = "expired"
"""Reason of a Release or Close for which only the time gave cause."""


class Verdict(NamedTuple):
    """What a job is, computed from its registers.

    Attributes:
        state: see `JobState`.
        live: the claim that it is bound to, if any.
        attempts: claims that were started or handed over and did not finish the job.
        evictions: those of them that their hosts cut short for their own sake.
        declined: offers that turned this job away for good, ascending.
        outcome: how it ended, once it did.
        avoided: hosts that let a claim of it come to nothing without a word, ascending.
    """

    state: JobState
    live: ClaimId | None = None
    attempts: int = 0
    declined: tuple[OfferId, ...] = ()
    outcome: Outcome | None = None
    evictions: int = 0
    avoided: tuple[CentreName, ...] = ()


class Registers(Tables):
    """All registers of a federation.

    Args:
        check_proof: returns the feed that a ForkProof convicts, and the place; raises
            `InputError` if it proves nothing. Only the holder of the keys can tell.
        max_attempts: attempts after which a job fails (rules).
        governance: who the members are, and the rules; without it nobody is, under the defaults.
    """

    def __init__(
        self,
        check_proof: Callable[[ForkProof], tuple[FeedKey, int]],
        max_attempts: int,
        governance: Governance | None = None,
    ) -> None:
        self._check_proof = check_proof
        super().__init__()
        self.max_attempts = max_attempts
        self.governance = governance or Governance((), Rules())
        # The same table by another type, so that what a record names is looked up as it stands.
        self._claims_at = cast(dict[Position, ClaimEntry], self.claims)
        self._folders: dict[type[Record | Inert], Callable[..., Position | str]] = {
            Inert: self._fold_inert,
            Contact: self._fold_contact,
            Offer: self._fold_offer,
            OfferUpdate: self._fold_offer_update,
            OfferClose: self._fold_offer_close,
            Job: self._fold_job,
            Cancel: self._fold_cancel,
            Hold: self._fold_hold,
            Unhold: self._fold_hold,
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
            Settle: self._fold_settle,
            RotateKey: self._fold_rotation,
            NewEpoch: self._fold_new_epoch,
            **dict.fromkeys(GOVERNANCE_RECORDS, self.governance.fold),
            Done: self._fold_done,
            Checkpoint: self._fold_said,
            StateDigests: self._fold_said,
        }

    @property
    def convicted(self) -> AbstractSet[FeedKey]:
        """The feeds that are proven to be forked."""
        return self.governance.convicted.keys()

    @property
    def suspended(self) -> set[CentreName]:
        """The centres whose feed in force is proven to be forked."""
        return self.governance.suspended(self.convicted)

    def counts(self, block: Block) -> bool:
        """Whether what the block says counts; one that begins a declared epoch is noted first."""
        feed = block.feed
        first = block.records[0] if block.records else None
        if feed.epoch and not block.seq_num and isinstance(first, NewEpoch):
            self.governance.declare(feed, block.time)
        return self.governance.in_force(feed, block.time)

    def passed(self, position: Position) -> bool:
        """Whether nothing new can stand at this position; never of a feed that has branches."""
        feed = FeedKey(position.centre, position.epoch)
        return feed not in self.convicted and super().passed(position)

    def fold(self, position: Position, time: HlcTime, record: Record | Inert) -> Position | str:
        """Writes one record into its author's registers.

        Returns:
            The id of the offer, job or claim that it touched (the record's own position for
            others), or a text that says why the record is inert.
        """
        return self._folders[type(record)](position, time, record)

    def fold_block(self, block: Block) -> list[Position | str]:
        """`fold` for each record of a block, in order."""
        folders, time = self._folders, block.time
        self.governance.witness(block)
        found = [
            folders[type(record)](position, time, record)
            for position, record in zip(block.positions(), block.records, strict=True)
        ]
        self.note_folded(block.feed, block.seq_num)
        return found

    def _fold_inert(self, position: Position, time: HlcTime, record: Inert) -> str:
        return f"{record.code}: {record.detail}"

    def fork(self) -> Registers:
        """Second registers with the same contents, for a fold that goes its own way from here.

        Costs a few steps for each entry, and no memory for it. May be called once.
        """
        fork = Registers(self._check_proof, self.max_attempts, self.governance.fork())
        self.share_with(fork)
        return fork

    # Offers

    def _fold_said(
        self, position: Position, time: HlcTime, record: Checkpoint | StateDigests
    ) -> Position | str:
        """A word on the state is no part of it."""
        return position

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
        entry = self._offer(OfferId(offer_id))
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
        entry.closed, entry.closed_ms = True, hlc_ms(time)
        return record.offer_id

    # Jobs

    def _fold_job(self, position: Position, time: HlcTime, record: Job) -> Position | str:
        job_id = JobId(position)
        self.jobs[job_id] = JobEntry(job_id, record, time)
        return position

    def _fold_cancel(self, position: Position, time: HlcTime, record: Cancel) -> Position | str:
        entry = self._own_job(position, record.job_id)
        if isinstance(entry, str):
            return entry
        if not entry.cancelled:
            entry.cancelled, entry.cancel_time = True, time
        return record.job_id

    def _fold_hold(
        self, position: Position, time: HlcTime, record: Hold | Unhold
    ) -> Position | str:
        entry = self._own_job(position, record.job_id)
        if isinstance(entry, str):
            return entry
        entry.held = isinstance(record, Hold)
        return record.job_id

    def _fold_done(self, position: Position, time: HlcTime, record: Done) -> Position | str:
        entry = self._own_job(position, record.job_id)
        if isinstance(entry, str):
            return entry
        entry.done = True
        return record.job_id

    def _own_job(self, position: Position, job_id: Position) -> JobEntry | str:
        entry = self._job(JobId(job_id))
        if entry is None or job_id.centre != position.centre or entry.done:
            return f"{job_id} is not an open job of its author"
        return entry

    # Claims

    def _claim_entry(self, claim_id: Position) -> ClaimEntry:
        entry = self._claims_at.get(claim_id)
        if entry is None:
            entry = self._claims_at[claim_id] = ClaimEntry(ClaimId(claim_id))
        elif entry.shared:
            entry = self._claim(entry.claim_id) or entry
        return entry

    def _fold_claim(self, position: Position, time: HlcTime, record: Claim) -> Position | str:
        job = self._own_job(position, record.job_id)
        if isinstance(job, str):
            return job
        if record.offer_id.centre == position.centre:
            return f"{record.offer_id} is an offer of its author"
        entry = self._claim_entry(position)
        entry.claim, entry.claimed, entry.changed_ms = record, time, hlc_ms(time)
        if entry.early is not None:
            entry.host_side = entry.early.get(record.offer_id.centre, SILENT)
            entry.state = JOINT[entry.phase, entry.host_side.phase]
            entry.early = None
        parties = entry.home, entry.claim.offer_id.centre
        entry.settles = tuple(said for said in entry.settles if said[0] in parties)
        job.claims = (*job.claims, entry.claim_id)
        self.claims_by_offer.setdefault(OfferId(record.offer_id), {})[entry.claim_id] = None
        return position

    def _own_claim(self, position: Position, claim_id: Position) -> ClaimEntry | str:
        entry = self._claims_at.get(claim_id)
        if (
            entry is None
            or entry.claim is None
            or claim_id.centre != position.centre
            or self.jobs[JobId(entry.claim.job_id)].done
        ):
            return f"{claim_id} is not an open claim of its author"
        return self._claim_entry(claim_id) if entry.shared else entry

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
        entry.state = JOINT[phase, entry.host_side.phase]
        if isinstance(record, Release):
            entry.release_reason = record.reason
        elif isinstance(record, Handover):
            entry.lease_until_ms = record.lease_until_ms
            entry.handover, entry.handover_ms = position, entry.changed_ms
        return record.claim_id

    def _fold_settlement(
        self, position: Position, time: HlcTime, record: Receipt | Dispute
    ) -> Position | str:
        entry = self._own_claim(position, record.claim_id)
        if isinstance(entry, str):
            return entry
        if isinstance(record, Dispute):
            if entry.dispute is not None:
                return f"claim {record.claim_id} is disputed already"
            entry.dispute, entry.disputed = record, time
            self.note_dispute(entry)
        elif entry.settlement is not None:
            return f"claim {record.claim_id} is settled already"
        if entry.settlement is None:
            entry.settlement, entry.settled = record, time
        return record.claim_id

    def _fold_settle(self, position: Position, time: HlcTime, record: Settle) -> Position | str:
        if record.claim_id not in self._claims_at and self.passed(record.claim_id):
            return record.claim_id  # It is over, or never was: nothing changes.
        entry, author = self._claim_entry(record.claim_id), position.centre
        if entry.claim is None:
            self._early[entry.claim_id] = None
        if entry.claim is not None and author not in (entry.home, entry.claim.offer_id.centre):
            return f"{author} is no party to claim {record.claim_id}"
        said = (author, time, record.core_s, record.gpu_s)
        entry.settles = tuple(sorted({*entry.settles, said}))
        self.note_dispute(entry)
        return record.claim_id

    def note_dispute(self, entry: ClaimEntry) -> None:
        """Tells those who decide what stands in the ledger of a dispute, if there is one."""
        if entry.claim is None or entry.dispute is None:
            return
        agreed = entry.agreement()
        disputed = Disputed(
            host=entry.claim.offer_id.centre,
            disputed_ms=hlc_ms(entry.disputed),
            settled_ms=None if agreed is None else hlc_ms(agreed[0]),
        )
        self.governance.dispute(entry.claim_id, disputed)

    def _fold_host_move(
        self, position: Position, time: HlcTime, record: Accept | Close | Start | End
    ) -> Position | str:
        if record.claim_id not in self._claims_at and self.passed(record.claim_id):
            return record.claim_id  # It is over, or never was: nothing changes.
        entry = self._claim_entry(record.claim_id)
        if entry.claim is None:
            side = self._early_side(entry, position.centre)
        elif entry.claim.offer_id.centre != position.centre:
            return f"claim {record.claim_id} is not on an offer of its author"
        elif (side := entry.host_side) is SILENT:
            side = entry.host_side = HostSide()
        phase = advance_host(side.phase, type(record))
        if phase is None:
            return f"claim {record.claim_id} is {side.phase.value}"
        side.phase, side.changed_ms = phase, hlc_ms(time)
        if isinstance(record, Accept):
            side.accept_until_ms, side.accepted_ms = record.accept_until_ms, side.changed_ms
        elif isinstance(record, Close):
            side.close_reason = record.reason
        elif isinstance(record, Start):
            side.native_name, side.started_ms = record.native_name, side.changed_ms
        else:
            side.end, side.ended = record, time
        if entry.claim is not None:
            entry.state = JOINT[entry.phase, phase]
        return record.claim_id

    def _early_side(self, entry: ClaimEntry, author: CentreName) -> HostSide:
        """What the author says of a claim that is not known yet."""
        if entry.early is None:
            entry.early = {}
            self._early[entry.claim_id] = None
        return entry.early.setdefault(author, HostSide())

    def _fold_proof(self, position: Position, time: HlcTime, record: ForkProof) -> Position | str:
        try:
            feed, _ = self._check_proof(record)
        except InputError as error:
            return f"{error.code}: {error.what}"
        self.governance.convict(feed, time)
        return position

    def _fold_rotation(
        self, position: Position, time: HlcTime, record: RotateKey
    ) -> Position | str:
        """Nothing here goes by keys: `p2pfed.core.keyring` does."""
        return position

    def _fold_new_epoch(
        self, position: Position, time: HlcTime, record: NewEpoch
    ) -> Position | str:
        """Takes effect with its block (`counts`); anywhere else it says nothing."""
        if position.seq_num or position.record_index or not position.epoch:
            return "a new epoch begins with the first record of its first block"
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
        attempts = evictions = 0
        declined: set[OfferId] = set()
        avoided: set[CentreName] = set()
        for claim_id in job.claims:
            entry = self.claims[claim_id]
            if entry.claim is None:
                continue
            state = entry.state
            if _came_to_nothing(entry):
                avoided.add(entry.claim.offer_id.centre)
            if not entry.over:
                live = live or entry
            elif state is ClaimState.LOST:
                attempts += 1
            elif state is ClaimState.ENDED and entry.host_side.end is not None:
                outcome = outcome_of(entry, job)
                if outcome in FINAL_OUTCOMES:
                    done = done or outcome
                else:
                    attempts += 1
                    evictions += outcome is Outcome.PREEMPTED
            elif state is ClaimState.CLOSED:
                # Closed after the handover: the host had its chance, so such jobs don't circle.
                attempts += entry.phase is HomePhase.HANDED
                if entry.host_side.close_reason in BARRING_REASONS:
                    declined.add(OfferId(entry.claim.offer_id))
        return Verdict(
            self._job_state(job, live, done, attempts),
            None if live is None else live.claim_id,
            attempts,
            tuple(sorted(declined)) if declined else (),
            done,
            evictions,
            tuple(sorted(avoided)) if avoided else (),
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
            return JobState.CANCELLING if job.cancelled else BOUND_JOB[live.state]
        if job.cancelled:
            return JobState.CANCELLED
        if attempts >= self.max_attempts or job.done:
            return JobState.FAILED
        return JobState.QUEUED


def _came_to_nothing(entry: ClaimEntry) -> bool:
    """True if the host let the time of a claim run out: it did not answer, fetch, start or end."""
    if entry.state is ClaimState.CLOSED:
        return entry.host_side.close_reason == EXPIRED
    return entry.state is ClaimState.LOST or entry.release_reason == EXPIRED
