"""The state at a cut: what waits, what is free, what counts; each a function of the blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfed.core.blocks import Block
from p2pfed.core.ids import CentreName, FeedKey, OfferId, Position
from p2pfed.core.posting import claimed_amount
from p2pfed.core.records import (
    Accept,
    Cancel,
    Claim,
    Close,
    Dispute,
    End,
    ForkProof,
    Handover,
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
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.units import HlcTime, hlc
from tests.writers import START_MS, Writer

HOME, HOST, OTHER = (CentreName(name) for name in ("home", "host", "other"))
RULES = Rules(
    heartbeat_ms=10_000,
    offer_lease_ms=60_000,
    receipt_deadline_ms=100_000,
    objection_ms=0,
)
OFFER = Offer(
    resource_class="cpu",
    nodes=2,
    cores_per_node=4,
    memory_mib_per_node=4_000,
    walltime_max_s=600,
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
RESOURCE = RULES.resource_class("cpu")
assert RESOURCE is not None
CLAIMED = claimed_amount(JOB, RESOURCE)


class Fold:
    """A state, and three centres that write into it a second apart."""

    def __init__(self, rules: Rules = RULES) -> None:
        lines = dict.fromkeys((HOME, HOST, OTHER), 10_000)
        self.state = State(rules, lines, self._convict)
        self.writers = {name: Writer(name) for name in (HOME, HOST, OTHER)}
        self.now_ms = START_MS

    def _convict(self, _proof: ForkProof) -> tuple[FeedKey, int]:
        return FeedKey(HOME, 0), 0

    def say(self, centre: CentreName, *records: Record, after_ms: int = 1_000) -> Block:
        """A block that acks the others' heads, folded."""
        self.now_ms += after_ms
        writer = self.writers[centre]
        acks = {
            other.feed: other.head
            for other in self.writers.values()
            if other is not writer and other.head is not None
        }
        block = writer.write(records=records, time=HlcTime(hlc(self.now_ms)), acks=acks)
        self.state.fold(block)
        return block

    def settle(self, after_ms: int = 0) -> None:
        """The cut moves to now, and so much further."""
        self.now_ms += after_ms
        self.state.settle(self.now_ms)

    def waiting(self) -> list[Position]:
        self.settle()
        return [job.job_id for job in self.state.queue.in_order(HOME)]

    def free_cores(self, offer_id: Position) -> int:
        return self.state.offers()[OfferId(offer_id)].free.cores

    def used(self) -> int:
        self.settle()
        counters = self.state.accounts.counters().items()
        return sum(counter.consumed for key, counter in counters if key.writer == HOME)

    def matched(self) -> tuple[Position, Position, Position]:
        """Offer, job and claim, witnessed by all."""
        offer_id = self.say(HOST, OFFER).position(0)
        job_id = self.say(HOME, JOB).position(0)
        self.say(OTHER)
        claim = Claim(
            job_id=job_id,
            offer_id=offer_id,
            attempt=1,
            round=1,
            rules_version=1,
            view_digest=bytes(32),
            claim_until_ms=self.now_ms + 30_000,
        )
        return offer_id, job_id, self.say(HOME, claim).position(0)

    def ended(self, outcome: Outcome = Outcome.COMPLETED, core_s: int = 100) -> Position:
        """A claim whose native job is over, not settled."""
        _, _, claim_id = self.matched()
        self.say(HOST, Accept(claim_id=claim_id, accept_until_ms=self.now_ms + 60_000))
        self.say(HOME, Handover(claim_id=claim_id, lease_until_ms=self.now_ms + 600_000))
        self.say(HOST, Start(claim_id=claim_id, native_name="n"))
        self.say(HOST, end(claim_id, outcome, core_s))
        return claim_id


def end(claim_id: Position, outcome: Outcome = Outcome.COMPLETED, core_s: int = 100) -> End:
    return End(
        claim_id=claim_id,
        outcome=int(outcome),
        started_ms=START_MS,
        ended_ms=START_MS,
        core_s=core_s,
    )


# Waiting


def test_a_job_waits_until_it_is_claimed_and_again_when_the_claim_came_to_nothing() -> None:
    fold = Fold()
    _, job_id, claim_id = fold.matched()
    assert fold.waiting() == []
    fold.say(HOST, Close(claim_id=claim_id, reason="no-capacity"))
    assert fold.waiting() == [job_id]
    fold.say(HOME, Cancel(job_id=job_id))
    assert fold.waiting() == []


