"""The plan gives every job somewhere to go, and expects of it what is true."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from p2pfed.core.rules import Rules
from p2pfed.shell.demo.plan import (
    CENTRES_MAX,
    RULES,
    WALLTIME_S,
    count_primes,
    example_script,
    plan_demo,
)

KNOWN = {1_000: 168, 10_000: 1_229, 100_000: 9_592, 1_000_000: 78_498}
"""How many primes there are up to a number (OEIS A006880)."""


@pytest.mark.parametrize("last", KNOWN)
def test_the_sieve_finds_what_is_known(last: int) -> None:
    assert count_primes(2, last) == KNOWN[last]
    middle = last // 3
    assert count_primes(2, middle) + count_primes(middle + 1, last) == KNOWN[last]


def test_the_sieve_finds_what_trial_division_finds_in_any_range() -> None:
    primes = [n for n in range(2, 400) if all(n % d for d in range(2, n))]
    for first in range(2, 60):
        for last in range(first, 400, 37):
            assert count_primes(first, last) == sum(first <= p <= last for p in primes)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_the_example_counts_right_on_any_number_of_cores(cores: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [example_script(), "1", "10000"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "P2PFED_CORES": str(cores)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["from 1 to 10000:", "1229 primes"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("centres", range(2, CENTRES_MAX + 1))
def test_every_job_fits_another_centres_offer(centres: int) -> None:
    plan = plan_demo(centres, 60)
    assert len({centre.name for centre in plan.centres}) == centres
    assert [c.name for c in plan.centres if not c.offers] == ["alpha"]
    assert len({job.name for job in plan.jobs}) == len({j.arguments for j in plan.jobs}) == 60
    for job in plan.jobs:
        fitting = [c for c in plan.centres if c.offers and c.cores_per_node >= job.cores]
        assert any(centre.name != job.home for centre in fitting), job
    assert sum(job.home == "alpha" for job in plan.jobs) >= 50


def test_a_plan_is_the_same_each_time() -> None:
    assert plan_demo(5, 40) == plan_demo(5, 40)
    assert plan_demo(5, 7).jobs == plan_demo(5, 40).jobs[:7]


def test_the_rules_leave_room_for_the_jobs() -> None:
    assert RULES.walltime_max_s >= WALLTIME_S
    assert Rules.from_mapping(RULES.to_mapping()) == RULES
