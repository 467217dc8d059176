"""One register per writer: who may say what, and that saying it out of order changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import pytest

from p2pfed.core.entries import outcome_of
from p2pfed.core.ids import CentreName, ClaimId, FeedKey, JobId, OfferId, Position
from p2pfed.core.lifecycle import ClaimState, JobState
from p2pfed.core.records import (
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
from p2pfed.core.registers import Registers
from p2pfed.core.units import hlc
from p2pfed.errors import InputError
from tests.writers import START_MS

HOME, HOST, OTHER = (CentreName(name) for name in ("home", "host", "other"))
OFFER = Offer(
    resource_class="cpu", nodes=2, cores_per_node=4, memory_mib_per_node=4_000, walltime_max_s=600
)
JOB = Job(
    resource_class="cpu",
    nodes=1,
    cores_per_node=4,
    memory_mib_per_node=500,
    walltime_s=60,
    work_class="normal",
    payload_digest=bytes(32),
    payload_bytes=10,
)


def convicts_other(proof: ForkProof) -> tuple[FeedKey, int]:
    if proof.first == b"lie":
        raise InputError("fork-proof-same", "the two headers are the same block")
    return FeedKey(OTHER, 0), 0


@dataclass
class Book:
    """Registers, and feeds of one record a block."""

    def __post_init__(self) -> None:
        self.registers = Registers(convicts_other, max_attempts=2)
        self._seq_nums: dict[CentreName, int] = {}
        self._ms = START_MS

    def place(self, centre: CentreName) -> Position:
        """Where the next record of a centre will stand."""
        seq_num = self._seq_nums.get(centre, -1) + 1
        self._seq_nums[centre] = seq_num
        return Position(centre, 0, seq_num, 0)

    def say(self, centre: CentreName, record: Record | Inert) -> Position:
        """A record that counts; returns its position."""
        position, touched = self.try_to_say(centre, record)
        assert not isinstance(touched, str), touched
        return position

    def try_to_say(
        self, centre: CentreName, record: Record | Inert
    ) -> tuple[Position, Position | str]:
        """A record that may be inert; returns its position and what the fold gave."""
        self._ms += 1_000
        position = self.place(centre)
        return position, self.registers.fold(position, hlc(self._ms), record)

    def claim(self, job_id: Position | None = None) -> tuple[JobId, ClaimId]:
        """A job, and its home's claim on an offer of the host."""
        offer_id = self.say(HOST, OFFER)
        job_id = job_id or self.say(HOME, JOB)
        record = claim_of(job_id, offer_id)
        return JobId(job_id), ClaimId(self.say(HOME, record))

    def all_of(self, claim_id: ClaimId, steps: Sequence[tuple[CentreName, Record]]) -> None:
        for centre, record in steps:
            self.say(centre, record)

    def job(self, job_id: JobId) -> JobState:
        return self.registers.judge(self.registers.jobs[job_id]).state

    def state(self, claim_id: ClaimId) -> ClaimState:
        return self.registers.claims[claim_id].state


def claim_of(job_id: Position, offer_id: Position) -> Claim:
    return Claim(
        job_id=job_id,
        offer_id=offer_id,
        attempt=1,
        round=1,
        rules_version=1,
        view_digest=bytes(32),
        claim_until_ms=START_MS + 30_000,
    )


def end(claim_id: ClaimId, outcome: Outcome = Outcome.COMPLETED) -> End:
    return End(
        claim_id=claim_id,
        outcome=int(outcome),
        started_ms=START_MS,
        ended_ms=START_MS + 1_000,
        core_s=4,
    )


def to_end(claim_id: ClaimId, outcome: Outcome) -> list[tuple[CentreName, Record]]:
    return [
        (HOST, Accept(claim_id=claim_id, accept_until_ms=START_MS)),
        (HOME, Handover(claim_id=claim_id, lease_until_ms=START_MS)),
        (HOST, Start(claim_id=claim_id, native_name="native")),
        (HOST, end(claim_id, outcome)),
        (HOME, Receipt(claim_id=claim_id, core_s=4)),
    ]


# Who may say what


