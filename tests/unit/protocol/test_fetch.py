from __future__ import annotations

from p2pfed.core.ids import CentreName, FeedKey
from p2pfed.core.waiting import BlockRef, SeqRange
from p2pfed.protocol.fetch import Fetcher
from p2pfed.protocol.limits import (
    FEED_WINDOW_BLOCKS_MAX,
    FETCH_BLOCKS_MAX,
    FETCH_TIMEOUT_MS,
    LINK_WINDOW_BLOCKS_MAX,
    RELAY_MS,
    RUN_BLOCKS_MAX,
)
from tests.writers import some_id

ALPHA, BETA, GAMMA, DELTA = (CentreName(n) for n in ("alpha", "beta", "gamma", "delta"))
FEED_A, FEED_B, FEED_D = FeedKey(ALPHA, 0), FeedKey(BETA, 0), FeedKey(DELTA, 0)
LINK_B, LINK_C = 1, 2


def fetcher(*, linked_author: bool = False) -> Fetcher:
    """Linked to beta and gamma, and perhaps to delta."""
    found = Fetcher()
    found.set_centres([ALPHA, BETA, GAMMA, DELTA])
    found.link_ready(LINK_B, BETA, 0)
    found.link_ready(LINK_C, GAMMA, 0)
    if linked_author:
        found.link_ready(3, DELTA, 0)
    return found


def named(feed: FeedKey, seq_num: int) -> BlockRef:
    return BlockRef(feed, seq_num, some_id(f"{feed} {seq_num}"))


def come(
    found: Fetcher, link: int, feed: FeedKey, first: int, last: int, *, now_ms: int = 0
) -> None:
    refs = [named(feed, seq_num) for seq_num in range(first, last + 1)]
    found.came(link, [(ref, 300) for ref in refs], now_ms)


def admit(found: Fetcher, feed: FeedKey, first: int, last: int) -> None:
    for seq_num in range(first, last + 1):
        found.admitted(feed, seq_num)


def test_who_has_what_we_lack_is_asked_once() -> None:
    found = fetcher()
    found.heard(LINK_B, FEED_D, 4)
    found.heard(LINK_C, FEED_D, 4)
    assert found.plan(0) == [(LINK_B, (SeqRange(FEED_D, 0, 4),))]
    assert found.plan(0) == []


def test_what_we_hold_is_not_asked_for() -> None:
    found = fetcher()
    found.hold({FEED_D: 2})
    found.heard(LINK_B, FEED_D, 2)
    assert found.plan(0) == []
    found.heard(LINK_B, FEED_D, 3)
    assert found.plan(0) == [(LINK_B, (SeqRange(FEED_D, 3, 3),))]


def test_feeds_of_strangers_are_not_fetched_until_they_are_centres() -> None:
    found = fetcher()
    strange = FeedKey(CentreName("zeta"), 0)
    found.heard(LINK_B, strange, 0)
    assert found.plan(0) == []
    found.set_centres([ALPHA, BETA, GAMMA, DELTA, strange.centre])
    assert found.plan(0) == [(LINK_B, (SeqRange(strange, 0, 0),))]


def test_a_long_range_is_shared_out_and_stays_within_its_window() -> None:
    found = fetcher()
    found.heard(LINK_B, FEED_D, 10_000)
    found.heard(LINK_C, FEED_D, 10_000)
    plan = dict(found.plan(0))
    runs = sorted(r for ranges in plan.values() for r in ranges)
    assert set(plan) == {LINK_B, LINK_C}
    assert [r.from_seq for r in runs] == list(range(0, FEED_WINDOW_BLOCKS_MAX, RUN_BLOCKS_MAX))
    assert runs[-1].to_seq == FEED_WINDOW_BLOCKS_MAX - 1
    come(found, LINK_B, FEED_D, 0, RUN_BLOCKS_MAX - 1)
    assert found.plan(0) == [], "what came but is not admitted still fills the window"
    admit(found, FEED_D, 0, RUN_BLOCKS_MAX - 1)
    ((_, (more,)),) = found.plan(0)
    assert more.from_seq == FEED_WINDOW_BLOCKS_MAX


