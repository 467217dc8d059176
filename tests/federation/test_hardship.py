"""Federations that are treated badly come through unharmed; a fixed set of seeds and some of today.

`scripts/simulate-faults` runs as many as there is time for. A failure names the command that
replays it.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys

import pytest

from p2pfed.simulate.hardship.faults import KINDS, NAMES, ONCE
from p2pfed.simulate.hardship.trial import Plan, draw_plan, run_trial

FIXED = [range(first, first + 10) for first in range(0, 50, 10)]
DAY = datetime.datetime.now(datetime.UTC).date().toordinal() * 1_000
TODAY = [range(DAY, DAY + 10)]


@pytest.mark.parametrize("seeds", [*FIXED, *TODAY], ids=lambda seeds: f"from-{seeds.start}")
def test_federations_come_through(seeds: range) -> None:
    outcomes = map(run_trial, map(draw_plan, seeds))
    broken = [f"{o.broken}\n{o.plan.command()}" for o in outcomes if o.broken]
    assert not broken, "\n".join(broken)


def test_plans_differ_and_together_name_every_fault() -> None:
    plans = [draw_plan(seed) for seed in range(400)]
    assert {kind for plan in plans for kind in plan.kinds} == set(NAMES)
    assert len({plan.kinds for plan in plans}) > 300


@pytest.mark.parametrize("kind", [*(kind.name for kind in KINDS), *ONCE])
def test_every_fault_strikes_and_harms_nobody(kind: str) -> None:
    told: list[str] = []
    outcome = run_trial(
        Plan(seed=2, centres=3, jobs=4, seconds=15, kinds=(kind,)), tell=told.append
    )
    assert not outcome.broken, f"{outcome.broken}\n{outcome.plan.command()}"
    lasting = ("loss", "slow", "queue", "lies", "older")
    assert kind in lasting or any(f"fault {kind}" in line for line in told)


def test_the_same_plan_gives_the_same_trace_whatever_the_hash_seed() -> None:
    program = (
        "from p2pfed.simulate.hardship.trial import Plan, run_trial\n"
        "kinds = ('kill', 'halve', 'backup', 'forget', 'weather', 'lies', 'nonsense', 'rules')\n"
        "plan = Plan(seed=3, centres=3, jobs=5, seconds=20, kinds=kinds)\n"
        "print(run_trial(plan).trace)\n"
    )
    traces = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        traces.add(done.stdout)
    assert len(traces) == 1


def test_a_trial_without_faults_finishes_every_job() -> None:
    outcome = run_trial(Plan(seed=1, centres=3, jobs=5, seconds=20, kinds=()))
    assert not outcome.broken
    assert outcome.runs >= 5