def test_a_claim_takes_the_way_that_both_its_sides_say() -> None:
    book = Book()
    job_id, claim_id = book.claim()
    found = [book.state(claim_id)]
    for centre, record in to_end(claim_id, Outcome.COMPLETED)[:-1]:
        book.say(centre, record)
        found.append(book.state(claim_id))
    assert [state.value for state in found] == ["claimed", "accepted", "leased", "started", "ended"]
    assert book.job(job_id) is JobState.ENDED
    book.say(HOME, Receipt(claim_id=claim_id, core_s=4))
    assert book.job(job_id) is JobState.COMPLETED


@pytest.mark.parametrize(
    ("author", "make"),
    [
        (OTHER, lambda job, claim, offer: Cancel(job_id=job)),
        (HOST, lambda job, claim, offer: Cancel(job_id=job)),
        (OTHER, lambda job, claim, offer: OfferClose(offer_id=offer)),
        (HOME, lambda job, claim, offer: OfferUpdate(offer_id=offer, nodes=1, walltime_max_s=1)),
        (OTHER, lambda job, claim, offer: claim_of(job, offer)),
        (HOST, lambda job, claim, offer: claim_of(job, offer)),
        (OTHER, lambda job, claim, offer: Release(claim_id=claim, reason="x")),
        (HOST, lambda job, claim, offer: Handover(claim_id=claim, lease_until_ms=1)),
        (HOST, lambda job, claim, offer: Lost(claim_id=claim)),
        (HOST, lambda job, claim, offer: Receipt(claim_id=claim, core_s=1)),
        (OTHER, lambda job, claim, offer: Dispute(claim_id=claim, core_s=1, reason="x")),
        (OTHER, lambda job, claim, offer: Accept(claim_id=claim, accept_until_ms=1)),
        (HOME, lambda job, claim, offer: Accept(claim_id=claim, accept_until_ms=1)),
        (HOME, lambda job, claim, offer: Close(claim_id=claim, reason="x")),
        (OTHER, lambda job, claim, offer: Start(claim_id=claim, native_name="x")),
        (OTHER, lambda job, claim, offer: ForkProof(first=b"lie", second=b"x")),
        (HOME, lambda job, claim, offer: Inert("record-type-unknown", "record type 99")),
    ],
)
def test_nobody_speaks_for_another(author: CentreName, make) -> None:  # type: ignore[no-untyped-def]
    book = Book()
    job_id, claim_id = book.claim()
    claim = book.registers.claims[claim_id].claim
    assert claim is not None
    _, touched = book.try_to_say(author, make(job_id, claim_id, claim.offer_id))
    assert isinstance(touched, str)
    assert book.state(claim_id) is ClaimState.CLAIMED
    assert not book.registers.jobs[job_id].cancelled
    assert not book.registers.offers[OfferId(claim.offer_id)].closed
    assert not book.registers.suspended


def test_a_centre_does_not_claim_its_own_offer() -> None:
    book = Book()
    offer_id, job_id = book.say(HOME, OFFER), book.say(HOME, JOB)
    assert isinstance(book.try_to_say(HOME, claim_of(job_id, offer_id))[1], str)


# Records that come at the wrong time


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["close"], "accept"),
        (["accept", "close"], "start"),
        (["close"], "close"),
        (["accept"], "accept"),
        ([], "start"),
        (["accept"], "end"),
        (["accept", "handover", "start"], "close"),
        (["accept", "handover", "start", "end"], "end"),
        (["release"], "handover"),
        (["handover"], "release"),
        (["handover"], "handover"),
        ([], "lost"),
        (["handover", "lost"], "lost"),
        (["handover", "lost"], "release"),
        (["dispute"], "dispute"),
        (["dispute"], "receipt"),
    ],
)
def test_what_its_side_has_no_move_for_is_inert(before: list[str], after: str) -> None:
    book = Book()
    _, claim_id = book.claim()
    steps: dict[str, tuple[CentreName, Record]] = {
        "accept": (HOST, Accept(claim_id=claim_id, accept_until_ms=1)),
        "close": (HOST, Close(claim_id=claim_id, reason="policy")),
        "start": (HOST, Start(claim_id=claim_id, native_name="n")),
        "end": (HOST, end(claim_id)),
        "release": (HOME, Release(claim_id=claim_id, reason="expired")),
        "handover": (HOME, Handover(claim_id=claim_id, lease_until_ms=1)),
        "lost": (HOME, Lost(claim_id=claim_id)),
        "receipt": (HOME, Receipt(claim_id=claim_id, core_s=1)),
        "dispute": (HOME, Dispute(claim_id=claim_id, core_s=1, reason="less")),
    }
    for name in before:
        book.say(*steps[name])
    state = book.state(claim_id)
    assert isinstance(book.try_to_say(*steps[after])[1], str)
    assert book.state(claim_id) is state


