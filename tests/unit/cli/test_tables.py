"""Figures for people: short, rounded down, never misleading."""

from __future__ import annotations

import pytest

from p2pfed.cli.tables import print_table, show_balance, show_bytes, show_duration

DURATIONS = {
    None: "-",
    0: "0ms",
    999: "999ms",
    1000: "1s",
    59_999: "59s",
    60_000: "1m 00s",
    3_599_000: "59m 59s",
    3_600_000: "1h 00m",
    86_399_000: "23h 59m",
    86_400_000: "1d 00h",
    -1500: "-1s",
}
SIZES = {
    0: "0 B",
    1023: "1023 B",
    1024: "1.0 KiB",
    1536: "1.5 KiB",
    1 << 20: "1.0 MiB",
    5 << 40: "5.0 TiB",
    5000 << 40: "5000.0 TiB",
}


@pytest.mark.parametrize("ms", DURATIONS)
def test_a_duration_has_two_units_at_most(ms: int | None) -> None:
    assert show_duration(ms) == DURATIONS[ms]


@pytest.mark.parametrize("count", SIZES)
def test_a_size_has_the_unit_that_fits(count: int) -> None:
    assert show_bytes(count) == SIZES[count]


def test_a_balance_shows_its_sign() -> None:
    shown = [show_balance(ppm) for ppm in (250_000, 0, -1)]
    assert shown == ["+25.0000 %", "+0.0000 %", "-0.0001 %"]


def test_a_table_in_a_pipe_cuts_nothing_and_takes_no_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("A", "B>"), [("[red]" + "x" * 300, None)], empty="nothing")
    assert "[red]" + "x" * 300 in capsys.readouterr().out
    print_table(("A",), [], empty="nothing")
    assert capsys.readouterr().out == "nothing\n"
