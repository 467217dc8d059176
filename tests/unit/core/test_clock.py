"""Hybrid time always moves on; a clock is trusted while the peers' median agrees with it."""

from __future__ import annotations

import pytest

from p2pfed.core.clock import SAMPLE_AGE_MAX_MS, ClockWatch, next_time
from p2pfed.core.ids import CentreName
from p2pfed.core.units import HlcTime, hlc
from p2pfed.errors import StateError

NOW = 1_700_000_000_000
EPSILON = 5_000


def watch(*offsets: int, now_ms: int = NOW) -> ClockWatch:
    clock = ClockWatch(EPSILON)
    for number, offset in enumerate(offsets):
        peer = CentreName(f"peer-{number}")
        clock.measured(peer, offset_ms=offset, round_trip_ms=20, now_ms=now_ms)
    return clock


def test_the_time_follows_the_wall_clock() -> None:
    assert next_time(NOW, hlc(NOW - 1)) == hlc(NOW)


def test_the_time_moves_on_when_the_wall_clock_stands_or_goes_back() -> None:
    assert next_time(NOW, hlc(NOW, 6)) == hlc(NOW, 7)
    assert next_time(NOW - 1000, hlc(NOW)) == hlc(NOW, 1)


def test_a_full_counter_carries_into_the_milliseconds() -> None:
    assert next_time(NOW, hlc(NOW, 65535)) == hlc(NOW + 1)


@pytest.mark.parametrize("now_ms", [-1, 1 << 48])
def test_an_absurd_clock_gives_no_time(now_ms: int) -> None:
    with pytest.raises(StateError) as caught:
        next_time(now_ms, HlcTime(-2))
    assert caught.value.code == "clock-range"


def test_a_clock_without_peers_is_trusted() -> None:
    assert watch().trusted(NOW)


@pytest.mark.parametrize(
    ("offsets", "trusted"),
    [
        ([5_000], True),
        ([-5_000], True),
        ([5_001], False),
        ([-5_001], False),
        ([0, 90_000], True),
        ([90_000, 90_000], False),
        ([0, 0, 90_000, 90_000], True),
        ([0, 90_000, 90_000], False),
        ([-90_000, 90_000], True),
    ],
)
def test_the_median_of_all_clocks_ours_included_decides(offsets: list[int], trusted: bool) -> None:
    assert watch(*offsets).trusted(NOW) is trusted


def test_the_offset_is_the_median() -> None:
    assert watch(10, 30).offset_ms(NOW) == 10
    assert watch(10).offset_ms(NOW) == 5


def test_a_new_sample_replaces_the_old_one_of_the_same_peer() -> None:
    clock = watch(90_000)
    clock.measured(CentreName("peer-0"), offset_ms=3, round_trip_ms=1, now_ms=NOW)
    assert clock.trusted(NOW)
    assert clock.samples()[CentreName("peer-0")].offset_ms == 3


def test_a_sample_from_a_slow_round_trip_says_nothing() -> None:
    clock = watch()
    for round_trip_ms in (2 * EPSILON + 1, -1):
        clock.measured(
            CentreName("beta"), offset_ms=90_000, round_trip_ms=round_trip_ms, now_ms=NOW
        )
    assert clock.samples() == {}


def test_an_old_sample_no_longer_counts() -> None:
    clock = watch(90_000)
    assert not clock.trusted(NOW + SAMPLE_AGE_MAX_MS)
    assert clock.trusted(NOW + SAMPLE_AGE_MAX_MS + 1)


def test_a_peer_that_left_no_longer_counts() -> None:
    clock = watch(90_000)
    clock.forget(CentreName("peer-0"))
    assert clock.trusted(NOW)


def test_a_stepped_clock_is_not_trusted_until_a_peer_confirms_it() -> None:
    clock = watch(0)
    clock.stepped(3_600_000)
    assert not clock.trusted(NOW)
    assert not clock.trusted(NOW + 10 * SAMPLE_AGE_MAX_MS)
    clock.measured(CentreName("peer-0"), offset_ms=-3_600_000, round_trip_ms=20, now_ms=NOW)
    assert not clock.trusted(NOW)
    clock.stepped(-3_600_000)
    clock.measured(CentreName("peer-0"), offset_ms=0, round_trip_ms=20, now_ms=NOW)
    assert clock.trusted(NOW)


def test_a_step_of_nothing_is_no_step() -> None:
    clock = watch()
    clock.stepped(0)
    assert clock.trusted(NOW)
