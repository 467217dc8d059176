"""The words of `p2pfed simulate`: what they mean, and which are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from p2pfed.cli.simulate_options import (
    Words,
    make_study,
    milliseconds,
    parse_sweep,
    parse_window,
    seconds,
)
from p2pfed.errors import InputError
from p2pfed.simulate.workload.trace import DAY_S, WEEK_S

TRACES = Path(__file__).parents[3] / "examples" / "traces"
ALPHA, BETA, GAMMA = (str(TRACES / name) for name in ("alpha.swf", "beta.swf", "gamma.sacct"))
HOUR_S = 3_600


def words(**changes: object) -> Words:
    base = Words(traces=(ALPHA, BETA))
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_a_centre_is_called_as_its_file_or_as_it_is_told() -> None:
    study = make_study(Words(traces=(ALPHA, f"north={BETA}", GAMMA), procs=("gamma=96",)))
    assert [trace.name for trace in study.traces] == ["alpha", "north", "gamma"]
    assert [trace.procs for trace in study.traces] == [64, 128, 96]


def test_a_file_name_becomes_a_centre_name(tmp_path: Path) -> None:
    odd = tmp_path / "2026_CTC SP2.cleaned.swf"
    odd.write_bytes(Path(ALPHA).read_bytes())
    assert make_study(Words(traces=(str(odd),))).traces[0].name == "centre-2026-ctc-sp2"


def test_one_trace_needs_no_name_for_its_processors() -> None:
    assert make_study(Words(traces=(GAMMA,), procs=("96",))).traces[0].procs == 96


def test_a_synthetic_centre_is_of_the_size_asked_for() -> None:
    (trace,) = make_study(Words(synthetic=("gamma=48:30:0.5",))).traces
    assert (trace.name, trace.procs, len(trace.jobs)) == ("gamma", 48, 30)


def test_a_value_holds_for_all_centres_but_those_with_one_of_their_own() -> None:
    study = make_study(words(share=("50%", "beta=0.2"), after_wait=("beta=10m",)))
    alpha, beta = (study.federation.of(name) for name in ("alpha", "beta"))
    assert (alpha.share, alpha.after_wait_s) == (0.5, 0)
    assert (beta.share, beta.after_wait_s) == (0.2, 600)


def test_preemptible_guests_take_the_template_of_that_name() -> None:
    policy = make_study(words(preemptible=True)).federation.policy
    assert (policy.preemptible, policy.long_share) == (True, 1.0)
    assert policy.to_shadow
    assert not make_study(words(all_idle=True)).federation.policy.to_shadow


def test_credit_and_debt_are_those_asked_for() -> None:
    usual = make_study(words()).federation
    assert (usual.credit_days, usual.policy.min_balance) == (0.25, None)
    asked = make_study(words(credit_days=2.0, min_balance=("-900000", "beta=0"))).federation
    assert asked.credit_days == 2
    assert [asked.of(name).min_balance for name in ("alpha", "beta")] == [-900_000, 0]


def test_riders_and_leavers_are_told_apart() -> None:
    study = make_study(words(free_riders=("alpha",), leaves=("beta@30",)))
    assert study.federation.of("alpha").share == 0.0
    assert study.federation.of("beta").leaves_s == 30 * DAY_S


def test_local_times_are_read_in_their_zone() -> None:
    base = Words(traces=(GAMMA,), procs=("96",))
    in_utc = make_study(base).traces[0].start_unix_s
    there = make_study(dataclasses.replace(base, zone=("Asia/Tokyo",))).traces[0].start_unix_s
    assert in_utc is not None
    assert there == in_utc - 9 * HOUR_S


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("mon 09:00-17:00", [(9 * HOUR_S, 17 * HOUR_S)]),
        ("tue 22:00-06:00", [(DAY_S + 22 * HOUR_S, 2 * DAY_S + 6 * HOUR_S)]),
        ("sat,sun 00:00-24:00", [(5 * DAY_S, 6 * DAY_S), (6 * DAY_S, WEEK_S)]),
        ("sun 22:00-06:00", [(6 * DAY_S + 22 * HOUR_S, WEEK_S), (0, 6 * HOUR_S)]),
        ("sat-mon 01:00-02:00", [(d * DAY_S + HOUR_S, d * DAY_S + 2 * HOUR_S) for d in (5, 6, 0)]),
    ],
)
def test_windows_are_seconds_of_the_week(text: str, windows: list[tuple[int, int]]) -> None:
    assert parse_window(text) == windows


def test_windows_of_one_centre_are_joined_in_order() -> None:
    study = make_study(
        words(window=("sat,sun 00:00-24:00", "daily 20:00-06:00", "beta=mon 1:00-2:00"))
    )
    alpha, beta = (study.federation.of(name).windows for name in ("alpha", "beta"))
    assert alpha[0] == (0, 6 * HOUR_S)
    assert alpha[-1] == (4 * DAY_S + 20 * HOUR_S, WEEK_S)
    assert beta == ((HOUR_S, 2 * HOUR_S),)


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("300", 300), ("5m", 300), ("1h30m", 5_400), ("2d", 172_800)]
)
def test_durations(text: str, expected: int) -> None:
    assert seconds(text) == expected


def test_delays_may_be_shorter_than_a_second() -> None:
    assert [milliseconds(text) for text in ("250ms", "2", "1m")] == [250, 2_000, 60_000]


def test_a_sweep_is_a_name_and_its_values() -> None:
    assert parse_sweep("round_ms=1000,10_000") == ("round_ms", ("1000", "10_000"))


BAD: dict[str, tuple[dict[str, object], str]] = {
    "nothing to replay": ({"traces": ()}, "simulate-option"),
    "a file that is not there": ({"traces": ("nowhere.swf",)}, "workload-file"),
    "sacct without processors": ({"traces": (GAMMA,)}, "workload-procs-missing"),
    "processors of nobody": ({"procs": ("64",)}, "simulate-option"),
    "processors of a stranger": ({"procs": ("gamma=64",)}, "workload-centre"),
    "no processors": ({"procs": ("alpha=0",)}, "simulate-option"),
    "a centre name that is none": ({"traces": (f"No Name={ALPHA}",)}, "centre-name"),
    "a synthetic centre without size": ({"synthetic": ("x",)}, "simulate-option"),
    "a synthetic centre with too many parts": ({"synthetic": ("x=1:2:3:4",)}, "simulate-option"),
    "a share above all": ({"share": ("1.5",)}, "simulate-option"),
    "a share that is a word": ({"share": ("half",)}, "simulate-option"),
    "a share that is no number": ({"share": ("nan",)}, "simulate-option"),
    "a share of a stranger": ({"share": ("gamma=0.5",)}, "workload-centre"),
    "a window without days": ({"window": ("09:00-17:00",)}, "simulate-option"),
    "a window with an unknown day": ({"window": ("lun 09:00-17:00",)}, "simulate-option"),
    "a window at 25 o'clock": ({"window": ("mon 09:00-25:00",)}, "simulate-option"),
    "a window past midnight's end": ({"window": ("mon 09:00-24:30",)}, "simulate-option"),
    "a duration without a unit that is known": ({"after_wait": ("5 years",)}, "simulate-option"),
    "a zone that is nowhere": ({"zone": ("Mars/Base",)}, "simulate-option"),
    "a zone that is a path": ({"zone": ("../etc",)}, "simulate-option"),
    "a leaver without a day": ({"leaves": ("alpha",)}, "simulate-option"),
    "a leaver that is not there": ({"leaves": ("gamma@3",)}, "workload-centre"),
    "a rider that is not there": ({"free_riders": ("gamma",)}, "workload-centre"),
    "an offset of all": ({"offset": ("1h",)}, "simulate-option"),
    "rules that are not there": ({"rules": Path("nowhere.toml")}, "file-unreadable"),
    "a balance that is a word": ({"min_balance": ("none",)}, "simulate-option"),
    "a balance below all": ({"min_balance": ("-1000001",)}, "simulate-option"),
    "a speed of nothing": ({"speed": ("0",)}, "workload-option"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_words_are_refused(what: str) -> None:
    changes, code = BAD[what]
    with pytest.raises(InputError) as caught:
        make_study(words(**changes))
    assert caught.value.code == code


@pytest.mark.parametrize("text", ["round_ms", "=1", "round_ms=", "round_ms=,"])
def test_a_sweep_without_name_or_values_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="can't be read"):
        parse_sweep(text)
