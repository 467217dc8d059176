"""Plain EASY: the fast loop and the one from the definition agree on every job's wait."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.ids import CentreName
from p2pfed.simulate.workload.easy import simulate_easy
from p2pfed.simulate.workload.reading import read_trace
from p2pfed.simulate.workload.trace import TraceJob
from tests.properties.naive_easy import NaiveJob, naive_easy

PROCS = 8
jobs_st = st.lists(
    st.tuples(
        st.integers(0, 12),  # since the one before
        st.integers(0, 15),
        st.integers(0, 15),  # asked for beyond what it runs
        st.integers(1, PROCS),
    ),
    max_size=40,
)


def starts_of(jobs: list[TraceJob], procs: int) -> tuple[list[int], list[int]]:
    """Starts by the fast loop and by the naive one."""
    fast = simulate_easy(
        [job.submit_s for job in jobs],
        [job.run_s for job in jobs],
        [job.walltime_s for job in jobs],
        [job.procs for job in jobs],
        procs,
    )
    naive = [NaiveJob(job.submit_s, job.run_s, job.walltime_s, job.procs) for job in jobs]
    return fast, naive_easy(naive, procs)


@settings(max_examples=400)
@given(jobs_st)
def test_fast_and_naive_easy_agree_on_every_start(rows: list[tuple[int, int, int, int]]) -> None:
    jobs, now = [], 0
    for gap, run, more, procs in rows:
        now += gap
        jobs.append(TraceJob(now, run, max(1, run + more), procs))
    fast, naive = starts_of(jobs, PROCS)
    assert fast == naive


SHARED = Path(os.environ.get("P2PFED_SHARED", Path(__file__).resolve().parents[3] / "shared"))


@pytest.mark.parametrize("name", ["ctc-sp2", "das2-fs1", "hpc2n", "kth-sp2", "sdsc-sp2"])
def test_they_agree_on_a_slice_of_a_real_trace(name: str) -> None:
    path = SHARED / "traces" / f"{name}.swf.gz"
    if not path.exists():
        pytest.skip(f"there is no {path}: set P2PFED_SHARED to the folder that holds traces/")
    trace = read_trace(path, CentreName(name))
    middle = len(trace.jobs) // 3
    jobs = list(trace.jobs[middle : middle + 500])
    fast, naive = starts_of(jobs, trace.procs)
    assert fast == naive
    assert any(start > job.submit_s for start, job in zip(fast, jobs, strict=True))
