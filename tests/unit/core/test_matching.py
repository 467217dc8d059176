from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from p2pfed.core.accounting import Standing
from p2pfed.core.ids import CentreName
from p2pfed.core.matching import Matcher, Matching, MatchInput, Score, match
from p2pfed.core.rules import Rules
from tests.unit.core.federation_in_brief import (
    ALPHA,
    BETA,
    CUT_MS,
    GAMMA,
    RULES,
    SLACK_MS,
    a_round,
    job,
    offer,
)


def placed(matching: Matching) -> list[tuple[str, int, str, int]]:
    return [
        (p.job_id.centre, p.job_id.seq_num, p.offer_id.centre, p.offer_id.seq_num)
        for p in matching.placements
    ]


def jobs_placed(given: MatchInput) -> list[tuple[str, int]]:
    return [(home, number) for home, number, _, _ in placed(match(given))]


def test_a_job_goes_to_the_offer_that_has_least_left_over() -> None:
    offers = [offer(1, cores=8), offer(2, cores=3), offer(3, cores=2), offer(4, cores=1)]
    matching = match(a_round([job(0, cores_per_node=2)], offers))
    assert placed(matching) == [("alpha", 0, "beta", 3)]


def test_a_job_without_gpus_leaves_free_gpus_alone() -> None:
    offers = [offer(1, cores=2, gpus=1), offer(2, cores=64)]
    assert placed(match(a_round([job(0)], offers))) == [("alpha", 0, "beta", 2)]


def test_small_jobs_share_a_node() -> None:
    matching = match(a_round([job(n, cores_per_node=3) for n in range(3)], [offer(cores=8)]))
    assert len(matching.placements) == 2


def test_equal_offers_take_turns_from_round_to_round() -> None:
    offers = [offer(number) for number in range(4)]
    chosen = Counter(
        match(a_round([job(0)], offers, round_number=number)).placements[0].offer_id
        for number in range(200)
    )
    assert len(chosen) == 4
    assert min(chosen.values()) > 20


def test_each_placement_costs_its_home_at_once_so_that_none_sweeps_a_round() -> None:
    standings = {ALPHA: Standing(1_000, 0, 1_000), GAMMA: Standing(900, 0, 1_000)}
    jobs = [job(n, home) for n in range(4) for home in (ALPHA, GAMMA)]
    given = a_round(jobs, [offer(cores=4)], standings=standings)
    assert Counter(home for home, _ in jobs_placed(given)) == {"alpha": 2, "gamma": 2}
    assert jobs_placed(given)[0] == ("alpha", 0)


def test_a_placement_states_the_score_of_its_turn() -> None:
    rules = replace(RULES, balance_points=500)
    standings = {ALPHA: Standing(500, 0, 500)}
    jobs = [job(n, points=500, waited_s=7_200) for n in range(2)]
    first, second = match(a_round(jobs, [offer()], rules=rules, standings=standings)).placements
    assert first.score == Score(500, 200, 250)
    assert second.score == Score(500, 200, 181)  # (500 - 100) / (500 + 100 + 500)
    assert first.score.total == 950


def test_jobs_of_a_silent_home_and_offers_of_a_silent_host_do_not_count() -> None:
    jobs, offers = [job(0), job(0, GAMMA)], [offer()]
    assert jobs_placed(a_round(jobs, offers, alive=(ALPHA, BETA))) == [("alpha", 0)]
    assert jobs_placed(a_round(jobs, offers, alive=(ALPHA, GAMMA))) == []


def test_only_the_first_live_jobs_of_a_home_take_part() -> None:
    rules = replace(RULES, live_jobs_max=2)
    jobs = [job(n, waited_s=n) for n in range(4)]
    assert jobs_placed(a_round(jobs, [offer()], rules=rules)) == [("alpha", 3), ("alpha", 2)]


def test_a_job_that_fits_nowhere_holds_nobody_up() -> None:
    jobs = [job(0, waited_s=10**6, nodes=1_000), job(1, cores_per_node=2)]
    matching = match(a_round(jobs, [offer()]))
    assert placed(matching) == [("alpha", 1, "beta", 0)]
    assert matching.reservations == ()


def test_a_wide_job_gets_the_place_where_it_can_start_first() -> None:
    offers = [offer(1, used=[(5, 900)]), offer(2, used=[(2, 800), (2, 300)])]
    matching = match(a_round([job(0, cores_per_node=8)], offers))
    assert [(r.offer_id.seq_num, r.starts_ms - CUT_MS) for r in matching.reservations] == [
        (2, 800_000)
    ]


def test_a_job_passes_a_reservation_only_if_it_ends_before_or_leaves_room() -> None:
    slack_s = SLACK_MS // 1_000
    wide = job(0, points=1_000, cores_per_node=7)
    ends_in_time = job(1, cores_per_node=2, walltime_s=500 - slack_s)
    too_long = job(2, cores_per_node=2, walltime_s=501 - slack_s)
    leaves_room = job(3, cores_per_node=1, walltime_s=10_000)
    busy = offer(used=[(4, 500)])
    assert jobs_placed(a_round([wide, ends_in_time], [busy])) == [("alpha", 1)]
    assert jobs_placed(a_round([wide, too_long], [busy])) == []
    assert jobs_placed(a_round([wide, leaves_room], [busy])) == [("alpha", 3)]


def test_without_reservations_anything_that_fits_passes() -> None:
    rules = replace(RULES, reserve_depth=0)
    wide, long = job(0, points=1_000, cores_per_node=8), job(1, walltime_s=10_000)
    assert jobs_placed(a_round([wide, long], [offer(used=[(4, 500)])], rules=rules)) == [
        ("alpha", 1)
    ]


