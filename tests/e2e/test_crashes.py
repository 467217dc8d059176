"""`kill -9` of any daemon at any moment: no job is lost, none runs twice, nobody forks.

The moments are seeded, and counted in what the federation does (blocks, steps of a job), not in
seconds. That no job ran twice is what the jobs themselves say (`tests.e2e.witness`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress

import pytest

from p2pfed.errors import ControlError
from p2pfed.shell.client import Client
from tests.e2e.federation import LOOK_S, Centre, Federation, Shared
from tests.e2e.witness import Witness, check_ledgers, check_ran_once
from tests.waiting import wait_until

NAMES = ("alpha", "beta", "gamma")


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    made = Shared(lambda: Federation.found(*NAMES, cores=2, opened=NAMES))
    yield made
    made.close()


@pytest.fixture
def federation(shared: Shared) -> Iterator[Federation]:
    with shared.lend() as made:
        made.until_offers(3)
        yield made


def blocks_of(client: Client) -> int:
    return client.status()["blocks"]


def until_more_blocks(federation: Federation, count: int) -> None:
    """Waits until somebody who lives has `count` blocks more than now."""
    witness = next(centre for centre in federation if centre.running)
    before = witness.until(blocks_of, "blocks")
    witness.until(lambda client: blocks_of(client) >= before + count, f"{count} blocks")


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_daemons_are_killed_at_random_while_jobs_run(federation: Federation, seed: int) -> None:
    rng = random.Random(seed)
    witness = Witness(federation)
    jobs: dict[str, list[str]] = {name: [] for name in NAMES}
    for _ in range(6):
        for name in ("alpha", "beta"):
            jobs[name].append(witness.submit(federation[name], rng.choice((0.1, 0.5, 2.0))))
    for _ in range(6):
        until_more_blocks(federation, rng.randint(1, 10))
        victim = federation[rng.choice(NAMES)]
        victim.kill()
        if rng.random() < 0.5:
            until_more_blocks(federation, rng.randint(1, 6))
        victim.begin()
        if rng.random() < 0.3:  # killed again while it starts
            until_more_blocks(federation, rng.randint(1, 3))
            victim.kill()
            victim.begin()
    for name, job_ids in jobs.items():
        if job_ids:
            check_ran_once(federation[name], job_ids, witness)
    check_ledgers(federation)


STEPS = ("claimed", "leased", "started", "ended")


@pytest.mark.parametrize("victim", ["home", "host"])
def test_a_daemon_is_killed_at_each_step_of_a_job(federation: Federation, victim: str) -> None:
    alpha = federation["alpha"]
    witness = Witness(federation)
    job_ids = []
    for step in STEPS:
        job_id = witness.submit(alpha)
        job_ids.append(job_id)
        kill_at(alpha if victim == "home" else None, federation, job_id, step)
        check_ran_once(alpha, [job_id], witness)
    check_ledgers(federation)


def kill_at(chosen: Centre | None, federation: Federation, job_id: str, step: str) -> None:
    """Kills the home, or whoever hosts the job, once the job has come to the step; restarts it."""
    alpha = federation["alpha"]
    at_least = (*STEPS[STEPS.index(step) :], "completed")
    view = alpha.until_state(job_id, *at_least)
    target = chosen or federation[view["host"] or "beta"]
    target.kill()
    target.start()


def test_everybody_is_killed_at_once_and_comes_back(federation: Federation) -> None:
    witness = Witness(federation)
    alpha = federation["alpha"]
    job_ids = [witness.submit(alpha, 1.5) for _ in range(4)]
    wait_until(lambda: witness.begun() >= 2, "jobs that run", look_s=LOOK_S)
    for centre in federation:
        centre.kill()
    federation.start()
    check_ran_once(alpha, job_ids, witness)
    check_ledgers(federation)


def test_what_a_user_saw_as_accepted_survives_a_kill_in_the_next_instant(
    federation: Federation,
) -> None:
    witness = Witness(federation)
    alpha = federation["alpha"]
    kept = []
    for _ in range(3):
        kept.append(witness.submit(alpha))
        alpha.kill()
        with pytest.raises(ControlError, match="no daemon answers"), alpha.client():
            pass
        alpha.start()
        with suppress(ControlError):
            assert set(kept) <= alpha.jobs().keys()
        alpha.until_writing()
    check_ran_once(alpha, kept, witness)
    check_ledgers(federation)
