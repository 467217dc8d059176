"""Invariants 1, 2 and 8 by exhaustion: every way a tiny federation of real nodes can go.

CI examines the nearest situations of each setting, shortest ways first, and heals some of them;
`scripts/check-lifecycle` examines all of them. Each rule that is left out must be missed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfed.simulate.model.search import Search
from p2pfed.simulate.model.situation import RULES, STEP_MS, Faults, Setting
from tests.mutations.lifecycle import MUTATIONS, Mutation

WAIT_MS = 3 * STEP_MS
PATIENT = replace(RULES, claim_wait_ms=WAIT_MS, approval_wait_ms=WAIT_MS, accept_wait_ms=WAIT_MS)
"""Room for a host whose clock is ahead by all that is allowed."""
NEAR = 600
FAR = 9_000
SETTINGS = {
    "calm": Setting(steps=5),
    "one by one": Setting(steps=5, one_by_one=True),
    "a fast host": Setting(steps=6, offsets_ms=(0, 1_000), rules=PATIENT),
    "a slow host": Setting(steps=5, offsets_ms=(0, -1_000)),
    "a crash": Setting(faults=Faults(crashes=1)),
    "a death": Setting(faults=Faults(deaths=1)),
    "an old backup": Setting(faults=Faults(restores=1)),
    "a lost mark": Setting(faults=Faults(marks_lost=1)),
    "a clock that is set": Setting(faults=Faults(clock_steps=1)),
    "a cancel": Setting(faults=Faults(cancels=1)),
    "two hosts": Setting(hosts=2, attempts=2, steps=6),
    "two homes": Setting(homes=2, steps=6),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_is_broken_in_any_situation(name: str) -> None:
    found = Search(SETTINGS[name], situations_max=NEAR, heal_every=100).run()
    assert not found.breach, found.tell()
    assert found.complete or found.situations >= NEAR


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_each_rule_that_is_left_out_is_missed(mutation: Mutation) -> None:
    most = 1_000 if mutation.healed else FAR
    heal_every = 1 if mutation.healed else FAR
    with mutation.applied():
        found = Search(mutation.setting, situations_max=most, heal_every=heal_every).run()
    assert mutation.breach in found.breach, found.tell()
    assert found.breach, "nothing was found"
    assert found.story