def test_of_many_feeds_each_gets_its_part_and_all_stay_within_the_budget() -> None:
    found = fetcher()
    found.set_centres([CentreName(f"c{n}") for n in range(500)])
    for number in range(500):
        for link in (LINK_B, LINK_C):
            found.heard(link, FeedKey(CentreName(f"c{number}"), 0), 999)
    asked = sum(r.to_seq - r.from_seq + 1 for _, ranges in found.plan(0) for r in ranges)
    assert 500 <= asked <= min(FETCH_BLOCKS_MAX, 2 * LINK_WINDOW_BLOCKS_MAX)


def test_a_new_block_is_left_to_its_linked_author_for_a_while() -> None:
    found = fetcher(linked_author=True)
    found.heard(LINK_B, FEED_D, 0)
    assert found.plan(1_000) == []
    assert found.wake_ms() == 1_000 + RELAY_MS
    assert found.plan(1_000 + RELAY_MS) == [(LINK_B, (SeqRange(FEED_D, 0, 0),))]


def test_as_long_as_the_author_keeps_sending_nobody_else_is_asked() -> None:
    found = fetcher(linked_author=True)
    found.heard(LINK_B, FEED_D, 9)
    for seq_num in range(9):
        now_ms = seq_num * RELAY_MS // 2
        assert found.plan(now_ms) == []
        come(found, 3, FEED_D, seq_num, seq_num, now_ms=now_ms)
        found.admitted(FEED_D, seq_num)
    assert found.plan(9 * RELAY_MS // 2) == []


def test_an_author_that_is_gone_is_not_waited_for_over_and_over() -> None:
    found = fetcher(linked_author=True)
    found.heard(LINK_B, FEED_D, 0)
    assert found.plan(1_000) == []
    found.link_gone(3)
    assert found.plan(1_001) == [(LINK_B, (SeqRange(FEED_D, 0, 0),))]
    assert found.wake_ms() == 1_001 + FETCH_TIMEOUT_MS


def test_what_the_author_told_at_the_start_anyone_may_give() -> None:
    found = fetcher(linked_author=True)
    found.heard(LINK_B, FEED_D, 5)
    found.heard(3, FEED_D, 3)
    assert found.plan(0) == [(LINK_B, (SeqRange(FEED_D, 0, 3),))]


def test_a_lost_link_gives_its_ranges_to_others() -> None:
    found = fetcher()
    found.heard(LINK_B, FEED_D, 4)
    found.heard(LINK_C, FEED_D, 4)
    found.plan(0)
    come(found, LINK_B, FEED_D, 0, 1)
    found.link_gone(LINK_B)
    assert found.plan(0) == [(LINK_C, (SeqRange(FEED_D, 2, 4),))]


def test_what_nobody_has_any_more_is_not_waited_for() -> None:
    found = fetcher()
    found.heard(LINK_B, FEED_D, 4)
    found.link_gone(LINK_B)
    assert found.plan(0) == []
    assert found.lacking_blocks() == 0


def test_a_late_range_is_asked_of_another_and_its_debtor_of_nothing_more() -> None:
    found = fetcher()
    found.heard(LINK_B, FEED_D, 4)
    found.plan(0)
    found.heard(LINK_C, FEED_D, 4)
    assert found.wake_ms() == FETCH_TIMEOUT_MS
    assert found.expire(FETCH_TIMEOUT_MS) == []
    assert found.plan(FETCH_TIMEOUT_MS) == [(LINK_C, (SeqRange(FEED_D, 0, 4),))]
    found.heard(LINK_B, FEED_B, 0)
    assert found.plan(FETCH_TIMEOUT_MS) == []
    come(found, LINK_B, FEED_D, 0, 4)
    assert found.plan(FETCH_TIMEOUT_MS) == [(LINK_B, (SeqRange(FEED_B, 0, 0),))]


def test_a_link_on_which_nothing_comes_is_given_up() -> None:
    found = fetcher()
    found.heard(LINK_B, FEED_D, 4)
    found.plan(0)
    found.expire(FETCH_TIMEOUT_MS)
    assert found.expire(2 * FETCH_TIMEOUT_MS) == [LINK_B]


def test_a_slow_link_is_kept_as_long_as_something_comes() -> None:
    found = fetcher()
    found.heard(LINK_B, FEED_D, 40)
    found.plan(0)
    for turn in range(1, 20):
        now_ms = turn * FETCH_TIMEOUT_MS
        come(found, LINK_B, FEED_D, turn, turn, now_ms=now_ms - 1)
        assert found.expire(now_ms) == []


def test_what_was_dropped_is_fetched_again() -> None:
    found = fetcher()
    found.heard(LINK_B, FEED_D, 4)
    found.plan(0)
    come(found, LINK_B, FEED_D, 0, 4)
    found.dropped([some_id(f"{FEED_D} 2")])
    assert found.plan(0) == [(LINK_B, (SeqRange(FEED_D, 2, 2),))]


def test_what_a_block_names_its_sender_has() -> None:
    found = fetcher()
    found.lacks([named(FEED_D, 5)], LINK_C)
    assert found.plan(0) == [(LINK_C, (SeqRange(FEED_D, 0, 5),))]


def test_another_block_at_a_place_that_we_hold_is_asked_of_who_named_it_once() -> None:
    found = fetcher()
    found.hold({FEED_D: 9})
    for _ in range(2):
        found.lacks([named(FEED_D, 7)], LINK_C)
    assert found.plan_named() == [(LINK_C, (named(FEED_D, 7),))]
    come(found, LINK_C, FEED_D, 7, 7)
    found.lacks([named(FEED_D, 7)], LINK_C)
    assert found.plan_named() == []


def test_what_came_with_the_same_bytes_is_not_asked_for() -> None:
    found = fetcher()
    come(found, LINK_C, FEED_D, 0, 0)
    found.admitted(FEED_D, 0)
    found.lacks([named(FEED_D, 0)], LINK_C)
    assert found.plan_named() == []


def test_of_a_forked_feed_only_named_blocks_are_fetched() -> None:
    found = fetcher()
    found.hold({FEED_D: 3})
    found.heard(LINK_B, FEED_D, 9)
    found.forked(FEED_D)
    assert found.plan(0) == []
    found.lacks([named(FEED_D, 8)], LINK_C)
    assert found.plan(0) == []
    assert found.plan_named() == [(LINK_C, (named(FEED_D, 8),))]


def test_what_did_not_come_is_asked_of_one_more_link_at_a_time() -> None:
    found = fetcher()
    found.forked(FEED_D)
    found.lacks([named(FEED_D, 8)], LINK_C)
    assert found.plan_named() == [(LINK_C, (named(FEED_D, 8),))]
    found.name_again([named(FEED_D, 8)])
    assert found.plan_named() == [(LINK_B, (named(FEED_D, 8),))]
    found.name_again([named(FEED_D, 8)])
    assert found.plan_named() == []


def test_people_see_how_much_is_lacking() -> None:
    found = fetcher()
    found.hold({FEED_D: 1})
    found.heard(LINK_B, FEED_D, 4)
    found.heard(LINK_C, FEED_A, 0)
    assert found.lacking_blocks() == 4
    assert (found.lacking_from(LINK_B), found.lacking_from(LINK_C)) == (3, 1)


def test_an_idle_fetcher_waits_for_nothing() -> None:
    assert fetcher().wake_ms() is None


def test_a_named_block_is_asked_for_even_if_a_rival_waits_at_its_place() -> None:
    found = fetcher()
    found.hold({FEED_D: 3})
    come(found, LINK_B, FEED_D, 5, 5)
    found.heard(LINK_C, FEED_D, 5)
    found.plan(0)
    admit(found, FEED_D, 4, 4)
    assert found.plan(0) == []
    found.lacks([named(FEED_D, 5)], LINK_C)
    assert found.plan_named() == [(LINK_C, (named(FEED_D, 5),))]
    come(found, LINK_C, FEED_D, 5, 5)
    admit(found, FEED_D, 5, 5)
    assert found.lacking_blocks() == 0
