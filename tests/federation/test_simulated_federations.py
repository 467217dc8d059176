"""Whole federations from a seed: first unkind, then healed, always under the invariants."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from p2pfed.core.ids import CentreName
from p2pfed.core.records import FINAL_OUTCOMES, Outcome
from p2pfed.simulate.scene import Faults
from p2pfed.simulate.world import World
from tests.federation.scenarios import (
    CALM,
    HOMES,
    HOSTS,
    RULES,
    UNKIND,
    busy_federation,
    heal,
    job,
    offer,
    settled,
    states,
)

JOBS = 20


@pytest.mark.parametrize("seed", range(4))
def test_in_a_calm_world_every_job_runs_once_at_another_centre(seed: int) -> None:
    world = busy_federation(seed, CALM, JOBS)
    heal(world)
    assert set(states(world).values()) == {"completed"}
    assert len(world.runs) == JOBS
    for job_id, runs in world.runs.items():
        assert len(runs) == 1
        assert runs[0].host != job_id.centre


@pytest.mark.parametrize("seed", range(100, 120))
def test_crashes_and_cut_links_cost_time_but_break_nothing(seed: int) -> None:
    world = busy_federation(seed, UNKIND, JOBS)
    world.run(60_000)
    heal(world)
    # `heal` holds that whoever got no answer asked in the very moment in which the daemon died.
    assert len(world.checks.acknowledged) == JOBS - world.unanswered_submissions()


@pytest.mark.parametrize("seed", range(200, 206))
def test_a_partition_wastes_claims_at_most(seed: int) -> None:
    world = busy_federation(seed, CALM, JOBS)
    world.run(3_000)
    world.network.part({HOSTS[0], HOMES[0]}, {HOSTS[1], HOMES[1]})
    world.run(30_000)
    heal(world)
    assert set(states(world).values()) == {"completed"}


@pytest.mark.parametrize("seed", range(300, 306))
def test_a_stale_backup_takes_its_own_blocks_back_and_never_forks(seed: int) -> None:
    world = busy_federation(seed, CALM, JOBS)
    world.run(12_000)
    victim = world.centres[world.rng.choice(HOSTS + HOMES)]
    kept = len(victim.disk.blocks) * 2 // 3
    world.crash(victim.name, down_ms=1_000)
    del victim.disk.blocks[kept:]
    heal(world)
    assert victim.node is not None
    assert victim.disk.mark is not None


@pytest.mark.parametrize("seed", range(400, 404))
def test_without_its_high_water_file_a_centre_asks_every_member_and_stays_careful(
    seed: int,
) -> None:
    world = busy_federation(seed, CALM, JOBS)
    world.run(12_000)
    victim = world.centres[HOSTS[0]]
    world.crash(victim.name, down_ms=1_000)
    victim.disk.mark = None
    victim.disk.blocks = victim.disk.blocks[: len(victim.disk.blocks) // 2]
    assert world.run(30_000, world.all_up)
    assert victim.node is not None
    assert victim.node.trust.careful(world.clock(victim))
    heal(world)


def test_without_its_high_water_file_a_centre_does_not_write_while_a_member_is_away() -> None:
    world = busy_federation(7, CALM, JOBS)
    world.run(12_000)
    victim = world.centres[HOSTS[0]]
    world.crash(victim.name, down_ms=1_000)
    victim.disk.mark = None
    world.crash(HOMES[1], down_ms=40_000)
    blocks = sum(b.feed.centre == victim.name for b in victim.disk.blocks)
    world.run(30_000)
    assert victim.node is not None
    assert not victim.node.recovery.ready
    assert sum(b.feed.centre == victim.name for b in victim.disk.blocks) == blocks
    heal(world)


def test_a_host_that_dies_for_good_frees_the_home_after_the_lease() -> None:
    world = World(11, 3, RULES, CALM)
    assert world.run(20_000, world.all_up)
    home, dying, other = (CentreName(f"c00{i}") for i in range(3))
    world.open_offer(dying, offer())
    world.submit(home, job(walltime_s=8))
    assert world.run(20_000, lambda: bool(world.runs))
    world.crash(dying, down_ms=10**9)
    world.open_offer(other, offer())
    node = world.centres[home].node
    assert node is not None
    live = node.ledger.live
    assert world.run(120_000, lambda: all(live.judge(j).state.final for j in live.jobs.values()))
    (runs,) = world.runs.values()
    assert [run.host for run in runs] == [dying, other]
    assert runs[0].native.ends_ms <= runs[1].native.begins_ms


def test_a_home_that_dies_for_good_frees_the_host() -> None:
    world = World(12, 3, RULES, CALM)
    assert world.run(20_000, world.all_up)
    host, dying, other = (CentreName(f"c00{i}") for i in range(3))
    world.open_offer(host, offer(nodes=1))
    world.submit(dying, job(cores=4, walltime_s=8))
    assert world.run(20_000, lambda: bool(world.runs))
    world.crash(dying, down_ms=10**9)
    world.submit(other, job(1, cores=4))
    assert world.run(120_000, lambda: len(world.runs) == 2)


def test_a_cancelled_job_is_killed_where_it_runs() -> None:
    world = World(13, 3, RULES, CALM)
    assert world.run(20_000, world.all_up)
    host, home = CentreName("c000"), CentreName("c001")
    world.open_offer(host, offer())
    world.submit(home, job(walltime_s=40))
    assert world.run(20_000, lambda: bool(world.runs))
    (job_id,) = world.runs
    world.runs[job_id][0].native.ends_ms += 30_000
    world.cancel(home, job_id)
    assert world.run(10_000, lambda: states(world, home)[job_id] == "cancelled")
    node = world.centres[home].node
    assert node is not None
    end = node.ledger.live.claims[world.runs[job_id][0].claim_id].host_side.end
    assert end is not None
    assert end.outcome == Outcome.CANCELLED
    assert Outcome.CANCELLED in FINAL_OUTCOMES


def test_a_centre_whose_clock_is_wrong_starts_nothing_and_declares_nothing_lost() -> None:
    world = World(14, 4, RULES, CALM)
    assert world.run(20_000, world.all_up)
    host, home = CentreName("c000"), CentreName("c001")
    world.open_offer(host, offer())
    world.run(3_000)
    world.centres[host].clock_offset_ms = 4_000
    world.run(5_000)
    world.submit(home, job())
    world.run(15_000)
    assert not world.runs
    world.centres[host].clock_offset_ms = 0
    world.run(120_000, lambda: settled(world))
    assert len(world.runs) == 1


def test_the_same_seed_gives_the_same_run_whatever_the_hash_seed() -> None:
    program = (
        "from tests.federation.scenarios import *\n"
        "w = busy_federation(5, UNKIND, 8)\n"
        "w.run(30_000)\n"
        "print(w.trace.hexdigest())\n"
    )
    found = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_another_seed_gives_another_run() -> None:
    def trace(seed: int) -> str:
        world = busy_federation(seed, Faults(), 2)
        world.run(5_000)
        return world.trace.hexdigest()

    assert trace(1) != trace(2)
