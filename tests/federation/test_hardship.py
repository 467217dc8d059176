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

from p2pfed.simulate.hardship.faults import KINDS
from p2pfed.simulate.hardship.trial import Plan, draw_plan, run_trial

FIXED = range(8)
TODAY = datetime.datetime.now(datetime.UTC).date().toordinal() * 100


@pytest.mark.parametrize("seed", [*FIXED, TODAY, TODAY + 1])
def test_a_federation_comes_through(seed: int) -> None:
    outcome = run_trial(draw_plan(seed))
    assert not outcome.broken, f"{outcome.broken}\n{outcome.plan.command()}"


def test_plans_differ_and_together_name_every_fault() -> None:
    plans = [draw_plan(seed) for seed in range(40)]
    assert {kind for plan in plans for kind in plan.kinds} == {kind.name for kind in KINDS}
    assert len({plan.kinds for plan in plans}) > 30


def test_the_same_plan_gives_the_same_trace_whatever_the_hash_seed() -> None:
    program = (
        "from p2pfed.simulate.hardship.trial import Plan, run_trial\n"
        "kinds = ('kill', 'halve', 'backup', 'forget', 'weather')\n"
        "plan = Plan(seed=3, centres=3, jobs=3, minutes=1, kinds=kinds)\n"
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
    outcome = run_trial(Plan(seed=1, centres=3, jobs=5, minutes=1, kinds=()))
    assert not outcome.broken
    assert outcome.runs == 5
