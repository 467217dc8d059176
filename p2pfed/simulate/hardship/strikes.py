"""What all faults have in common: whom they strike, and how they end."""

from __future__ import annotations

from collections.abc import Callable

from p2pfed.simulate.scene import Centre
from p2pfed.simulate.world import World

Strike = Callable[[World], None]


def somebody(world: World) -> Centre:
    """Any honest centre."""
    return world.rng.choice(world.honest())


def somebody_up(world: World) -> Centre | None:
    """Any honest centre whose daemon runs and may write, if there is one."""
    up = [centre for centre in world.honest() if centre.up]
    return world.rng.choice(up) if up else None


def for_a_while(world: World, least_ms: int, most_ms: int, end: Callable[[], None]) -> None:
    """Lets `end` happen after a time in between."""
    world.at(world.now_ms + world.rng.randint(least_ms, most_ms), end)
