"""Time windows as administrators write them: `Mon-Fri 18:00-08:00`, `Sat-Sun`, `2026-12-25`.

A window names days and, perhaps, times of day by the wall clock of one time zone. Several windows
together are open whenever one of them is. Each text is

    DAYS [HH:MM-HH:MM]

where DAYS are weekdays (`Mon`), ranges of them (`Mon-Fri`, `Sat-Mon`), `daily`, dates
(`2026-12-25`) and ranges of dates (`2026-12-24..2027-01-01`), joined by commas. The times belong to
the day on which they begin: `Fri 18:00-08:00` ends on Saturday morning. Without times the whole day
is meant; `24:00` is the end of the day.

When the clock is changed, a window never covers a moment whose wall clock lies outside of it: if a
reading comes twice, a window begins at the second and ends at the first of them; a reading that is
left out stands for the moment of the change. All is pure: the zone and the time are arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Final

from p2pfed.errors import InputError

DAYS_AHEAD_MAX: Final = 400
"""How far ahead the next change is sought."""

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIMES: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)\Z")
_DATES: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.\.(\d{4}-\d\d-\d\d))?\Z")
_WEEKDAYS: Final = re.compile(r"([a-z]{3})(?:-([a-z]{3}))?\Z")
_DAY_MINUTES: Final = 1440
_DAY: Final = timedelta(days=1)
_NONE: Final = timedelta()
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - readings are compared, not moments


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The days of one window, and its times on each of them.

    Attributes:
        weekdays: Monday is 0; ascending.
        dates: (first, last), both included.
        begin_min, end_min: minutes since the day's first midnight; an end of more than 1440 lies
            on the next day.
    """

    weekdays: tuple[int, ...]
    dates: tuple[tuple[date, date], ...]
    begin_min: int
    end_min: int

    def names(self, day: date) -> bool:
        """True if the window begins on this day."""
        dated = any(first <= day <= last for first, last in self.dates)
        return dated or day.weekday() in self.weekdays


