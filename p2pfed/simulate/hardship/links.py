"""Faults of networks."""

from __future__ import annotations

from dataclasses import replace

from p2pfed.core.ids import CentreName
from p2pfed.simulate.hardship.strikes import for_a_while, somebody
from p2pfed.simulate.world import World


def cut_links(world: World) -> None:
    """All connections of a centre tear; it may dial again at once."""
    world.network.crash(somebody(world).name)


def isolate(world: World) -> None:
    """Nobody can reach a centre."""
    name = somebody(world).name
    _part(world, {name}, {other for other in world.centres if other != name}, 30_000)


def halve(world: World) -> None:
    """The federation falls into two parts that can't reach each other."""
    names = sorted(world.centres)
    one = set(world.rng.sample(names, world.rng.randint(1, len(names) - 1)))
    _part(world, one, {name for name in names if name not in one}, 30_000)


def bridge(world: World) -> None:
    """All centres reach one of them, and nobody else."""
    names = sorted(world.centres)
    middle = world.rng.choice(names)
    ends = [name for name in names if name != middle]
    for number, name in enumerate(ends):
        _part(world, {name}, set(ends[number + 1 :]), 20_000)


def flap(world: World) -> None:
    """The way between two centres comes and goes for some seconds."""
    one, other = world.rng.sample(sorted(world.centres), 2)
    for number in range(world.rng.randint(3, 12)):
        world.at(world.now_ms + number * 700, lambda: _part(world, {one}, {other}, 600))


def _part(world: World, one: set[CentreName], other: set[CentreName], most_ms: int) -> None:
    world.network.part(one, other)
    pairs = {frozenset((a, b)) for a in sorted(one) for b in sorted(other)}

    def join() -> None:
        world.network.severed -= pairs

    for_a_while(world, min(500, most_ms), most_ms, join)


def one_way(world: World) -> None:
    """What one centre sends another does not come; the other way is open, and nobody can tell."""
    one, other = world.rng.sample(sorted(world.centres), 2)
    world.network.open_hole(one, other)
    for_a_while(world, 1_000, 25_000, lambda: world.network.close_hole(one, other))


def silence(world: World) -> None:
    """A connection dies, and neither end is told."""
    one, other = world.rng.sample(sorted(world.centres), 2)
    for way in ((one, other), (other, one)):
        world.network.open_hole(*way)

    def wake() -> None:
        for way in ((one, other), (other, one)):
            world.network.close_hole(*way)

    for_a_while(world, 1_000, 25_000, wake)


def bad_weather(world: World) -> None:
    """The network is slow for everybody: to half a minute for one message."""
    before = world.faults
    world.faults = replace(before, delay_ms=(50, world.rng.randint(500, 30_000)))

    def clear() -> None:
        world.faults = replace(world.faults, delay_ms=before.delay_ms)

    for_a_while(world, 1_000, 10_000, clear)
