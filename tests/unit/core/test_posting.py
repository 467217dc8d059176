"""A home gains nothing by how it posts: neither by old times nor by fine classes."""

from __future__ import annotations

from dataclasses import replace

from p2pfed.core.ids import CentreName, FeedKey, JobId, Position
from p2pfed.core.posting import Shares, Witnesses, claimed_amount, points_of
from p2pfed.core.records import Job
from p2pfed.core.rules import ResourceClass, Rules
from p2pfed.core.units import day_of
from tests.writers import START_MS

FEED = FeedKey(CentreName("home"), 0)
BEAT_MS = 10_000
RULES = Rules()
JOB = Job(
    resource_class="cpu",
    nodes=2,
    cores_per_node=4,
    gpus_per_node=1,
    memory_mib_per_node=500,
    walltime_s=100,
    work_class="urgent",
    payload_digest=bytes(32),
    payload_bytes=10,
)
DAY_MS = 86_400_000


def job_id(seq_num: int) -> JobId:
    return JobId(Position(FEED.centre, 0, seq_num, 0))


def posted(*times_ms: int) -> Witnesses:
    """A feed with a job in each block, posted at these times."""
    witnesses = Witnesses(BEAT_MS)
    for seq_num, now_ms in enumerate(times_ms):
        witnesses.post(FEED, seq_num, now_ms, (job_id(seq_num),))
    return witnesses


def ack(witnesses: Witnesses, seq_num: int, ack_ms: int) -> list[JobId]:
    return [job for jobs in witnesses.ack(FEED, seq_num, ack_ms) for job in jobs]


def overdue(witnesses: Witnesses, cut_ms: int) -> list[JobId]:
    return [job for jobs in witnesses.overdue(cut_ms) for job in jobs]


def test_a_job_that_is_acked_soon_waits_from_its_own_time() -> None:
    witnesses = posted(START_MS)
    assert ack(witnesses, 0, START_MS + BEAT_MS - 1) == [job_id(0)]
    assert witnesses.since_ms(job_id(0)) == START_MS


def test_a_job_with_last_weeks_time_waits_only_from_a_beat_before_its_first_ack() -> None:
    witnesses = posted(START_MS - 7 * DAY_MS)
    ack(witnesses, 0, START_MS)
    assert witnesses.since_ms(job_id(0)) == START_MS - BEAT_MS


def test_an_ack_stands_for_all_blocks_before_it() -> None:
    witnesses = posted(0, 100_000, 200_000)
    assert set(ack(witnesses, 1, 150_000)) == {job_id(0), job_id(1)}


def test_the_earliest_ack_counts_in_whatever_order_they_come() -> None:
    acks = ((0, 60_000), (1, 90_000), (1, 70_000), (0, 95_000))
    one, other = posted(0, 10_000), posted(0, 10_000)
    for seq_num, ack_ms in acks:
        ack(one, seq_num, ack_ms)
    for seq_num, ack_ms in reversed(acks):
        ack(other, seq_num, ack_ms)
    for seq_num, since_ms in ((0, 50_000), (1, 60_000)):
        assert one.since_ms(job_id(seq_num)) == other.since_ms(job_id(seq_num)) == since_ms


def test_a_later_ack_changes_nothing() -> None:
    witnesses = posted(0)
    ack(witnesses, 0, 5_000)
    assert ack(witnesses, 0, 6_000) == []


def test_an_ack_of_an_unknown_feed_or_of_a_block_without_jobs_is_nothing() -> None:
    witnesses = posted(0)
    assert list(witnesses.ack(FeedKey(CentreName("other"), 0), 5, 1)) == []


def test_a_job_without_a_witness_is_overdue_after_a_beat_and_once() -> None:
    witnesses = posted(START_MS)
    assert overdue(witnesses, START_MS + BEAT_MS) == []
    assert overdue(witnesses, START_MS + BEAT_MS + 1) == [job_id(0)]
    assert overdue(witnesses, START_MS + 9 * BEAT_MS) == []
    assert witnesses.since_ms(job_id(0)) is None


# Shares


def test_a_class_without_a_share_takes_every_job() -> None:
    shares = Shares(RULES, {FEED.centre: 1})
    for _ in range(50):
        found = shares.classify(FEED, replace(JOB, work_class="normal"), START_MS)
        assert found is not None
        assert found.name == "normal"


def test_what_exceeds_the_share_of_a_class_counts_as_the_next_below() -> None:
    line = 10 * points_of(JOB, cpu())
    shares = Shares(RULES, {FEED.centre: line})
    names = [getattr(shares.classify(FEED, JOB, START_MS), "name", None) for _ in range(12)]
    assert names[0] == "urgent"
    assert set(names[1:10]) == {"normal"}


def test_a_new_day_has_a_new_share() -> None:
    shares = Shares(RULES, {FEED.centre: 10 * points_of(JOB, cpu())})
    shares.classify(FEED, JOB, START_MS)
    second = shares.classify(FEED, JOB, START_MS)
    tomorrow = shares.classify(FEED, JOB, START_MS + DAY_MS)
    assert day_of(START_MS + DAY_MS) == day_of(START_MS) + 1
    assert second is not None
    assert tomorrow is not None
    assert (second.name, tomorrow.name) == ("normal", "urgent")


def test_each_feed_has_its_own_share() -> None:
    other = FeedKey(CentreName("other"), 0)
    line = 10 * points_of(JOB, cpu())
    shares = Shares(RULES, {FEED.centre: line, other.centre: line})
    for feed in (FEED, other):
        found = shares.classify(feed, JOB, START_MS)
        assert found is not None
        assert found.name == "urgent"


def test_classes_that_the_rules_do_not_know_have_no_class() -> None:
    shares = Shares(RULES, {})
    assert shares.classify(FEED, replace(JOB, work_class="royal"), START_MS) is None
    assert shares.classify(FEED, replace(JOB, resource_class="qpu"), START_MS) is None


def test_a_job_is_worth_its_resources_for_its_walltime() -> None:
    gpu = RULES.resource_class("gpu")
    assert gpu is not None
    assert claimed_amount(JOB, cpu()) == 2 * 4 * 100
    assert claimed_amount(JOB, gpu) == 2 * 1 * 100
    assert points_of(JOB, gpu) == 2 * 100 * 50


def cpu() -> ResourceClass:
    found = RULES.resource_class("cpu")
    assert found is not None
    return found


def test_what_is_forgotten_takes_its_own_heartbeat_with_it() -> None:
    """Rules that changed the heartbeat must not change what a former block was judged by."""
    witnesses = Witnesses(BEAT_MS)
    witnesses.post(FEED, 0, START_MS, (job_id(0),))
    witnesses.heartbeat_ms = 2 * BEAT_MS
    witnesses.post(FEED, 1, START_MS, (job_id(1),))
    witnesses.forget(job_id(0))
    ack(witnesses, 1, START_MS + 5 * BEAT_MS)
    assert witnesses.since_ms(job_id(1)) == START_MS + 3 * BEAT_MS
