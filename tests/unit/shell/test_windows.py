"""Time windows by example: nights, weekends, dates, and the nights on which clocks are changed."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from p2pfed.errors import InputError
from p2pfed.shell.windows import parse_window, parse_windows

BERLIN = ZoneInfo("Europe/Berlin")


def ms(text: str, fold: int = 0) -> int:
    """A moment by Berlin's wall clock; `fold` 1: the second time that it reads so."""
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()) * 1000


def span(text: str, begin_ms: int) -> float:
    """Hours that a window stays open from its begin on."""
    windows = parse_windows([text], BERLIN)
    assert not windows.holds(begin_ms - 1)
    end_ms = windows.end_ms(begin_ms, begin_ms + 10 * 86_400_000)
    assert end_ms is not None
    return (end_ms - begin_ms) / 3_600_000


def test_a_night_belongs_to_the_evening_it_begins_on() -> None:
    windows = parse_windows(["Mon-Fri 18:00-08:00"], BERLIN)
    assert windows.holds(ms("2026-11-28 07:59"))  # Saturday, of Friday's night
    assert not windows.holds(ms("2026-11-28 08:00"))
    assert not windows.holds(ms("2026-11-30 07:00"))  # Monday: Sunday has no night
    assert windows.next_edge_ms(ms("2026-11-28 08:00")) == ms("2026-11-30 18:00")


def test_windows_that_touch_are_one() -> None:
    windows = parse_windows(["Fri 18:00-24:00", "Sat-Sun", "Mon 00:00-08:00"], BERLIN)
    friday = ms("2026-11-27 20:00")
    assert windows.end_ms(friday, friday + 10**9) == ms("2026-11-30 08:00")
    assert windows.next_edge_ms(friday) == ms("2026-11-30 08:00")


def test_a_horizon_spares_the_search() -> None:
    windows = parse_windows(["daily"], BERLIN)
    now_ms = ms("2026-11-27 20:00")
    assert windows.end_ms(now_ms, now_ms + 10**9) == ms("2026-12-10 00:00")
    assert windows.next_edge_ms(now_ms) is None


def test_dates_stand_beside_weekdays() -> None:
    windows = parse_windows(["Sat-Sun", "2026-12-24..2026-12-26", "2027-01-01"], BERLIN)
    eve = ms("2026-12-24 00:00")
    assert windows.end_ms(eve, eve + 10**9) == ms("2026-12-28 00:00")
    assert windows.holds(ms("2027-01-01 12:00"))
    assert not windows.holds(ms("2026-12-31 12:00"))


def test_the_night_of_a_change_is_an_hour_shorter_or_longer() -> None:
    assert span("Sat 18:00-08:00", ms("2026-03-28 18:00")) == 13
    assert span("Sat 18:00-08:00", ms("2026-10-24 18:00")) == 15
    assert span("Sun", ms("2026-10-25 00:00")) == 25


def test_readings_that_come_twice_are_taken_so_that_nothing_outside_is_covered() -> None:
    # Clocks go from 03:00 back to 02:00 on 25 October 2026.
    assert span("Sun 02:30-06:00", ms("2026-10-25 02:30", fold=1)) == 3.5
    assert span("Sat 23:00-02:30", ms("2026-10-24 23:00")) == 3.5
    assert span("Sun 02:10-02:40", ms("2026-10-25 02:10")) == 0.5
    assert span("Sun 02:00-06:00", ms("2026-10-25 02:00")) == 5


def test_readings_that_are_left_out_stand_for_the_change() -> None:
    # Clocks go from 02:00 to 03:00 on 29 March 2026.
    assert span("Sat 23:00-02:30", ms("2026-03-28 23:00")) == 3
    assert span("Sun 02:30-06:00", ms("2026-03-29 03:00")) == 3
    assert not parse_windows(["Sun 02:10-02:40"], BERLIN).holds(ms("2026-03-29 03:00"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mon Tue 10:00-11:00",
        "Mo 10:00-11:00",
        "Mon-",
        "Mon 10-11",
        "Mon 25:00-26:00",
        "Mon 10:00-10:00",
        "Mon 10:00-24:30",
        "2026-02-30",
        "2026-12-26..2026-12-24",
        "Mon,,Tue",
    ],
)
def test_a_text_that_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_window(text)
    assert caught.value.code == "window-form"
