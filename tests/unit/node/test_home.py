"""The home: it alone says where its job is, one place at a time, and what its usage counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfed.core.ids import ClaimId, JobId
from p2pfed.core.lifecycle import JobState, lease_until
from p2pfed.core.records import (
    Cancel,
    Claim,
    Close,
    Dispute,
    End,
    Handover,
    Job,
    Lost,
    Outcome,
    Receipt,
    Release,
    Start,
)
from p2pfed.errors import InputError
from p2pfed.node.effects import (
    AnswerTransfer,
    FetchResult,
    ForgetPayload,
    ForgetResult,
    Reply,
    SendCheckpoint,
    SendPayload,
    StoreBlocks,
)
from p2pfed.node.events import (
    CancelJob,
    ClockStepped,
    HandoverNamed,
    PayloadAsked,
    RequestId,
    ResultAsked,
    ResultFailed,
    ResultFetched,
    SubmitJob,
    TransferId,
)
from tests.unit.node.benches import BETA, GAMMA, JOB, OFFER, RULES, Bench, of_type

RESULT = b"r" * 32


def asked(bench: Bench, claim_id: ClaimId, centre: str = BETA) -> AnswerTransfer | None:
    """The answer to a host that asks for the payload of a claim; None if it must wait."""
    event = PayloadAsked(transfer=TransferId(7), centre=centre, claim_id=claim_id)  # type: ignore[arg-type]
    answers = of_type(bench.do(event), AnswerTransfer)
    return answers[0] if answers else None


def refused(bench: Bench, claim_id: ClaimId, centre: str = BETA) -> str:
    """The code with which a host that asks for the payload is turned away."""
    answer = asked(bench, claim_id, centre)
    assert answer is not None
    assert answer.block_id is None
    assert answer.error is not None
    return answer.error.code


def leased(bench: Bench) -> ClaimId:
    """A claim that beta accepted and came for."""
    claim_id = bench.claimed_by_alpha()
    bench.accept(claim_id)
    answer = asked(bench, claim_id)
    assert answer is not None
    assert answer.block_id == bench.newest().block_id
    return claim_id


def pass_rounds(bench: Bench) -> None:
    """Long enough for any match to become a claim; beta is heard all the while."""
    for _ in range(5):
        bench.wait(1_000)
        bench.hear(bench.say(bench.beta, knows=[bench.newest()]))


def job_state(bench: Bench, job_id: JobId | None = None) -> JobState:
    live = bench.node.ledger.live
    (entry,) = [j for j in live.jobs.values() if job_id in (None, j.job_id)]
    return live.judge(entry).state


# Posting


UNSENDABLE: dict[str, tuple[Job, str]] = {
    "names an unknown class": (replace(JOB, work_class="royal"), "job-class-unknown"),
    "names an unknown resource": (
        replace(JOB, resource_class="qpu"),
        "job-resource-class-unknown",
    ),
    "asks for too long a time": (replace(JOB, walltime_s=61), "job-walltime"),
    "lists its features in no order": (replace(JOB, features=("b", "a")), "record-field-value"),
    "asks for more nodes than can be written": (replace(JOB, nodes=1 << 25), "record-field-value"),
}


@pytest.mark.parametrize("phrase", UNSENDABLE)
def test_a_job_is_refused_and_nothing_written_that(phrase: str) -> None:
    job, code = UNSENDABLE[phrase]
    bench = Bench()
    (reply,) = of_type(bench.do(SubmitJob(request=RequestId(1), job=job)), Reply)
    assert isinstance(reply.error, InputError)
    assert reply.error.code == code
    assert not bench.written(Job)


def test_a_full_queue_is_full_at_once_and_has_room_again_when_jobs_leave_it() -> None:
    bench = Bench(rules=replace(RULES, live_jobs_max=3))

    def posted() -> str:
        (reply,) = of_type(bench.do(SubmitJob(request=RequestId(1), job=JOB)), Reply)
        return "" if reply.error is None else reply.error.code

    first = bench.submit()
    assert [posted() for _ in range(4)] == ["", "", "job-queue-full", "job-queue-full"]
    pass_rounds(bench)
    assert posted() == "job-queue-full"
    bench.do(CancelJob(request=RequestId(1), job_id=first))
    pass_rounds(bench)
    assert [posted() for _ in range(2)] == ["", "job-queue-full"]


def test_a_job_is_stored_with_its_local_row_before_its_user_is_told() -> None:
    bench = Bench()
    effects = bench.do(SubmitJob(request=RequestId(1), job=JOB, local=b"mine"))
    (store,) = of_type(effects, StoreBlocks)
    (reply,) = of_type(effects, Reply)
    assert effects.index(store) < effects.index(reply)
    assert store.local == ((f"job/{reply.result}", b"mine"),)


# Claiming and releasing


def test_a_job_has_one_claim_at_a_time_however_many_rounds_pass() -> None:
    bench = Bench()
    bench.claimed_by_alpha()
    for _ in range(3):
        bench.wait(1_000)
        bench.hear(bench.say(bench.beta, knows=[bench.newest()]))
    assert len(bench.written(Claim)) == 1


def test_a_claim_that_nobody_answers_is_released_and_the_job_waits_again() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    bench.wait(RULES.claim_wait_ms)
    (release,) = bench.written(Release)
    assert isinstance(release, Release)
    assert (release.claim_id, release.reason) == (claim_id, "expired")


def test_an_accept_without_end_does_not_hold_the_job_without_end() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    bench.accept(claim_id, until_ms=(1 << 48) - 1)
    bench.wait(RULES.claim_wait_ms + RULES.accept_wait_ms)
    assert [r.claim_id for r in bench.written(Release)] == [claim_id]  # type: ignore[union-attr]


def test_a_declined_job_never_meets_that_offer_again() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    bench.hear(bench.say(bench.beta, Close(claim_id=claim_id, reason="policy")))
    for _ in range(5):
        bench.wait(1_000)
        bench.hear(bench.say(bench.beta, knows=[bench.newest()]))
    assert len(bench.written(Claim)) == 1


def test_a_job_that_lost_a_race_is_claimed_anew() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    bench.hear(bench.say(bench.beta, Close(claim_id=claim_id, reason="no-capacity")))
    for _ in range(5):
        bench.wait(1_000)
        bench.hear(bench.say(bench.beta, knows=[bench.newest()]))
    assert len(bench.written(Claim)) == 2


def test_a_job_that_was_sent_away_often_enough_is_claimed_only_where_nobody_preempts() -> None:
    bench = Bench(rules=replace(RULES, evictions_max=2, max_attempts=9))
    bench.hear(bench.say(bench.beta, replace(OFFER, preemptible=True)))
    job_id = bench.submit()
    for number in range(2):
        pass_rounds(bench)
        claim = bench.written(Claim)[number]
        assert isinstance(claim, Claim)
        (claim_id,) = [
            c.claim_id for c in bench.node.ledger.live.claims.values() if c.claim == claim
        ]
        bench.accept(claim_id)
        assert asked(bench, claim_id) is not None
        bench.run_at_beta(claim_id, Outcome.PREEMPTED)
    assert job_state(bench, job_id) is JobState.QUEUED
    pass_rounds(bench)
    assert len(bench.written(Claim)) == 2

    stays = bench.say(bench.beta, OFFER)
    bench.hear(stays)
    pass_rounds(bench)
    claim = bench.written(Claim)[-1]
    assert isinstance(claim, Claim)
    assert claim.offer_id == stays.position(0)


# Handing over


def test_nothing_is_handed_over_before_the_host_asks() -> None:
    bench = Bench()
    bench.accept(bench.claimed_by_alpha())
    bench.wait(1_000)
    assert not bench.written(Handover)


def test_a_host_that_asks_before_its_accept_arrives_is_answered_when_it_does() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    assert asked(bench, claim_id) is None
    bench.effects.clear()
    bench.accept(claim_id)
    (answer,) = of_type(bench.effects, AnswerTransfer)
    assert answer.block_id == bench.newest().block_id


def test_asking_twice_gives_one_lease() -> None:
    bench = Bench()
    claim_id = leased(bench)
    again = asked(bench, claim_id)
    assert again is not None
    assert again.block_id is not None
    assert len(bench.written(Handover)) == 1


def test_the_lease_has_room_for_all_that_the_job_may_take() -> None:
    bench = Bench()
    leased(bench)
    (handover,) = bench.written(Handover)
    assert isinstance(handover, Handover)
    assert handover.lease_until_ms >= lease_until(bench.now_ms, JOB.walltime_s, RULES)


def test_no_payload_leaves_before_the_host_names_the_handover() -> None:
    bench = Bench()
    claim_id = leased(bench)
    assert not of_type(bench.effects, SendPayload)

    def name(block_id: bytes, centre: str = BETA) -> None:
        bench.do(
            HandoverNamed(
                transfer=TransferId(7),
                centre=centre,  # type: ignore[arg-type]
                claim_id=claim_id,
                block_id=block_id,  # type: ignore[arg-type]
            )
        )

    handover_id = bench.newest().block_id
    name(bytes(32))
    name(handover_id, GAMMA)
    assert not of_type(bench.effects, SendPayload)
    name(handover_id)
    assert len(of_type(bench.effects, SendPayload)) == 1


def test_a_payload_is_refused_to_whoever_has_no_right_to_it() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    assert refused(bench, claim_id, GAMMA) == "transfer-claim-unknown"
    bench.accept(claim_id)
    assert refused(bench, claim_id, GAMMA) == "transfer-claim-unknown"
    assert not bench.written(Handover)


def test_a_host_that_closed_gets_no_lease() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    bench.accept(claim_id)
    bench.hear(bench.say(bench.beta, Close(claim_id=claim_id, reason="expired")))
    assert refused(bench, claim_id) == "transfer-not-accepted"


def test_a_host_that_started_without_a_lease_gets_none() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    bench.accept(claim_id)
    bench.hear(bench.say(bench.beta, Start(claim_id=claim_id, native_name="early")))
    assert refused(bench, claim_id) == "transfer-not-accepted"


def test_a_host_that_comes_too_late_gets_no_lease() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    bench.accept(claim_id, until_ms=bench.now_ms + RULES.clock_error_ms)
    assert refused(bench, claim_id) == "transfer-late"


def test_with_a_stepped_clock_nothing_is_handed_over_and_nothing_declared_lost() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    bench.accept(claim_id)
    bench.do(ClockStepped(by_ms=5_000))
    answer = asked(bench, claim_id)
    assert answer is not None
    assert answer.retry
    assert not bench.written(Handover)


# Losing


def test_a_lease_is_lost_at_its_end_and_never_before() -> None:
    bench = Bench()
    leased(bench)
    (handover,) = bench.written(Handover)
    assert isinstance(handover, Handover)
    bench.wait(handover.lease_until_ms - bench.now_ms - 1)
    assert not bench.written(Lost)
    bench.wait(1)
    assert len(bench.written(Lost)) == 1


def test_with_a_stepped_clock_a_lease_is_not_lost() -> None:
    bench = Bench()
    leased(bench)
    bench.do(ClockStepped(by_ms=60_000))
    bench.wait(60_000)
    assert not bench.written(Lost)


def test_a_late_end_of_a_lost_claim_is_receipted_and_does_not_end_the_job() -> None:
    bench = Bench()
    claim_id = leased(bench)
    bench.wait(20_000)
    assert len(bench.written(Lost)) == 1
    bench.run_at_beta(claim_id, Outcome.COMPLETED)
    assert len(bench.written(Receipt)) == 1
    assert job_state(bench) is not JobState.COMPLETED


# Ending


def test_a_job_is_complete_when_its_result_is_here_and_its_usage_countersigned() -> None:
    bench = Bench()
    claim_id = leased(bench)
    bench.run_at_beta(claim_id, Outcome.COMPLETED, result=RESULT)
    (fetch,) = of_type(bench.effects, FetchResult)
    assert fetch.result_digest == RESULT
    assert job_state(bench) is JobState.ENDED
    bench.do(ResultFetched(claim_id=claim_id))
    (receipt,) = bench.written(Receipt)
    assert isinstance(receipt, Receipt)
    assert receipt.core_s == 4
    assert job_state(bench) is JobState.COMPLETED


def test_a_result_that_is_gone_does_not_hold_the_receipt_up() -> None:
    bench = Bench()
    claim_id = leased(bench)
    bench.run_at_beta(claim_id, Outcome.COMPLETED, result=RESULT)
    bench.do(ResultFailed(claim_id=claim_id, why="gone", final=True))
    assert len(bench.written(Receipt)) == 1


def test_a_job_that_its_host_cut_short_waits_again_at_once() -> None:
    bench = Bench()
    claim_id = leased(bench)
    bench.run_at_beta(claim_id, Outcome.PREEMPTED)
    assert len(bench.written(Receipt)) == 1
    assert job_state(bench) is JobState.QUEUED


def test_what_a_job_saved_that_was_cut_short_comes_home_before_it_waits_again() -> None:
    bench = Bench()
    claim_id = leased(bench)
    bench.run_at_beta(claim_id, Outcome.PREEMPTED, result=RESULT)
    assert [fetch.result_digest for fetch in of_type(bench.effects, FetchResult)] == [RESULT]
    assert not bench.written(Receipt)
    bench.do(ResultFetched(claim_id=claim_id))
    assert len(bench.written(Receipt)) == 1
    assert job_state(bench) is JobState.QUEUED


def test_a_job_does_not_wait_long_for_what_it_saved() -> None:
    bench = Bench()
    bench.run_at_beta(leased(bench), Outcome.PREEMPTED, result=RESULT)
    bench.wait(RULES.fetch_ms)
    assert len(bench.written(Receipt)) == 1
    assert job_state(bench) is JobState.QUEUED


@pytest.mark.parametrize("outcome", [Outcome.PREEMPTED, Outcome.COMPLETED])
def test_what_an_attempt_saved_goes_when_a_later_ones_result_is_here(outcome: Outcome) -> None:
    bench = Bench()
    first = leased(bench)
    bench.run_at_beta(first, Outcome.PREEMPTED, result=RESULT)
    bench.do(ResultFetched(claim_id=first))
    second = claimed_again(bench, first)
    bench.accept(second)
    asked(bench, second)
    bench.run_at_beta(second, outcome, result=RESULT)
    assert not of_type(bench.effects, ForgetResult)
    bench.do(ResultFetched(claim_id=second))
    assert [e.claim_id for e in of_type(bench.effects, ForgetResult)] == [first]


def test_what_an_attempt_saved_stays_while_it_is_all_that_is_here() -> None:
    bench = Bench()
    first = leased(bench)
    bench.run_at_beta(first, Outcome.PREEMPTED, result=RESULT)
    bench.do(ResultFetched(claim_id=first))
    second = claimed_again(bench, first)
    bench.accept(second)
    asked(bench, second)
    bench.run_at_beta(second, Outcome.NODE_FAILURE)
    bench.wait(RULES.fetch_ms)
    assert len(bench.written(Receipt)) == 2
    assert not of_type(bench.effects, ForgetResult)


def test_only_the_host_of_the_next_attempt_gets_what_a_job_saved() -> None:
    bench = Bench()
    first = leased(bench)
    bench.run_at_beta(first, Outcome.PREEMPTED, result=RESULT)
    bench.do(ResultFetched(claim_id=first))
    ask = ResultAsked(transfer=TransferId(9), centre=BETA, claim_id=first)
    (refusal,) = of_type(bench.do(ask), AnswerTransfer)
    assert refusal.error is not None and refusal.error.code == "transfer-no-result"
    second = claimed_again(bench, first)
    bench.accept(second)
    asked(bench, second)
    (effect,) = of_type(bench.do(ask), SendCheckpoint)
    assert effect.claim_id == first
    (refusal,) = of_type(bench.do(replace(ask, centre=GAMMA)), AnswerTransfer)
    assert refusal.error is not None


def claimed_again(bench: Bench, before: ClaimId) -> ClaimId:
    """Rounds go by until the job has another claim; returns that."""
    for _ in range(10):
        bench.wait(1_000)
        bench.hear(bench.say(bench.beta, knows=[bench.newest()]))
        newest = max(bench.node.ledger.live.claims)
        if newest.centre == before.centre and newest > before:
            return newest
    raise AssertionError("no second claim")


def test_an_end_that_states_more_than_its_lease_can_hold_is_disputed() -> None:
    bench = Bench()
    claim_id = leased(bench)
    bench.hear(bench.say(bench.beta, Start(claim_id=claim_id, native_name="n")))
    bench.wait(1_000)
    much = End(
        claim_id=claim_id,
        outcome=int(Outcome.COMPLETED),
        started_ms=bench.now_ms,
        ended_ms=bench.now_ms,
        core_s=10_000,
    )
    bench.hear(bench.say(bench.beta, much))
    (dispute,) = bench.written(Dispute)
    assert isinstance(dispute, Dispute)
    assert dispute.core_s <= 4 * JOB.walltime_s
    assert not bench.written(Receipt)


def test_a_host_cannot_cancel_a_job_that_its_home_did_not() -> None:
    bench = Bench()
    claim_id = leased(bench)
    bench.run_at_beta(claim_id, Outcome.CANCELLED)
    assert job_state(bench) is JobState.QUEUED


# Cancelling


def test_a_waiting_job_is_cancelled_at_once_and_its_payload_let_go() -> None:
    bench = Bench()
    job_id = bench.submit()
    bench.do(CancelJob(request=RequestId(9), job_id=job_id))
    assert job_state(bench) is JobState.CANCELLED
    assert [e.job_id for e in of_type(bench.effects, ForgetPayload)] == [job_id]


def test_a_claimed_or_accepted_job_is_cancelled_by_a_release() -> None:
    for is_accepted in (False, True):
        bench = Bench()
        claim_id = bench.claimed_by_alpha()
        if is_accepted:
            bench.accept(claim_id)
        job_id = next(iter(bench.node.ledger.live.jobs))
        bench.do(CancelJob(request=RequestId(9), job_id=job_id))
        assert [r.reason for r in bench.written(Release)] == ["cancelled"]  # type: ignore[union-attr]
        assert job_state(bench) is JobState.CANCELLED
        assert refused(bench, claim_id) == "transfer-cancelled"


def test_a_leased_job_stays_cancelling_until_its_host_closes() -> None:
    bench = Bench()
    claim_id = leased(bench)
    job_id = next(iter(bench.node.ledger.live.jobs))
    bench.do(CancelJob(request=RequestId(9), job_id=job_id))
    assert job_state(bench) is JobState.CANCELLING
    assert not of_type(bench.effects, ForgetPayload)
    bench.hear(bench.say(bench.beta, Close(claim_id=claim_id, reason="cancelled")))
    assert job_state(bench) is JobState.CANCELLED
    assert [e.job_id for e in of_type(bench.effects, ForgetPayload)] == [job_id]


def test_a_cancelled_job_that_ended_all_the_same_keeps_its_end() -> None:
    bench = Bench()
    claim_id = leased(bench)
    job_id = next(iter(bench.node.ledger.live.jobs))
    bench.do(CancelJob(request=RequestId(9), job_id=job_id))
    assert len(bench.written(Cancel)) == 1
    bench.run_at_beta(claim_id, Outcome.COMPLETED)
    assert job_state(bench) is JobState.COMPLETED


def test_a_payload_is_kept_while_another_attempt_may_need_it() -> None:
    bench = Bench()
    claim_id = leased(bench)
    bench.run_at_beta(claim_id, Outcome.NODE_FAILURE)
    assert not of_type(bench.effects, ForgetPayload)
