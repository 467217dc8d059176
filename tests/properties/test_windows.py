"""Time windows, against the definition: what the wall clock reads at every moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from p2pfed.shell.windows import Windows, parse_windows

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Changes at 01:00, 02:00 and midnight, of an hour and of half an hour, and none.
zones_st = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Havana",
        "America/Sao_Paulo",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
    ]
).map(ZoneInfo)
clock_st = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
days_st = st.one_of(
    st.sampled_from(DAYS),
    st.builds("{}-{}".format, st.sampled_from(DAYS), st.sampled_from(DAYS)),
    st.just("daily"),
    st.dates(date(2017, 1, 1), date(2018, 12, 31)).map(str),
)
window_st = st.one_of(
    days_st,
    st.tuples(days_st, clock_st, clock_st)
    .filter(lambda parts: parts[1] != parts[2])
    .map(lambda parts: f"{parts[0]} {parts[1]}-{parts[2]}"),
)
texts_st = st.lists(window_st, min_size=1, max_size=4)
# Within two years in which all of these zones still changed their clocks; whole minutes.
moments_st = st.integers(0, 2 * 365 * 1440).map(
    lambda minute: (int(datetime(2017, 1, 1, tzinfo=UTC).timestamp()) + minute * 60) * 1000
)
FAR_MS = 30 * 86_400_000


def reads_within(text: str, now_ms: int, zone: ZoneInfo) -> bool:
    """Whether the wall clock of this moment lies in the window, by the text alone."""
    wall = datetime.fromtimestamp(now_ms // 1000, zone).replace(tzinfo=None)
    days, _, times = text.partition(" ")
    begin, _, end = (times or "00:00-24:00").partition("-")
    for back in (0, 1):
        day = wall.date() - timedelta(days=back)
        at, until = (
            datetime(day.year, day.month, day.day)  # noqa: DTZ001
            + timedelta(hours=int(clock[:2]), minutes=int(clock[3:]))
            for clock in (begin, end)
        )
        until += timedelta(days=int(until <= at))
        if names(days, day) and at <= wall < until:
            return True
    return False


def names(days: str, day: date) -> bool:
    if days == "daily":
        return True
    if days[0].isdigit():
        return days == str(day)
    first, _, last = days.partition("-")
    low, high = DAYS.index(first), DAYS.index(last or first)
    return (day.weekday() - low) % 7 <= (high - low) % 7


def changes_soon(now_ms: int, zone: ZoneInfo) -> bool:
    """Whether the clock is changed within a day and a half of this moment."""
    around = range(-36, 37)
    moments = [datetime.fromtimestamp(now_ms // 1000 + h * 3600, zone) for h in around]
    return len({moment.utcoffset() for moment in moments}) > 1


@given(texts_st, zones_st, moments_st)
def test_what_is_open_reads_within_a_window(texts: list[str], zone: ZoneInfo, now_ms: int) -> None:
    if parse_windows(texts, zone).holds(now_ms):
        assert any(reads_within(text, now_ms, zone) for text in texts)


@given(texts_st, zones_st, moments_st)
def test_what_reads_within_a_window_is_open_unless_the_clock_is_changed(
    texts: list[str], zone: ZoneInfo, now_ms: int
) -> None:
    assume(not changes_soon(now_ms, zone))
    expected = any(reads_within(text, now_ms, zone) for text in texts)
    assert parse_windows(texts, zone).holds(now_ms) == expected


@given(texts_st, zones_st, moments_st, st.integers(0, 99))
def test_it_stays_open_until_its_end_and_not_beyond(
    texts: list[str], zone: ZoneInfo, now_ms: int, percent: int
) -> None:
    windows = parse_windows(texts, zone)
    if not windows.holds(now_ms):  # from its next opening on, else most cases would say nothing
        now_ms = windows.next_edge_ms(now_ms) or now_ms
    end_ms = windows.end_ms(now_ms, now_ms + FAR_MS)
    assume(end_ms is not None and end_ms <= now_ms + FAR_MS)
    assert end_ms is not None
    assert windows.holds(now_ms + (end_ms - 1 - now_ms) * percent // 100)
    assert windows.holds(end_ms - 1)
    assert not windows.holds(end_ms)


@given(texts_st, zones_st, moments_st, st.integers(0, 99))
@settings(max_examples=40)
def test_nothing_changes_before_the_next_edge(
    texts: list[str], zone: ZoneInfo, now_ms: int, percent: int
) -> None:
    windows = parse_windows(texts, zone)
    edge_ms = windows.next_edge_ms(now_ms)
    assume(edge_ms is not None)
    assert edge_ms is not None
    assert windows.holds(now_ms + (edge_ms - 1 - now_ms) * percent // 100) == windows.holds(now_ms)
    assert windows.holds(edge_ms) != windows.holds(now_ms)


@given(zones_st, moments_st)
def test_all_days_are_always(zone: ZoneInfo, now_ms: int) -> None:
    far_ms = now_ms + FAR_MS
    for windows in (Windows((), zone), parse_windows(["daily"], zone)):
        end_ms = windows.end_ms(now_ms, far_ms)
        assert end_ms is not None
        assert end_ms > far_ms