@dataclass(frozen=True, slots=True)
class Windows:
    """Several windows in one time zone; none at all means always."""

    windows: tuple[Window, ...]
    zone: tzinfo

    def holds(self, now_ms: int) -> bool:
        """True if one of the windows is open."""
        return self.end_ms(now_ms, now_ms) is not None

    def end_ms(self, now_ms: int, horizon_ms: int) -> int | None:
        """When the time that is open now without a break ends; None if it is not open now.

        An end after `horizon_ms` is not sought: any time after it is returned then.
        """
        if not self.windows:
            return max(horizon_ms, now_ms) + 1
        end_ms = now_ms
        for begin, end in self._spans(now_ms):
            if begin > max(end_ms, now_ms):
                break
            if end > now_ms:
                end_ms = max(end_ms, end)
            if end_ms > horizon_ms and end_ms > now_ms:
                break
        return end_ms if end_ms > now_ms else None

    def next_edge_ms(self, now_ms: int) -> int | None:
        """When it is next closed, or opened; None if not within `DAYS_AHEAD_MAX`."""
        far_ms = now_ms + DAYS_AHEAD_MAX * 86_400_000
        end_ms = self.end_ms(now_ms, far_ms)
        if end_ms is not None:
            return end_ms if end_ms <= far_ms else None
        return next((begin for begin, _ in self._spans(now_ms) if begin > now_ms), None)

    def _spans(self, now_ms: int) -> Iterator[tuple[int, int]]:
        """All that begins from two days ago on, as (begin, end) in milliseconds, by day."""
        today = datetime.fromtimestamp(now_ms // 1000, self.zone).date()
        for ahead in range(-2, DAYS_AHEAD_MAX + 2):
            day = today + ahead * _DAY
            spans = (self._span(day, w) for w in self.windows if w.names(day))
            yield from sorted(span for span in spans if span is not None)

    def _span(self, day: date, window: Window) -> tuple[int, int] | None:
        begin = self._moments(day, window.begin_min)
        end = self._moments(day, window.end_min)
        # If both readings come twice, the first of each.
        begin_ms = begin[1] if begin[1] < end[0] else begin[0]
        return (begin_ms, end[0]) if begin_ms < end[0] else None

    def _moments(self, day: date, minutes: int) -> tuple[int, int]:
        """When the wall clock first comes to this reading, and since when it stays beyond it."""
        wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001
        first, last = (
            int((wall - _EPOCH - (self._at(wall, fold) or _NONE)).total_seconds()) * 1000
            for fold in (0, 1)
        )
        if first == last:
            return first, first
        change_ms = self._change_ms(min(first, last), max(first, last))
        if first > last:  # the reading is left out
            return change_ms, change_ms
        set_back = datetime.fromtimestamp(change_ms // 1000, self.zone).replace(tzinfo=None)
        return (first, first) if set_back >= wall else (first, last)

    def _change_ms(self, before_ms: int, after_ms: int) -> int:
        """The second at which the zone's offset changed, between two times."""
        old = self._offset(before_ms)
        low, high = before_ms // 1000, after_ms // 1000
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle * 1000) == old:
                low = middle
            else:
                high = middle
        return high * 1000

    def _at(self, wall: datetime, fold: int) -> timedelta | None:
        return wall.replace(tzinfo=self.zone, fold=fold).utcoffset()

    def _offset(self, at_ms: int) -> timedelta | None:
        return datetime.fromtimestamp(at_ms // 1000, self.zone).utcoffset()


def parse_windows(texts: Iterable[str], zone: tzinfo) -> Windows:
    """The windows that these texts state.

    Raises:
        InputError: `window-form`.
    """
    return Windows(tuple(parse_window(text) for text in texts), zone)


def parse_window(text: str) -> Window:
    """The window that one text states; letters may be of either case.

    Raises:
        InputError: `window-form`.
    """
    words = text.lower().split()
    if not 1 <= len(words) <= 2:
        raise _bad(text, "it is not days, a space, and times")
    weekdays: set[int] = set()
    dates: list[tuple[date, date]] = []
    for item in words[0].split(","):
        found = _DATES.match(item)
        if found:
            dates.append(_dates(text, found[1], found[2] or found[1]))
        else:
            weekdays.update(_weekdays(text, item))
    begin_min, end_min = _times(text, words[1]) if len(words) == 2 else (0, _DAY_MINUTES)
    return Window(
        weekdays=tuple(sorted(weekdays)),
        dates=tuple(sorted(dates)),
        begin_min=begin_min,
        end_min=end_min,
    )


def _dates(text: str, first: str, last: str) -> tuple[date, date]:
    try:
        begin, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        raise _bad(text, f"{first} or {last} is no date") from None
    if not date(1971, 1, 1) <= begin <= end <= date(2900, 1, 1):
        raise _bad(text, f"{last} is before {first}, or one of them out of range")
    return begin, end


def _weekdays(text: str, item: str) -> list[int]:
    if item == "daily":
        return list(range(7))
    found = _WEEKDAYS.match(item)
    if not found or any(name not in _DAYS for name in (found[1], found[2] or found[1])):
        raise _bad(text, f"{item!r} is no day")
    first, last = (_DAYS.index(name) for name in (found[1], found[2] or found[1]))
    return [(first + step) % 7 for step in range((last - first) % 7 + 1)]


def _times(text: str, times: str) -> tuple[int, int]:
    found = _TIMES.match(times)
    if not found:
        raise _bad(text, f"{times!r} is no span of time")
    begin, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if begin == end or end > _DAY_MINUTES:
        raise _bad(text, f"{times!r} is no span of time")
    return begin, end if end > begin else end + _DAY_MINUTES


def _bad(text: str, why: str) -> InputError:
    return InputError(
        "window-form",
        f"{text!r} is not a time window: {why}",
        remedy='write "Mon-Fri 18:00-08:00", "Sat-Sun", "daily 12:00-13:00" or "2026-12-25"',
    )
