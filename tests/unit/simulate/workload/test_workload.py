"""Traces on one time axis."""

from __future__ import annotations

import pytest

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError
from p2pfed.simulate.workload.trace import DAY_S, WEEK_S, Trace, TraceJob, make_trace
from p2pfed.simulate.workload.workload import Alignment, Shaping, make_workload

MONDAY = 1_704_067_200  # 2024-01-01


def trace(name: str, *submits_s: int, start: int | None = MONDAY) -> Trace:
    jobs = [TraceJob(submit_s, 60, 120, 2) for submit_s in submits_s]
    return make_trace(CentreName(name), jobs, procs=4, start_unix_s=start)


def test_by_calendar_each_job_comes_when_it_really_came() -> None:
    tuesday = trace("beta", 5, start=MONDAY + DAY_S)
    workload = make_workload([trace("alpha", 7), tuesday], Shaping(alignment=Alignment.CALENDAR))
    assert workload.submit_s == [7, DAY_S + 5]
    assert workload.origin_unix_s == MONDAY


def test_by_weekday_mondays_meet() -> None:
    later = trace("beta", 5, start=MONDAY + 30 * WEEK_S + DAY_S)
    workload = make_workload([trace("alpha", 7), later])
    assert workload.submit_s == [7, DAY_S + 5]
    assert [workload.centres[home] for home in workload.home] == ["alpha", "beta"]


def test_by_offset_all_begin_together_or_where_they_are_told() -> None:
    shaping = Shaping(alignment=Alignment.OFFSET, offset_s={"beta": 100})
    workload = make_workload([trace("alpha", 7, 9), trace("beta", 50, start=None)], shaping)
    assert workload.submit_s == [0, 2, 100]
    assert workload.origin_unix_s % WEEK_S == 4 * DAY_S  # a Monday


def test_load_compresses_and_inflation_stretches_requests_only() -> None:
    workload = make_workload([trace("alpha", 0, 3_000)], Shaping(load=1.5, inflation=2.0))
    assert workload.submit_s == [0, 2_000]
    assert (workload.run_s[0], workload.walltime_s[0]) == (60, 240)


def test_deflated_requests_never_end_a_job_early() -> None:
    assert make_workload([trace("alpha", 0)], Shaping(inflation=0.1)).walltime_s == [60]


def test_jitter_depends_on_the_seed_alone() -> None:
    submits = range(0, 10_000, 500)
    one, same, other = (
        make_workload([trace("alpha", *submits)], Shaping(jitter_s=120, seed=seed)).submit_s
        for seed in (1, 1, 2)
    )
    assert one == same != other
    assert all(0 <= jittered - submit <= 120 for jittered, submit in zip(one, submits, strict=True))


def test_some_centres_can_be_left_out() -> None:
    workload = make_workload([trace("alpha", 1, 3), trace("beta", 2)])
    assert workload.only(["beta"]).submit_s == [2]
    assert workload.only(["beta"]).centres == ("beta",)


BAD = {
    "no trace": ([], Shaping(), "workload-empty"),
    "two of one name": ([trace("alpha", 1), trace("alpha", 2)], Shaping(), "workload-name"),
    "a start that nobody knows": (
        [trace("alpha", 1, start=None)],
        Shaping(),
        "workload-start-unknown",
    ),
    "no load": ([trace("alpha", 1)], Shaping(load=0.0), "workload-option"),
    "a negative jitter": ([trace("alpha", 1)], Shaping(jitter_s=-1), "workload-option"),
    "an offset of a stranger": (
        [trace("alpha", 1)],
        Shaping(offset_s={"beta": 1}),
        "workload-centre",
    ),
}


@pytest.mark.parametrize("phrase", BAD)
def test_what_makes_no_sense_is_refused(phrase: str) -> None:
    traces, shaping, code = BAD[phrase]
    with pytest.raises(InputError) as caught:
        make_workload(traces, shaping)
    assert caught.value.code == code


def test_a_stranger_can_not_be_chosen() -> None:
    with pytest.raises(InputError) as caught:
        make_workload([trace("alpha", 1)]).only(["beta"])
    assert caught.value.code == "workload-centre"
