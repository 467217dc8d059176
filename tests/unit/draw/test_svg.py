"""Scales, ticks and words of pictures."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.draw.svg import (
    Linear,
    Log,
    duration,
    duration_ticks,
    element,
    label,
    number,
    round_ticks,
    spread,
    time_ticks,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (12_000, "3 h 20 min"),
        (86_400, "1 d"),
        (190_800, "2 d 5 h"),
        (-90, "-1 min"),
    ],
)
def test_durations_are_told_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_coordinates_have_one_decimal_and_no_negative_zero() -> None:
    assert [number(v) for v in (1.0, 1.26, -0.01, 1e6)] == ["1", "1.3", "0", "1000000"]


def test_scales_meet_their_ends() -> None:
    linear, log = Linear(0, 10, 100, 200), Log(10, 1_000, 0, 90)
    assert [linear(v) for v in (0, 5, 10)] == [100, 150, 200]
    assert [log(v) for v in (0, 10, 100, 1_000, 5_000)] == pytest.approx([0, 0, 45, 90, 90])


def test_a_scale_without_extent_still_places_its_value() -> None:
    assert Linear(3, 3, 0, 100)(3) == 0


@given(st.floats(-1e6, 1e6), st.floats(0.001, 1e6), st.integers(2, 9))
def test_ticks_are_round_few_and_inside(low: float, extent: float, count: int) -> None:
    ticks = round_ticks(low, low + extent, count)
    slack = extent * 1e-6 + 1e-8
    assert len(ticks) <= count + 2
    assert all(low - slack <= tick <= low + extent + slack for tick in ticks)
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(
    ("length_s", "first", "last"),
    [
        (7_200, "hour 1", "hour 2"),
        (5 * 86_400, "day 1", "day 5"),
        (112 * 86_400, "week 1", "week 15"),
        (0, "hour 1", "hour 1"),
    ],
)
def test_time_is_counted_in_the_unit_that_fits(length_s: int, first: str, last: str) -> None:
    ticks = time_ticks(length_s)
    assert len(ticks) <= 9
    assert (ticks[0][1], ticks[-1][1]) == (first, last)


@pytest.mark.parametrize(("high_s", "unit"), [(30, "s"), (1_000, "min"), (20_000, "h"), (1e6, "d")])
def test_durations_on_an_axis_share_one_unit(high_s: float, unit: str) -> None:
    ticks = duration_ticks(high_s)
    assert list(ticks[0]) == [0, "0"]
    assert all(text.endswith(f" {unit}") for _, text in ticks[1:])


@given(st.lists(st.floats(0, 300), max_size=12))
def test_labels_keep_their_order_and_their_distance(wanted: list[float]) -> None:
    placed = spread(wanted, 16, 0, 300)
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    heights = [placed[index] for index in order]
    assert all(b - a >= 15.999 for a, b in itertools.pairwise(heights))
    assert all(-0.001 <= height <= 300.001 for height in heights)


def test_text_is_escaped() -> None:
    mark = label(0, 0, "<script>&\"'")
    assert ET.fromstring(mark).text == "<script>&\"'"
    assert ET.fromstring(element("a", href='"x"')).get("href") == '"x"'