def test_a_job_waits_from_when_it_was_posted_whatever_was_tried_since() -> None:
    fold = Fold()
    _, _, claim_id = fold.matched()
    fold.say(HOME, Release(claim_id=claim_id, reason="expired"))
    fold.settle()
    (queued,) = fold.state.queue.in_order(HOME)
    assert queued.waiting_since_ms == START_MS + 2_000


def test_a_job_that_nobody_acked_takes_no_part_until_somebody_does() -> None:
    fold = Fold()
    job_id = fold.say(HOME, JOB).position(0)
    assert fold.waiting() == [job_id]
    fold.settle(RULES.heartbeat_ms + 1)
    assert fold.waiting() == []
    fold.say(OTHER)
    assert fold.waiting() == [job_id]
    (queued,) = fold.state.queue.in_order(HOME)
    assert queued.waiting_since_ms == fold.now_ms - RULES.heartbeat_ms


def test_what_a_stranger_says_of_a_job_as_if_it_were_a_claim_does_not_hide_its_cancel() -> None:
    fold = Fold()
    job_id = fold.say(HOME, JOB).position(0)
    fold.say(OTHER, Accept(claim_id=job_id, accept_until_ms=1))
    assert fold.waiting() == [job_id]
    fold.say(HOME, Cancel(job_id=job_id))
    assert fold.waiting() == []


def test_jobs_of_classes_that_the_rules_do_not_know_are_never_matched() -> None:
    fold = Fold()
    fold.say(HOME, replace(JOB, work_class="royal"), replace(JOB, resource_class="qpu"))
    fold.say(OTHER)
    assert fold.waiting() == []


# What is free


def test_a_claim_holds_its_part_of_the_offer_from_the_claim_to_the_end() -> None:
    fold = Fold()
    offer_id, _, claim_id = fold.matched()
    assert fold.free_cores(offer_id) == 4
    fold.say(HOST, Accept(claim_id=claim_id, accept_until_ms=1))
    fold.say(HOME, Handover(claim_id=claim_id, lease_until_ms=1))
    fold.say(HOST, Start(claim_id=claim_id, native_name="n"))
    assert fold.free_cores(offer_id) == 4
    fold.say(HOST, end(claim_id))
    assert fold.free_cores(offer_id) == 8


@pytest.mark.parametrize("record", [Release, Close, Lost])
def test_a_claim_that_came_to_nothing_gives_its_part_back(record: type[Record]) -> None:
    fold = Fold()
    offer_id, _, claim_id = fold.matched()
    if record is Release:
        fold.say(HOME, Release(claim_id=claim_id, reason="expired"))
    elif record is Close:
        fold.say(HOST, Close(claim_id=claim_id, reason="expired"))
    else:
        fold.say(HOME, Handover(claim_id=claim_id, lease_until_ms=1))
        fold.say(HOME, Lost(claim_id=claim_id))
    assert fold.free_cores(offer_id) == 8


def test_an_offer_that_shrank_below_what_is_held_has_less_than_nothing_free() -> None:
    fold = Fold()
    offer_id, _, _ = fold.matched()
    fold.say(HOST, OfferUpdate(offer_id=offer_id, nodes=0, walltime_max_s=600))
    assert fold.free_cores(offer_id) == -4


def test_a_closed_offer_is_offered_to_nobody() -> None:
    fold = Fold()
    offer_id, _, _ = fold.matched()
    fold.say(HOST, OfferClose(offer_id=offer_id))
    assert OfferId(offer_id) not in fold.state.offers()


def test_a_centre_that_is_not_heard_takes_no_part() -> None:
    fold = Fold()
    for centre in (HOME, HOST, OTHER):
        fold.say(centre)
    assert fold.state.alive(fold.now_ms) == {HOME, HOST, OTHER}
    fold.say(OTHER, after_ms=RULES.offer_lease_ms)
    assert fold.state.alive(fold.now_ms) == {OTHER}


def test_a_centre_that_is_convicted_of_a_fork_takes_no_part_and_the_others_do() -> None:
    fold = Fold()
    for centre in (HOME, HOST):
        fold.say(centre)
    fold.say(OTHER, ForkProof(first=b"a", second=b"b"))
    assert fold.state.alive(fold.now_ms) == {HOST, OTHER}


def test_nothing_counts_of_an_epoch_that_nobody_voted() -> None:
    fold = Fold()
    block = Writer(HOME, 1).write(records=[JOB])
    assert len(fold.state.fold(block)) == 1
    assert fold.state.inert_count == 1
    assert HOME not in fold.state.heard
    assert fold.waiting() == []


# What counts