def test_a_late_accept_of_a_released_claim_does_not_answer_the_next() -> None:
    book = Book()
    job_id, first = book.claim()
    book.say(HOME, Release(claim_id=first, reason="expired"))
    _, second = book.claim(job_id)
    book.say(HOST, Accept(claim_id=first, accept_until_ms=1))
    assert book.state(first) is ClaimState.RELEASED
    assert book.state(second) is ClaimState.CLAIMED


def test_a_start_without_a_lease_moves_nothing() -> None:
    book = Book()
    _, claim_id = book.claim()
    book.say(HOST, Accept(claim_id=claim_id, accept_until_ms=1))
    book.say(HOST, Start(claim_id=claim_id, native_name="n"))
    assert book.state(claim_id) is ClaimState.ACCEPTED


def test_an_end_after_the_loss_does_not_end_the_job() -> None:
    book = Book()
    job_id, claim_id = book.claim()
    book.all_of(claim_id, to_end(claim_id, Outcome.COMPLETED)[:3])
    book.say(HOME, Lost(claim_id=claim_id))
    book.say(HOST, end(claim_id))
    assert book.state(claim_id) is ClaimState.LOST
    assert book.job(job_id) is JobState.QUEUED


def test_a_host_keeps_what_it_started_until_it_said_end_and_its_home_settled() -> None:
    book = Book()
    _, claim_id = book.claim()
    book.all_of(claim_id, to_end(claim_id, Outcome.COMPLETED)[:3])
    book.say(HOME, Lost(claim_id=claim_id))
    assert book.registers.claims[claim_id].kept_by_host
    book.say(HOST, end(claim_id))
    assert book.registers.claims[claim_id].kept_by_host
    book.say(HOME, Receipt(claim_id=claim_id, core_s=1))
    assert not book.registers.claims[claim_id].kept_by_host


def test_a_closed_offer_changes_no_more() -> None:
    book = Book()
    offer_id = book.say(HOST, OFFER)
    book.say(HOST, OfferClose(offer_id=offer_id))
    update = OfferUpdate(offer_id=offer_id, nodes=9, walltime_max_s=9)
    assert isinstance(book.try_to_say(HOST, update)[1], str)
    assert isinstance(book.try_to_say(HOST, OfferClose(offer_id=offer_id))[1], str)


def test_the_newest_address_of_a_centre_counts() -> None:
    book = Book()
    for address in ("a:1", "b:2"):
        book.say(HOME, Contact(address=address))
    assert book.registers.contacts == {HOME: "b:2"}


# Order between writers


def test_the_order_between_two_writers_never_matters() -> None:
    """Home and host each in their own order, woven in every way, with a meddler in between."""

    def woven(order: tuple[str, ...]) -> object:
        book = Book()
        offer_id = book.say(HOST, OFFER)
        claim_id = ClaimId(Position(HOME, 0, 1, 0))
        job_id = Position(HOME, 0, 0, 0)
        ours: list[Record] = [JOB, claim_of(job_id, offer_id)]
        ours.append(Handover(claim_id=claim_id, lease_until_ms=1))
        hosts: list[Record] = [Accept(claim_id=claim_id, accept_until_ms=1)]
        hosts.append(Start(claim_id=claim_id, native_name="n"))
        others: list[Record] = [Accept(claim_id=claim_id, accept_until_ms=9)]
        others.append(Close(claim_id=ClaimId(job_id), reason="x"))
        feeds = {"o": (HOME, ours), "h": (HOST, hosts), "m": (OTHER, others)}
        for turn in order:
            centre, records = feeds[turn]
            record = records.pop(0)
            at_ms = START_MS + {"o": 0, "h": 100, "m": 200}[turn] - len(records)
            book.registers.fold(book.place(centre), hlc(at_ms), record)
        entry = book.registers.claims[claim_id]
        verdict = book.registers.judge(book.registers.jobs[JobId(job_id)])
        return entry.copy(), verdict

    first = woven(("o", "o", "o", "h", "h", "m", "m"))
    assert all(woven(order) == first for order in set(permutations("ooohhmm")))


