from __future__ import annotations

from dataclasses import replace

from hypothesis import given as draw
from hypothesis import settings

from p2pfed.core.accounting import Standing
from p2pfed.core.matching import MatchInput, Score, match
from p2pfed.core.matching_explain import Explanation, explain
from tests.properties.matching_worlds import worlds
from tests.unit.core.federation_in_brief import (
    ALPHA,
    BETA,
    GAMMA,
    RULES,
    a_round,
    job,
    offer,
)


def explained(given: MatchInput, number: int = 0) -> Explanation:
    found = explain(given, match(given), job(number).job_id)
    assert found is not None
    return found


def test_a_job_that_does_not_wait_is_not_explained() -> None:
    given = a_round([job(0)], [])
    assert explain(given, match(given), job(1).job_id) is None


def test_a_waiting_job_is_told_its_rank_and_who_is_ahead() -> None:
    jobs = [job(0, waited_s=3_600), job(1, points=1_000), job(0, GAMMA, points=800), job(2)]
    found = explained(a_round(jobs, []))
    assert (found.home_rank, found.rank) == (2, 3)
    assert [(a.home, a.job_id.seq_num, a.score.total) for a in found.ahead] == [
        ("alpha", 1, 1_000),
        ("gamma", 0, 800),
    ]
    assert found.score == Score(500, 100, 0)


def test_balance_moves_the_jobs_of_other_homes_ahead() -> None:
    given = a_round(
        [job(0), job(0, GAMMA)],
        [],
        standings={GAMMA: Standing(1, 0, 999_999), ALPHA: Standing(0, 0, 1)},
    )
    assert explained(given).rank == 2  # one millionth of 500 points is enough


def test_every_offer_says_what_keeps_the_job_out() -> None:
    offers = [
        offer(1, deny=("alpha",), cores=1),
        offer(2, GAMMA),
        offer(3, used=[(7, 50)]),
        offer(4, ALPHA),
    ]
    found = explained(a_round([job(0, cores_per_node=2)], offers, alive=(ALPHA, BETA)))
    assert [(v.offer_id.seq_num, v.codes) for v in found.offers] == [
        (4, ("own-offer",)),
        (1, ("cores-per-node", "offer-deny", "no-cores")),
        (3, ("no-cores",)),
        (2, ("host-silent",)),
    ]
    assert found.reservation is not None
    assert found.reservation.offer_id == offers[2].offer_id


def test_capacity_that_is_kept_for_another_is_called_reserved() -> None:
    jobs = [job(1, points=1_000, cores_per_node=8), job(0, walltime_s=10_000)]
    found = explained(a_round(jobs, [offer(used=[(4, 500)])]))
    assert [v.codes for v in found.offers] == [("reserved",)]


def test_capacity_that_went_to_jobs_ahead_is_called_lacking() -> None:
    jobs = [job(1, points=1_000, cores_per_node=8), job(0)]
    assert [v.codes for v in explained(a_round(jobs, [offer()])).offers] == [("no-cores",)]


def test_a_placed_job_shows_its_placement() -> None:
    found = explained(a_round([job(0)], [offer()]))
    assert found.placement is not None
    assert found.placement.offer_id == offer().offer_id
    assert found.offers[0].codes == ()


def test_a_job_that_takes_no_part_is_told_why() -> None:
    rules = replace(RULES, live_jobs_max=1)
    given = a_round([job(0), job(1, waited_s=5)], [offer()], rules=rules, alive=(BETA,))
    found = explained(given)
    assert found.codes == ("home-silent", "beyond-live-jobs")
    assert found.offers[0].codes == ()


@settings(max_examples=150)
@draw(worlds(12))
def test_whoever_waits_is_given_a_reason_by_every_offer(given: MatchInput) -> None:
    matching = match(given)
    given.queue.set_urgency(given.rules.urgency_points_per_hour)
    kept = {reservation.offer_id for reservation in matching.reservations}
    ranks = []
    for home in given.queue.homes():
        for queued in given.queue.in_order(home):
            found = explain(given, matching, queued.job_id)
            assert found is not None
            if found.codes:
                assert found.placement is None
                continue
            ranks.append(found.rank)
            for verdict in found.offers:
                if found.placement is None:
                    assert verdict.codes
                assert "reserved" not in verdict.codes or verdict.offer_id in kept
    assert sorted(ranks) == list(range(1, len(ranks) + 1))
