"""From jobs to curves: distributions of waits, and levels over time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from p2pfed.simulate.report.model import QUANTILES

Interval = tuple[int, int, int]
"""Beginning, end (excluded) and amount: processors in use or asked for meanwhile."""


def quantiles(values: Iterable[float]) -> tuple[float, ...]:
    """The `QUANTILES` + 1 values at equal steps from the least to the greatest; none of none."""
    ordered = sorted(values)
    if not ordered:
        return ()
    last = len(ordered) - 1
    return tuple(ordered[last * step // QUANTILES] for step in range(QUANTILES + 1))


def mean_levels(intervals: Iterable[Interval], length_s: int, steps: int) -> tuple[float, ...]:
    """The mean level over each of `steps` equal parts of `0 … length_s`, to a hundredth.

    Every interval adds its amount while it lasts; what lies outside counts for nothing. The cost
    grows with the intervals and the steps, not with their product.
    """
    step_s = step_of(length_s, steps)
    jumps = [0] * (steps + 2)  # what begins or ends to be there for whole steps
    parts = [0] * (steps + 1)  # amounts times seconds, within the steps where something changes
    limit = step_s * steps
    for begin, end, amount in intervals:
        begin, end = max(0, begin), min(end, limit)
        if begin >= end:
            continue
        for at, sign in ((begin, amount), (end, -amount)):
            step, into = divmod(at, step_s)
            parts[step] += sign * (step_s - into)
            jumps[step + 1] += sign
    whole = accumulate(jumps)
    return tuple(
        round((level * step_s + part) / step_s, 2)
        for level, part in zip(whole, parts[:steps], strict=False)
    )


def step_of(length_s: int, steps: int) -> int:
    """The length of one of `steps` equal steps that together cover `length_s`; at least 1."""
    return max(1, -(-length_s // steps))
