"""Synthetic workloads."""

from __future__ import annotations

from statistics import fmean

import pytest

from p2pfed.core.ids import CentreName
from p2pfed.simulate.workload.lublin import synthetic_trace
from p2pfed.simulate.workload.trace import DAY_S

NAME = CentreName("alpha")


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    one, same, other = (
        synthetic_trace(NAME, procs=128, jobs=200, seed=seed).jobs for seed in (1, 1, 2)
    )
    assert one == same != other


def test_jobs_look_as_the_model_says() -> None:
    jobs = synthetic_trace(NAME, procs=128, jobs=20_000, seed=1).jobs
    serial = fmean(job.procs == 1 for job in jobs)
    powers = fmean(job.procs & (job.procs - 1) == 0 for job in jobs if job.procs > 1)
    assert serial == pytest.approx(0.244, abs=0.03)
    assert powers > 0.7
    assert all(job.run_s <= job.walltime_s or job.walltime_s == 604_800 for job in jobs)
    by_night = fmean(3 <= job.submit_s % DAY_S / 3_600 < 6 for job in jobs)
    by_day = fmean(11 <= job.submit_s % DAY_S / 3_600 < 14 for job in jobs)
    assert by_day > 4 * by_night


def test_a_load_can_be_asked_for() -> None:
    trace = synthetic_trace(NAME, procs=64, jobs=3_000, seed=3, load=0.7)
    work = sum(job.run_s * job.procs for job in trace.jobs)
    assert work / (trace.jobs[-1].submit_s * 64) == pytest.approx(0.7, rel=0.01)


def test_a_machine_of_one_processor_gets_serial_jobs() -> None:
    jobs = synthetic_trace(NAME, procs=1, jobs=50, seed=1).jobs
    assert len(jobs) == 50
    assert all(job.procs == 1 for job in jobs)
