"""The matching agrees with its definition, and keeps its promises (design invariants 4 and 1)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.ids import OfferId
from p2pfed.core.matching import Matcher, MatchInput, match
from p2pfed.core.queue import Queue, QueuedJob
from tests.properties.matching_worlds import claimed, worlds
from tests.properties.naive_matching import naive_match


def decided(world: MatchInput) -> tuple[list[object], list[object]]:
    matching = match(world)
    return (
        [(p.job_id, p.offer_id) for p in matching.placements],
        list(matching.reservations),
    )


@settings(max_examples=1_500)
@given(worlds())
def test_every_placement_and_reservation_is_the_one_by_definition(world: MatchInput) -> None:
    """Invariant 4: same view, same matching."""
    assert decided(world) == naive_match(world)


@settings(max_examples=60)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_in_which_jobs_came_does_not_matter(world: MatchInput, rng: object) -> None:
    """Invariant 5, as the matching sees it: a queue is what it holds, however it came by it."""
    jobs = [job for home in world.queue.homes() for job in world.queue.in_order(home)]
    rng.shuffle(jobs)  # type: ignore[attr-defined]
    queue = Queue()
    for job in jobs:
        queue.put(job)
        if rng.random() < 0.3:  # type: ignore[attr-defined]
            queue.drop(job.job_id)
            queue.put(job)
    offers = dict(reversed(list(world.offers.items())))
    assert decided(replace(world, queue=queue, offers=offers)) == decided(world)


@settings(max_examples=100)
@given(worlds())
def test_nothing_is_placed_that_an_offer_does_not_have(world: MatchInput) -> None:
    """Invariant 1, the matching's part: no offer is ever given out twice."""
    taken: dict[OfferId, list[int]] = {}
    for job_id, offer_id, _ in match(world).placements:
        shape = world.queue[job_id].shape
        amounts = (shape.cores_per_node, shape.gpus_per_node, shape.memory_mib_per_node)
        before = taken.setdefault(offer_id, [0, 0, 0])
        taken[offer_id] = [a + shape.nodes * b for a, b in zip(before, amounts, strict=True)]
    for offer_id, total in taken.items():
        assert all(a <= b for a, b in zip(total, world.offers[offer_id].free[1:], strict=True))


@settings(max_examples=400)
@given(worlds(), st.lists(st.sampled_from((1, 10_000, 40_000, 60_000)), min_size=1, max_size=6))
def test_a_remembered_round_is_the_round_that_would_be_computed(
    world: MatchInput, steps_ms: list[int]
) -> None:
    """Time alone creates no placement before `valid_until_ms`."""
    matcher = Matcher()
    for _ in range(3):
        world = claimed(world)
    cut_ms = world.cut_ms
    for number, step_ms in enumerate([0, *steps_ms]):
        cut_ms += step_ms
        now = replace(world, round=world.round + number, cut_ms=cut_ms)
        remembered, computed = matcher.match(now), match(now)
        assert remembered.placements == computed.placements
        assert remembered.reservations == computed.reservations
        assert (remembered.round, remembered.cut_ms) == (now.round, now.cut_ms)


@settings(max_examples=100)
@given(worlds())
def test_within_a_home_the_order_is_the_same_at_every_cut(world: MatchInput) -> None:
    def standing(job: QueuedJob, cut_ms: int) -> tuple[int, object]:
        waited_ms = cut_ms - job.waiting_since_ms
        points = job.class_points * 3_600_000 + waited_ms * world.rules.urgency_points_per_hour
        return -points, job.job_id

    world.queue.set_urgency(world.rules.urgency_points_per_hour)
    for home in world.queue.homes():
        jobs = list(world.queue.in_order(home))
        for cut_ms in (world.cut_ms, world.cut_ms + 10**9):
            assert all(standing(a, cut_ms) < standing(b, cut_ms) for a, b in pairwise(jobs))