def test_an_offer_keeps_places_up_to_the_depth_of_the_rules() -> None:
    wides = [job(n, cores_per_node=4 + n) for n in range(3)]
    for depth in (1, 2, 3):
        given = a_round(
            wides, [offer(used=[(6, 500), (2, 900)])], rules=replace(RULES, reserve_depth=depth)
        )
        # A second job beside the first needs 4 + 5 cores, more than there are.
        assert len(match(given).reservations) == 1
    two = [job(0, cores_per_node=4), job(1, cores_per_node=4, walltime_s=99)]
    given = a_round(two, [offer(used=[(6, 500), (2, 900)])], rules=replace(RULES, reserve_depth=2))
    starts = [reservation.starts_ms - CUT_MS for reservation in match(given).reservations]
    assert starts == [500_000, 900_000]


def test_no_place_is_kept_for_a_job_that_would_end_outside_the_window() -> None:
    wide = job(0, cores_per_node=8, walltime_s=100)
    last_ms = CUT_MS + 500_000 + SLACK_MS + 100_000
    in_time, late = (
        offer(used=[(1, 500)], until_ms=last_ms),
        offer(used=[(1, 500)], until_ms=last_ms - 1),
    )
    assert len(match(a_round([wide], [in_time])).reservations) == 1
    assert match(a_round([wide], [late])).reservations == ()


def test_the_cap_of_a_centre_holds_within_a_round_too() -> None:
    jobs = [job(n, cores_per_node=2) for n in range(3)] + [job(0, GAMMA)]
    given = a_round(jobs, [offer(per_centre_cores=4)])
    assert sorted(jobs_placed(given)) == [("alpha", 0), ("alpha", 1), ("gamma", 0)]
    assert match(given).reservations == ()


def test_a_home_in_debt_gets_no_more_than_its_balance_allows() -> None:
    standings = {ALPHA: Standing(0, 0, 1_000)}
    given = a_round([job(n) for n in range(8)], [offer(min_balance=-200_000)], standings=standings)
    # Balances before each: 0, -90_909, -166_666, -230_769.
    assert len(match(given).placements) == 3


def test_no_job_starves_under_a_stream_of_higher_classes() -> None:
    """One core, and in every round a new urgent job: the low one's waiting time wins in the end."""
    rules = Rules(balance_points=0)
    low = job(0, points=0)
    for number in range(1, 5_000):
        cut_ms = CUT_MS + number * rules.round_ms
        newest = replace(job(number, GAMMA, points=1_000), waiting_since_ms=cut_ms)
        given = a_round([low, newest], [offer(cores=1)], rules=rules, cut_ms=cut_ms)
        if jobs_placed(given)[0] == ("alpha", 0):
            break
    assert number == 3_600  # 1 000 points at 100 an hour: ten hours of 360 rounds


def test_no_wide_job_starves_under_a_stream_of_narrow_ones() -> None:
    """While a wide job waits for its place, no narrow one is let in that would delay it."""
    wide = job(0, points=500, waited_s=60, cores_per_node=8)
    narrow = [job(n, GAMMA, cores_per_node=1, walltime_s=10_000) for n in range(20)]
    given = a_round([wide, *narrow], [offer(used=[(4, 500)])])
    assert jobs_placed(given) == []
    free = a_round([wide, *narrow], [offer()], cut_ms=CUT_MS + 500_000)
    assert jobs_placed(free) == [("alpha", 0)]


def test_a_round_in_which_nothing_changed_is_remembered() -> None:
    given = a_round([job(0, cores_per_node=8)], [offer(used=[(4, 500)])])
    matcher = Matcher()
    first = matcher.match(given)
    later = matcher.match(replace(given, round=2, cut_ms=CUT_MS + 10_000))
    assert later.reservations is first.reservations
    assert (later.round, later.cut_ms) == (2, CUT_MS + 10_000)


CHANGES = {
    "a job came": lambda given: given.queue.put(job(7)),
    "a job went": lambda given: given.queue.drop(job(0).job_id),
    "an offer came": lambda given: replace(
        given, offers={**given.offers, offer(5).offer_id: offer(5)}
    ),
    "an offer changed": lambda given: replace(given, offers={offer().offer_id: offer()}),
    "a host was lost": lambda given: replace(given, alive=(ALPHA, GAMMA)),
    "a standing moved": lambda given: replace(given, standings={ALPHA: Standing(1, 0, 1)}),
    "the rules changed": lambda given: replace(given, rules=replace(RULES, reserve_depth=0)),
    "the cut went back": lambda given: replace(given, cut_ms=given.cut_ms - 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_round_is_computed_anew_when(change: str) -> None:
    given = a_round([job(0, cores_per_node=8)], [offer(used=[(4, 500)])])
    matcher = Matcher()
    first = matcher.match(given)
    now = CHANGES[change](given) or given
    assert matcher.match(now) == match(now)
    assert matcher.match(now).reservations is not first.reservations


def test_an_empty_round_matches_nothing() -> None:
    assert match(a_round([], [])).placements == ()
    assert match(a_round([job(0)], [])).placements == ()
    assert match(a_round([], [offer()])).placements == ()


def test_a_centre_of_unknown_standing_starts_at_zero() -> None:
    stranger = CentreName("stranger")
    given = a_round([job(0, stranger)], [offer(min_balance=0)], alive=(stranger, BETA))
    assert match(given).placements[0].score.balance_points == 0
