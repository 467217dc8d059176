"""What can befall a federation, one small class for each kind.

A fault strikes at moments drawn from the world's own chance, some times a minute on average; how
often is drawn for each run. Every fault ends by itself, or when the run heals the world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from p2pfed.core.ids import CentreName
from p2pfed.node.admission import AdmissionPolicy
from p2pfed.node.events import CancelJob, ClockStepped, PolicyChanged, RequestId
from p2pfed.simulate.scene import Centre
from p2pfed.simulate.world import World

Strike = Callable[[World], None]


def _somebody(world: World) -> Centre:
    return world.centres[world.rng.choice(sorted(world.centres))]


def _for_a_while(world: World, least_ms: int, most_ms: int, end: Callable[[], None]) -> None:
    world.at(world.now_ms + world.rng.randint(least_ms, most_ms), end)


def kill(world: World) -> None:
    """A daemon is killed and started again."""
    world.crash(_somebody(world).name)


def cut_links(world: World) -> None:
    """All connections of a centre tear; it may dial again at once."""
    world.network.crash(_somebody(world).name)


def isolate(world: World) -> None:
    """Nobody can reach a centre."""
    name = _somebody(world).name
    _part(world, {name}, {other for other in world.centres if other != name})


def halve(world: World) -> None:
    """The federation falls into two parts that can't reach each other."""
    names = sorted(world.centres)
    one = set(world.rng.sample(names, world.rng.randint(1, len(names) - 1)))
    _part(world, one, {name for name in names if name not in one})


def _part(world: World, one: set[CentreName], other: set[CentreName]) -> None:
    world.network.part(one, other)
    pairs = {frozenset((a, b)) for a in sorted(one) for b in sorted(other)}

    def join() -> None:
        world.network.severed -= pairs

    _for_a_while(world, 1_000, 30_000, join)


def restore_backup(world: World) -> None:
    """A centre comes back with an old copy of its database; its high-water file is intact."""
    _lose_blocks(_somebody(world), world)


def lose_mark(world: World) -> None:
    """A centre comes back with an old copy of its database and without its high-water file."""
    centre = _somebody(world)
    if _lose_blocks(centre, world):
        centre.disk.mark = None


def _lose_blocks(centre: Centre, world: World) -> bool:
    """Kills a daemon and sets its database back; True if it was done.

    Only where another centre has all that is lost: else the centre would have to wait for the
    others to vote for a new epoch, and what its users were told would be gone for good.
    """
    mark = centre.disk.mark
    others = [c for _, c in sorted(world.centres.items()) if c is not centre]
    kept_elsewhere = mark is not None and any(
        block.block_id == mark.block_id for other in others for block in other.disk.blocks[-400:]
    )
    if centre.node is None or len(centre.disk.blocks) < 8 or not kept_elsewhere:
        return False
    world.crash(centre.name, down_ms=1_000)
    kept = world.rng.randint(len(centre.disk.blocks) // 2, len(centre.disk.blocks) - 1)
    del centre.disk.blocks[kept:]
    return True


def set_clock(world: World) -> None:
    """An administrator sets a clock wrong, and right again."""
    centre = _somebody(world)
    by_ms = world.rng.choice((-1, 1)) * world.rng.randint(600, 4_000)
    centre.clock_offset_ms += by_ms
    world.tell(centre.name, ClockStepped(by_ms=by_ms))

    def mend() -> None:
        centre.clock_offset_ms -= by_ms
        world.tell(centre.name, ClockStepped(by_ms=-by_ms))

    _for_a_while(world, 500, 10_000, mend)


def drop_native(world: World) -> None:
    """A batch system forgets a job that has not begun."""
    centre = _somebody(world)
    waiting = [
        name for name, native in centre.disk.natives.items() if native.begins_ms > world.now_ms
    ]
    if waiting:
        name = world.rng.choice(sorted(waiting))
        world.forget_native(centre, name)


def end_native(world: World) -> None:
    """A node of a batch system fails: what runs there is over at once."""
    centre = _somebody(world)
    running = [
        name
        for name, native in sorted(centre.disk.natives.items())
        if native.begins_ms <= world.now_ms < native.ends_ms
    ]
    if running:
        world.fail_native(centre, world.rng.choice(running))


def pause(world: World) -> None:
    """An administrator takes no guests for a while."""
    name = _somebody(world).name
    world.tell(name, PolicyChanged(policy=AdmissionPolicy(paused=True)))
    _for_a_while(
        world,
        1_000,
        10_000,
        lambda: world.tell(name, PolicyChanged(policy=AdmissionPolicy())),
    )


def cancel(world: World) -> None:
    """A user cancels a job."""
    if world.checks.acknowledged:
        job_id = world.rng.choice(world.checks.acknowledged)
        request = RequestId(world.new_id())
        world.tell(job_id.centre, CancelJob(request=request, job_id=job_id))


def bad_weather(world: World) -> None:
    """The network is slow for everybody: to half a minute for one message."""
    before = world.faults
    world.faults = replace(before, delay_ms=(50, world.rng.randint(500, 30_000)))

    def clear() -> None:
        world.faults = replace(world.faults, delay_ms=before.delay_ms)

    _for_a_while(world, 1_000, 10_000, clear)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault, and how often it strikes in the worst run: times a minute."""

    name: str
    strike: Strike
    most_a_minute: int


KINDS: Final = (
    Kind("kill", kill, 6),
    Kind("cut", cut_links, 6),
    Kind("isolate", isolate, 3),
    Kind("halve", halve, 3),
    Kind("backup", restore_backup, 1),
    Kind("mark", lose_mark, 1),
    Kind("clock", set_clock, 3),
    Kind("forget", drop_native, 6),
    Kind("fail", end_native, 6),
    Kind("pause", pause, 3),
    Kind("cancel", cancel, 3),
    Kind("weather", bad_weather, 2),
)
"""Every kind of fault. A run draws the rate of each anew, and leaves about half of them out."""
