"""Members that do what they like can waste time, and nothing else."""

from __future__ import annotations

from p2pfed.core.ids import CentreName
from p2pfed.simulate.hardship.rogues import rogue_kind
from p2pfed.simulate.world import World
from tests.federation.scenarios import CALM, RULES, job, offer, states

ROGUE, HOST, HOME = (CentreName(f"c00{number}") for number in range(3))


def test_a_host_that_accepts_and_never_comes_does_not_draw_all_jobs() -> None:
    """What it promised makes its offer the tightest fit, round after round."""
    world = World(1, 3, RULES, CALM)
    assert world.run(20_000, world.all_up)
    rogue = world.centres[ROGUE]
    rogue.honest, rogue.kind = False, rogue_kind(("dishonour",))
    world.crash(ROGUE, down_ms=10)
    world.run(5_000)
    world.open_offer(ROGUE, offer())
    world.run(3_000)
    for number in range(4):
        world.submit(HOME, job(number, cores=1))
        world.run(1_500)
    world.open_offer(HOST, offer())
    assert world.run(60_000, lambda: set(states(world, HOME).values()) == {"completed"}), states(
        world, HOME
    )
    world.checks.at_the_end()
