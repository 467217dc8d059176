"""What is said about outcomes."""

from __future__ import annotations

import pytest

from p2pfed.core.ids import CentreName
from p2pfed.simulate.workload.metrics import (
    compare,
    cut,
    fairness,
    quantile,
    size_classes,
    summarise,
    way,
)
from p2pfed.simulate.workload.outcome import Outcome
from p2pfed.simulate.workload.trace import TraceJob, make_trace
from p2pfed.simulate.workload.workload import Workload, make_workload


def workload() -> Workload:
    jobs = [TraceJob(0, 100, 100, 4), TraceJob(10, 5, 60, 1), TraceJob(20, 50, 60, 3)]
    other = [TraceJob(200, 100, 100, 2)]
    return make_workload(
        [
            make_trace(CentreName("alpha"), jobs, procs=4, start_unix_s=345_600),
            make_trace(CentreName("beta"), other, procs=4, start_unix_s=345_600),
        ]
    )


def outcome(world: str, starts_s: tuple[int, ...], where: tuple[int, ...]) -> Outcome:
    jobs = workload()
    return Outcome(
        world=world,
        workload=jobs,
        start_ms=[start * 1_000 for start in starts_s],
        end_ms=[(s + r) * 1_000 for s, r in zip(starts_s, jobs.run_s, strict=True)],
        wait_ms=[(s - c) * 1_000 for s, c in zip(starts_s, jobs.submit_s, strict=True)],
        where=where,
    )


ALONE = outcome("isolated", (0, 100, 100, 200), (0, 0, 0, 1))
FEDERATED = outcome("federated", (0, 20, 30, 200), (0, 1, 1, 1))
IDEAL = outcome("ideal", (0, 10, 20, 200), (0, 1, 1, 1))


def test_waits_and_slowdowns_of_a_centre() -> None:
    found = summarise(ALONE, 0)
    assert found.jobs == 3
    assert found.mean_wait_s == pytest.approx((0 + 90 + 80) / 3)
    assert (found.median_wait_s, found.p95_wait_s) == (80, 90)
    # run times below 10 s count as 10 s: (105 - 10) / 10
    assert found.slowdown == pytest.approx((1 + 95 / 10 + 130 / 50) / 3)


def test_jobs_are_counted_by_home_and_by_host() -> None:
    alpha, beta = summarise(FEDERATED, 0), summarise(FEDERATED, 1)
    assert (alpha.exported, alpha.hosted, beta.exported, beta.hosted) == (2, 0, 0, 2)
    assert alpha.exported_core_s == beta.hosted_core_s == 5 + 150


def test_the_warm_up_is_left_out() -> None:
    assert summarise(ALONE, None, warmup_s=15).jobs == 2


def test_the_way_is_none_without_a_way_to_go() -> None:
    assert way(10, 4, 2) == pytest.approx(0.75)
    assert way(10, 4, 10) is None
    assert cut(10, 4) == pytest.approx(0.6)
    assert cut(0, 4) is None


def test_three_worlds_are_compared() -> None:
    compared = compare(ALONE, FEDERATED, IDEAL)
    assert compared.way_wait == pytest.approx((42.5 - 5) / 42.5)
    assert [centre[0].jobs for centre in compared.centres] == [3, 1]
    assert compared.wait_cut == pytest.approx(1 - 5 / 42.5)


def test_utilisation_is_of_the_time_that_counts() -> None:
    # 400 + 5 + 150 processor-seconds of alpha within 200 s of 4 processors
    assert summarise(ALONE, 0).utilisation == pytest.approx(555 / 800)
    assert summarise(ALONE, 1).utilisation == 0


def test_quantiles_are_values_that_occurred() -> None:
    assert [quantile([1, 2, 3, 4], part) for part in (0, 0.25, 0.5, 0.51, 1)] == [1, 1, 2, 3, 4]
    assert quantile([], 0.5) == 0


def test_users_are_satisfied_who_wait_little_beside_what_they_run() -> None:
    assert summarise(ALONE, 0).satisfaction == pytest.approx((1 + 10 / 95 + 50 / 130) / 3)
    assert summarise(ALONE, 1).satisfaction == 1
    assert summarise(ALONE, None, warmup_s=1_000).satisfaction == 1


def test_fairness_falls_as_one_centre_gets_more_than_others() -> None:
    assert fairness([0.5, 0.5, 0.5]) == pytest.approx(1)
    assert fairness([0.9, 0.6]) == pytest.approx(1.5**2 / (2 * 1.17))
    assert fairness([1, 0, 0, 0]) == pytest.approx(1 / 4)
    assert fairness([]) == fairness([0, 0]) == 1


def test_classes_by_width_get_worse_only_beyond_the_slack() -> None:
    found = size_classes(FEDERATED, ALONE, least_jobs=1)
    assert [(c.centre, c.label, c.jobs) for c in found] == [
        (0, "narrow", 1),
        (0, "wide", 2),
        (1, "medium", 1),
    ]
    assert not any(c.worse for c in found)
    late = outcome("federated", (0, 1_200, 100, 200), (0, 0, 0, 1))
    assert [c.worse for c in size_classes(ALONE, late, least_jobs=1)] == [True, False, False]
