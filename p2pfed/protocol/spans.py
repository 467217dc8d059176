"""Sets of whole numbers that come mostly in order, kept as spans.

What was sent over a link is mostly one unbroken run for each feed, so a set of a million numbers
costs two integers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Spans:
    """A set of integers as disjoint spans `first..last`, none touching the next."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, first: int, last: int) -> int:
        """Adds `first` to `last`, both included, and returns how many of them are new."""
        # The spans from `low` to `high` (excluded) touch the new one and become one with it.
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        known = 0
        joined_first, joined_last = first, last
        for at in range(low, high):
            overlap = min(last, self._lasts[at]) - max(first, self._firsts[at]) + 1
            known += max(0, overlap)
            joined_first = min(joined_first, self._firsts[at])
            joined_last = max(joined_last, self._lasts[at])
        self._firsts[low:high] = [joined_first]
        self._lasts[low:high] = [joined_last]
        return last - first + 1 - known

    @property
    def high(self) -> int:
        """The greatest member; -1 if there is none."""
        return self._lasts[-1] if self._lasts else -1

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def __len__(self) -> int:
        """How many spans there are, which is what the set costs."""
        return len(self._firsts)
