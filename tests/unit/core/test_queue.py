from __future__ import annotations

import random

import pytest

from p2pfed.core.queue import Corner, Key, Queue, QueuedJob, Shape, corner_of
from tests.unit.core.federation_in_brief import ALPHA, BETA, CUT_MS, job, shape


def ids(queue: Queue) -> list[int]:
    return [queued.job_id.seq_num for queued in queue.in_order(ALPHA)]


def queue_of(*jobs: QueuedJob) -> Queue:
    queue = Queue()
    for queued in jobs:
        queue.put(queued)
    return queue


def test_within_a_home_the_higher_class_comes_first() -> None:
    assert ids(queue_of(job(1, points=0), job(2, points=1_000), job(3, points=500))) == [2, 3, 1]


def test_an_hour_of_waiting_outweighs_a_hundred_points() -> None:
    an_hour, more = job(1, points=400, waited_s=3_600), job(2, points=400, waited_s=3_601)
    assert ids(queue_of(job(0, points=500), an_hour)) == [0, 1]  # a tie: the lesser id
    assert ids(queue_of(job(0, points=500), more)) == [2, 0]


def test_a_millisecond_of_waiting_counts() -> None:
    later = job(1, waited_s=10)
    earlier = job(2, waited_s=10)
    object.__setattr__(earlier, "waiting_since_ms", later.waiting_since_ms - 1)
    assert ids(queue_of(later, earlier)) == [2, 1]


def test_putting_the_same_job_again_changes_nothing() -> None:
    queue = queue_of(job(1), job(2))
    before = queue.changes
    queue.put(job(1))
    assert (queue.changes, len(queue)) == (before, 2)


def test_putting_a_changed_job_replaces_it() -> None:
    queue = queue_of(job(1, points=500), job(2, points=500))
    queue.put(job(2, points=1_000, cores_per_node=4))
    assert ids(queue) == [2, 1]
    assert queue[job(2).job_id].shape.cores_per_node == 4


def test_dropping_an_absent_job_changes_nothing() -> None:
    queue = queue_of(job(1))
    before = queue.changes
    queue.drop(job(2).job_id)
    assert (queue.changes, len(queue)) == (before, 1)


def test_a_home_without_jobs_is_not_listed() -> None:
    queue = queue_of(job(1), job(1, BETA))
    queue.drop(job(1, BETA).job_id)
    assert queue.homes() == (ALPHA,)
    assert (queue.count(ALPHA), queue.count(BETA)) == (1, 0)


def test_another_weight_of_waiting_reorders_the_queue() -> None:
    queue = queue_of(job(1, points=500), job(2, points=0, waited_s=3_600))
    assert ids(queue) == [1, 2]
    queue.set_urgency(1_000)
    assert ids(queue) == [2, 1]


def test_a_cell_holds_requirements_that_are_alike() -> None:
    wide = shape(nodes=3, cores_per_node=5, memory_mib_per_node=0, walltime_s=1_000)
    assert corner_of(wide) == Corner("cpu", 8, 0, 0, 256)


@pytest.mark.parametrize("seed", range(5))
def test_heads_are_the_first_of_every_shape_after_any_puts_and_drops(seed: int) -> None:
    rng = random.Random(seed)
    queue = Queue()
    for _ in range(600):
        number = rng.randrange(40)
        if rng.random() < 0.4:
            queue.drop(job(number).job_id)
        else:
            cores, waited_s = rng.choice((1, 2, 3)), rng.randrange(50)
            queue.put(job(number, cores_per_node=cores, waited_s=waited_s))
    jobs = list(queue.in_order(ALPHA))
    firsts: dict[Shape, Key] = {}
    for queued in jobs:
        firsts.setdefault(queued.shape, queue.key(queued))
    heads = [key for cell in queue.cells(ALPHA) for key in cell.heads]
    assert sorted(heads) == sorted(firsts.values())
    for queued in jobs:
        assert corner_of(queued.shape) in {cell.corner for cell in queue.cells(ALPHA)}
        assert queue.key(queued) in queue.members(queued.shape)
    assert len(jobs) == len(queue)
    assert len(jobs) == sum([len(queue.members(first)) for first in firsts])
    assert all(queued.waiting_since_ms <= CUT_MS for queued in jobs)
