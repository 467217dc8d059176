"""The home's last word on a job: when it is said, and what it waits for."""

from __future__ import annotations

from dataclasses import replace

from p2pfed.core.ids import JobId
from p2pfed.core.lifecycle import JobState
from p2pfed.core.records import Done, Lost, Outcome, Receipt
from p2pfed.node.events import CancelJob, RequestId
from tests.unit.node.benches import RULES, Bench
from tests.unit.node.test_home import job_state, leased


def test_the_last_word_stands_in_the_block_of_the_last_receipt() -> None:
    bench = Bench()
    claim_id = leased(bench)
    job_id = next(iter(bench.node.ledger.live.jobs))
    bench.run_at_beta(claim_id, Outcome.COMPLETED)
    (block,) = [b for b in bench.blocks() if any(isinstance(r, Done) for r in b.records)]
    assert [type(record) for record in block.records] == [Receipt, Done]
    assert bench.written(Done) == [Done(job_id=job_id)]
    bench.restart()
    bench.wait(1_000)
    assert len(bench.written(Done)) == 1


def test_no_last_word_on_a_job_that_goes_back_to_the_queue() -> None:
    bench = Bench()
    bench.run_at_beta(leased(bench), Outcome.PREEMPTED)
    assert not bench.written(Done)


def test_no_last_word_while_a_lost_claim_may_still_end() -> None:
    """Its usage would stand as the host states it, and the home could not dispute it."""
    bench = Bench()
    claim_id = leased(bench)
    job_id = next(iter(bench.node.ledger.live.jobs))
    bench.wait(20_000)
    assert bench.written(Lost)
    bench.do(CancelJob(request=RequestId(9), job_id=job_id))
    assert job_state(bench) is JobState.CANCELLED
    assert not bench.written(Done)
    bench.run_at_beta(claim_id, Outcome.COMPLETED)
    assert bench.written(Receipt, Done)[-1] == Done(job_id=job_id)


def test_a_job_that_is_over_leaves_the_state_at_the_next_cut_and_can_still_be_looked_at() -> None:
    bench = Bench()
    claim_id = leased(bench)
    bench.run_at_beta(claim_id, Outcome.COMPLETED)
    bench.wait(3_000)
    ledger = bench.node.ledger
    assert not ledger.view.state.registers.jobs
    assert job_state(bench) is JobState.COMPLETED
    assert ledger.live.claims[claim_id].settlement is not None
    bench.restart()
    bench.wait(3_000)
    assert job_state(bench) is JobState.COMPLETED


# The time to dispute


def ended_cleanly(bench: Bench) -> JobId:
    """A job of alpha that ran at beta and was countersigned."""
    claim_id = leased(bench)
    bench.run_at_beta(claim_id, Outcome.COMPLETED)
    entry = bench.node.ledger.live.job_of(claim_id)
    assert entry is not None
    return entry.job_id


def test_the_last_word_waits_for_the_time_in_which_the_rules_let_people_dispute() -> None:
    bench = Bench(rules=replace(RULES, objection_ms=50_000))
    job_id = ended_cleanly(bench)
    assert bench.written(Receipt) and not bench.written(Done)
    bench.wait(40_000)
    assert not bench.written(Done)
    bench.wait(20_000)
    assert bench.written(Done) == [Done(job_id=job_id)]


def test_of_too_many_finished_jobs_the_oldest_gets_its_last_word_early() -> None:
    bench = Bench(rules=replace(RULES, objection_ms=500_000, objections_max=2))
    first, second = ended_cleanly(bench), ended_cleanly(bench)
    assert not bench.written(Done)
    ended_cleanly(bench)
    assert bench.written(Done) == [Done(job_id=first)]
    bench.restart()
    ended_cleanly(bench)
    assert bench.written(Done) == [Done(job_id=first), Done(job_id=second)]
