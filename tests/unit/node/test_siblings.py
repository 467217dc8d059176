"""A job that was made from a local job is handed over only while the local job is surely held."""

from __future__ import annotations

from p2pfed.core.ids import ClaimId, JobId
from p2pfed.core.records import Cancel, Handover, Outcome, Release
from p2pfed.node.effects import (
    AnswerTransfer,
    FreeSibling,
    Reply,
    SecureSibling,
    StoreBlocks,
)
from p2pfed.node.events import (
    PayloadAsked,
    RequestId,
    SiblingDone,
    SiblingSecured,
    SubmitJob,
    TransferId,
)
from tests.unit.node.benches import BETA, JOB, OFFER, Bench, of_type

SIBLING = b"slurm job 17"


def exported(bench: Bench) -> tuple[JobId, ClaimId]:
    """A job with a sibling, which beta has accepted."""
    bench.hear(bench.say(bench.beta, OFFER))
    effects = bench.do(SubmitJob(request=RequestId(1), job=JOB, sibling=SIBLING))
    assert all(reply.error is None for reply in of_type(effects, Reply))
    return accepted_again(bench)


def accepted_again(bench: Bench) -> tuple[JobId, ClaimId]:
    before = set(bench.node.ledger.live.claims)
    for _ in range(8):
        bench.wait(1_000)
        bench.hear(bench.say(bench.beta, knows=[bench.newest()]))
        new = sorted(set(bench.node.ledger.live.claims) - before)
        if new:
            bench.accept(new[0])
            job = bench.node.ledger.live.job_of(new[0])
            assert job is not None
            return job.job_id, new[0]
    raise AssertionError("alpha made no claim")


def ask(bench: Bench, claim_id: ClaimId, number: int = 1) -> list[AnswerTransfer]:
    event = PayloadAsked(transfer=TransferId(number), centre=BETA, claim_id=claim_id)
    return of_type(bench.do(event), AnswerTransfer)


def test_no_handover_is_written_before_the_sibling_is_held() -> None:
    bench = Bench()
    job_id, claim_id = exported(bench)
    assert not ask(bench, claim_id)
    assert [(e.job_id, e.claim_id) for e in of_type(bench.effects, SecureSibling)] == [
        (job_id, claim_id)
    ]
    assert not bench.written(Handover)
    effects = bench.do(SiblingSecured(claim_id=claim_id, held=True))
    assert len(bench.written(Handover)) == 1
    (answer,) = of_type(effects, AnswerTransfer)
    assert answer.block_id == bench.newest().block_id
    assert effects.index(of_type(effects, StoreBlocks)[0]) < effects.index(answer)


def test_two_who_ask_at_once_are_one_question_and_both_are_answered() -> None:
    bench = Bench()
    _, claim_id = exported(bench)
    ask(bench, claim_id, 1)
    ask(bench, claim_id, 2)
    assert len(of_type(bench.effects, SecureSibling)) == 1
    answers = of_type(bench.do(SiblingSecured(claim_id=claim_id, held=True)), AnswerTransfer)
    assert [a.transfer for a in answers] == [1, 2]
    assert len(bench.written(Handover)) == 1


def test_a_sibling_that_started_here_first_takes_the_claim_back() -> None:
    bench = Bench()
    job_id, claim_id = exported(bench)
    ask(bench, claim_id)
    answers = of_type(bench.do(SiblingSecured(claim_id=claim_id, held=False)), AnswerTransfer)
    assert [(a.block_id, a.retry) for a in answers] == [(None, False)]
    assert not bench.written(Handover)
    assert [r.reason for r in bench.written(Release)] == ["started-at-home"]  # type: ignore[union-attr]
    assert bench.written(Cancel) == [Cancel(job_id=job_id)]
    assert not ask(bench, claim_id)[0].block_id


def test_a_batch_system_that_can_not_be_asked_keeps_the_host_asking() -> None:
    bench = Bench()
    _, claim_id = exported(bench)
    ask(bench, claim_id)
    event = SiblingSecured(claim_id=claim_id, held=False, again=True)
    (answer,) = of_type(bench.do(event), AnswerTransfer)
    assert answer.retry
    assert not bench.written(Release, Cancel, Handover)
    ask(bench, claim_id)
    assert len(of_type(bench.effects, SecureSibling)) == 2


def test_a_sibling_is_freed_when_its_claim_came_to_nothing() -> None:
    bench = Bench()
    job_id, claim_id = exported(bench)
    ask(bench, claim_id)
    bench.do(SiblingSecured(claim_id=claim_id, held=True))
    assert not of_type(bench.effects, FreeSibling)
    bench.run_at_beta(claim_id, Outcome.PREEMPTED)
    assert [e.job_id for e in of_type(bench.effects, FreeSibling)] == [job_id]
    _, second = accepted_again(bench)
    ask(bench, second)
    assert len(of_type(bench.effects, SecureSibling)) == 2


def test_a_sibling_of_a_job_that_is_done_is_not_freed() -> None:
    bench = Bench()
    job_id, claim_id = exported(bench)
    ask(bench, claim_id)
    bench.do(SiblingSecured(claim_id=claim_id, held=True))
    bench.run_at_beta(claim_id, Outcome.COMPLETED)
    bench.restart()
    assert not of_type(bench.effects, FreeSibling)
    assert job_id in bench.node.home.siblings.known
    bench.do(SiblingDone(request=RequestId(2), job_id=job_id))
    bench.restart()
    assert not bench.node.home.siblings.known


def test_after_a_crash_between_hold_and_handover_the_sibling_is_freed() -> None:
    bench = Bench()
    job_id, claim_id = exported(bench)
    ask(bench, claim_id)
    bench.effects.clear()
    bench.restart()
    assert [e.job_id for e in of_type(bench.effects, FreeSibling)] == [job_id]
    ask(bench, claim_id)
    assert len(of_type(bench.effects, SecureSibling)) == 1
    assert not bench.written(Handover)


def test_after_a_crash_behind_the_handover_the_sibling_stays_held() -> None:
    bench = Bench()
    _, claim_id = exported(bench)
    ask(bench, claim_id)
    bench.do(SiblingSecured(claim_id=claim_id, held=True))
    bench.effects.clear()
    bench.restart()
    assert not of_type(bench.effects, FreeSibling)
    bench.run_at_beta(claim_id, Outcome.NODE_FAILURE)
    assert len(of_type(bench.effects, FreeSibling)) == 1


def test_an_answer_that_comes_after_the_claims_end_frees_the_sibling_again() -> None:
    bench = Bench()
    job_id, claim_id = exported(bench)
    ask(bench, claim_id)
    bench.wait(30_000)
    assert bench.claim_entry(claim_id).over
    bench.do(SiblingSecured(claim_id=claim_id, held=True))
    assert [e.job_id for e in of_type(bench.effects, FreeSibling)] == [job_id]
    assert not bench.written(Handover)
