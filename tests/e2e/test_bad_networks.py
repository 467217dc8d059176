"""Real daemons in network namespaces: what is lost or cut is made up for.

The short form of `scripts/bad-networks`: three daemons, two faults in turn, jobs all the while.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.networks.faults import last
from scripts.networks.spaces import refusal
from scripts.networks.stage import Stage, staged

CENTRES = 3
FAULT_S = 4.0


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if why := refusal():
        pytest.skip(why)
    with staged(CENTRES, seed=1) as made:
        yield made


@pytest.mark.parametrize("fault", ["loss", "halves"])
def test_after_a_fault_all_jobs_ran_once_and_all_agree(fault: str, stage: Stage) -> None:
    last(stage, fault, FAULT_S, jobs=1)
    assert sum(map(len, stage.jobs.values())) == 2 * CENTRES and not stage.refused
    stage.until_whole()
    stage.check()