# What a job is


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.COMPLETED, JobState.COMPLETED),
        (Outcome.FAILED, JobState.FAILED),
        (Outcome.TIMEOUT, JobState.FAILED),
        (Outcome.OUT_OF_MEMORY, JobState.FAILED),
        (Outcome.PREEMPTED, JobState.QUEUED),
        (Outcome.NODE_FAILURE, JobState.QUEUED),
        (Outcome.NOT_STARTED, JobState.QUEUED),
        (Outcome.NOT_FOUND, JobState.QUEUED),
        (Outcome.CANCELLED, JobState.QUEUED),  # nobody asked for it: the host's own doing
    ],
)
def test_what_the_job_did_itself_ends_it_and_what_the_host_did_does_not(
    outcome: Outcome, state: JobState
) -> None:
    book = Book()
    job_id, claim_id = book.claim()
    book.all_of(claim_id, to_end(claim_id, outcome))
    assert book.job(job_id) is state


def test_a_job_is_cancelled_by_an_end_that_its_home_asked_for() -> None:
    book = Book()
    job_id, claim_id = book.claim()
    steps = to_end(claim_id, Outcome.CANCELLED)
    book.all_of(claim_id, steps[:3])
    book.say(HOME, Cancel(job_id=job_id))
    assert book.job(job_id) is JobState.CANCELLING
    book.all_of(claim_id, steps[3:])
    assert book.job(job_id) is JobState.CANCELLED
    entry, job = book.registers.claims[claim_id], book.registers.jobs[job_id]
    assert outcome_of(entry, job) is Outcome.CANCELLED


def test_a_cancel_after_the_end_does_not_excuse_the_host() -> None:
    book = Book()
    job_id, claim_id = book.claim()
    book.all_of(claim_id, to_end(claim_id, Outcome.CANCELLED))
    book.say(HOME, Cancel(job_id=job_id))
    entry, job = book.registers.claims[claim_id], book.registers.jobs[job_id]
    assert outcome_of(entry, job) is Outcome.PREEMPTED
    assert book.job(job_id) is JobState.CANCELLED


def test_a_job_fails_when_its_attempts_came_to_nothing_too_often() -> None:
    book = Book()
    job_id, claim_id = book.claim()
    book.all_of(claim_id, to_end(claim_id, Outcome.NODE_FAILURE))
    assert book.job(job_id) is JobState.QUEUED
    _, claim_id = book.claim(job_id)
    book.all_of(claim_id, to_end(claim_id, Outcome.NODE_FAILURE))
    assert book.job(job_id) is JobState.FAILED


def test_only_what_a_host_cut_short_for_its_own_sake_is_an_eviction() -> None:
    book = Book()
    book.registers.max_attempts = 9
    job_id, claim_id = book.claim()
    counts = []
    for outcome in (
        Outcome.PREEMPTED,
        Outcome.NODE_FAILURE,
        Outcome.NOT_STARTED,
        Outcome.CANCELLED,  # nobody had asked: the host wanted its nodes back
        Outcome.PREEMPTED,
    ):
        book.all_of(claim_id, to_end(claim_id, outcome))
        counts.append(book.registers.judge(book.registers.jobs[job_id]).evictions)
        _, claim_id = book.claim(job_id)
    assert counts == [1, 1, 1, 2, 3]


@pytest.mark.parametrize(
    "reason", ["policy", "denied", "unanswered", "constraint", "no-capacity", "expired"]
)
def test_only_a_decline_for_good_bars_a_pair(reason: str) -> None:
    book = Book()
    job_id, claim_id = book.claim()
    book.say(HOST, Close(claim_id=claim_id, reason=reason))
    verdict = book.registers.judge(book.registers.jobs[job_id])
    claim = book.registers.claims[claim_id].claim
    assert claim is not None
    barred = (claim.offer_id,) if reason in ("policy", "denied", "unanswered", "constraint") else ()
    assert verdict.declined == barred
    assert verdict.state is JobState.QUEUED


def test_a_proven_fork_suspends_its_author() -> None:
    book = Book()
    book.say(HOME, ForkProof(first=b"a", second=b"b"))
    assert book.registers.suspended == {OTHER}
