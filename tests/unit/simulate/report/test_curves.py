"""Curves from jobs: levels over time against adding up second by second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.simulate.report.curves import Interval, mean_levels, quantiles, step_of
from p2pfed.simulate.report.model import QUANTILES

INTERVALS = st.lists(st.tuples(st.integers(-20, 120), st.integers(-20, 120), st.integers(1, 9)))


@given(INTERVALS, st.integers(0, 100), st.integers(1, 13))
def test_levels_are_what_adding_up_each_second_gives(
    intervals: list[Interval], length_s: int, steps: int
) -> None:
    step_s = step_of(length_s, steps)
    expected = [0.0] * steps
    for begin, end, amount in intervals:
        for second in range(max(0, begin), min(end, step_s * steps)):
            expected[second // step_s] += amount / step_s
    assert mean_levels(intervals, length_s, steps) == pytest.approx(expected, abs=0.006)


@given(st.integers(0, 10_000_000), st.integers(1, 500))
def test_steps_cover_the_whole_length(length_s: int, steps: int) -> None:
    step_s = step_of(length_s, steps)
    assert step_s >= 1
    assert step_s * steps >= length_s
    assert step_s == 1 or (step_s - 1) * steps < length_s


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_quantiles_ascend_from_the_least_to_the_greatest_and_are_values_that_occurred(
    values: list[float],
) -> None:
    found = quantiles(values)
    assert len(found) == QUANTILES + 1
    assert (found[0], found[-1]) == (min(values), max(values))
    assert list(found) == sorted(found)
    assert set(found) <= set(values)


def test_no_values_have_no_quantiles() -> None:
    assert quantiles([]) == ()