def test_what_is_committed_counts_until_the_end_is_settled() -> None:
    fold = Fold()
    claim_id = fold.ended()
    assert fold.state.committed(HOME) == CLAIMED
    fold.say(HOME, Receipt(claim_id=claim_id, core_s=100))
    assert fold.state.committed(HOME) == 0


def test_usage_counts_when_it_is_countersigned() -> None:
    fold = Fold()
    claim_id = fold.ended()
    assert fold.used() == 0
    fold.say(HOME, Receipt(claim_id=claim_id, core_s=100))
    assert fold.used() == 100


def test_silence_is_no_escape() -> None:
    fold = Fold()
    fold.ended()
    fold.settle(RULES.receipt_deadline_ms - 1)
    assert fold.used() == 0
    fold.settle(1)
    assert fold.used() == 100


def test_in_dispute_the_lesser_counts() -> None:
    fold = Fold()
    claim_id = fold.ended()
    fold.say(HOME, Dispute(claim_id=claim_id, core_s=30, reason="less"))
    assert fold.used() == 30


@pytest.mark.parametrize("kind", [Receipt, Dispute])
def test_after_the_deadline_the_end_stands_whatever_the_home_says(kind: type[Record]) -> None:
    fold = Fold()
    claim_id = fold.ended()
    fold.settle(RULES.receipt_deadline_ms)
    fold.say(HOME, settlement(kind, claim_id))
    assert fold.used() == 100


@pytest.mark.parametrize("kind", [Receipt, Dispute])
def test_what_is_settled_before_it_ended_is_not_settled(kind: type[Record]) -> None:
    fold = Fold()
    _, _, claim_id = fold.matched()
    fold.say(HOME, settlement(kind, claim_id))
    fold.say(HOST, Accept(claim_id=claim_id, accept_until_ms=1))
    fold.say(HOME, Handover(claim_id=claim_id, lease_until_ms=1))
    fold.say(HOST, Start(claim_id=claim_id, native_name="n"))
    fold.say(HOST, end(claim_id))
    assert fold.used() == 0
    fold.settle(RULES.receipt_deadline_ms)
    assert fold.used() == 100


def settlement(kind: type[Record], claim_id: Position) -> Record:
    if kind is Receipt:
        return Receipt(claim_id=claim_id, core_s=0)
    return Dispute(claim_id=claim_id, core_s=0, reason="nothing ran")


def test_usage_never_counts_for_more_than_was_claimed() -> None:
    fold = Fold()
    claim_id = fold.ended(core_s=CLAIMED * 9)
    fold.say(HOME, Receipt(claim_id=claim_id, core_s=CLAIMED * 9))
    assert fold.used() == CLAIMED


@pytest.mark.parametrize(
    "outcome", [Outcome.PREEMPTED, Outcome.NODE_FAILURE, Outcome.NOT_FOUND, Outcome.CANCELLED]
)
def test_what_the_host_cut_short_is_not_charged(outcome: Outcome) -> None:
    fold = Fold()
    claim_id = fold.ended(outcome)
    fold.say(HOME, Receipt(claim_id=claim_id, core_s=100))
    assert fold.used() == 0


def test_what_the_home_cancelled_is_charged() -> None:
    fold = Fold()
    _, job_id, claim_id = fold.matched()
    fold.say(HOST, Accept(claim_id=claim_id, accept_until_ms=1))
    fold.say(HOME, Handover(claim_id=claim_id, lease_until_ms=1))
    fold.say(HOST, Start(claim_id=claim_id, native_name="n"))
    fold.say(HOME, Cancel(job_id=job_id))
    fold.say(HOST, end(claim_id, Outcome.CANCELLED))
    fold.say(HOME, Receipt(claim_id=claim_id, core_s=100))
    assert fold.used() == 100


def test_an_end_without_a_handover_counts_for_nothing() -> None:
    fold = Fold()
    _, _, claim_id = fold.matched()
    fold.say(HOST, Accept(claim_id=claim_id, accept_until_ms=1))
    fold.say(HOST, Start(claim_id=claim_id, native_name="n"), end(claim_id))
    fold.settle(RULES.receipt_deadline_ms * 2)
    assert fold.used() == 0


def test_an_open_offer_counts_only_while_its_host_is_heard() -> None:
    fold = Fold(replace(RULES, idle_rate_ppm=1_000_000))
    fold.say(HOST, OFFER)
    fold.say(HOST, after_ms=10_000)
    assert fold.state.standing(HOST, fold.now_ms).contribution == 80
    fold.say(HOST, after_ms=10 * RULES.offer_lease_ms)
    assert fold.state.standing(HOST, fold.now_ms).contribution == 80 + 8 * 60
