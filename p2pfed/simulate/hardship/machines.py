"""Faults of machines: power, disks, backups, clocks."""

from __future__ import annotations

from p2pfed.node.effects import StoredBlock
from p2pfed.node.events import ClockStepped
from p2pfed.simulate.hardship.strikes import for_a_while, somebody
from p2pfed.simulate.scene import Centre
from p2pfed.simulate.world import World


def kill(world: World) -> None:
    """A daemon is killed and started again."""
    world.crash(somebody(world).name)


def away(world: World) -> None:
    """A daemon is down for longer than a lease; what it started runs on."""
    world.crash(somebody(world).name, down_ms=world.rng.randint(10_000, 45_000))


def kill_again(world: World) -> None:
    """A daemon is killed, and once more while it starts, cut off from everybody meanwhile."""
    centre = somebody(world)
    others = {name for name in world.centres if name != centre.name}
    world.crash(centre.name, down_ms=300)
    world.network.part({centre.name}, others)
    pairs = {frozenset((centre.name, other)) for other in sorted(others)}

    def again() -> None:
        world.crash(centre.name, down_ms=300)

    def join() -> None:
        world.network.severed -= pairs

    for_a_while(world, 400, 4_000, again)
    for_a_while(world, 4_000, 9_000, join)


def restore_backup(world: World) -> None:
    """A centre comes back with an old copy of its database; its high-water file is intact."""
    centre = somebody(world)
    if all_elsewhere(world, centre):
        _lose_blocks(centre, world)


def lose_mark(world: World) -> None:
    """A centre comes back with an old copy of its database and without its high-water file."""
    centre = somebody(world)
    if _lose_blocks(centre, world):
        centre.disk.mark = None


def lose_disk(world: World) -> None:
    """Everything that a daemon keeps is gone, but for its key; what it started runs on."""
    centre = somebody(world)
    if centre.node is not None and kept_elsewhere(world, centre):
        lose_disk_of(world, centre)


def lose_disk_of(world: World, centre: Centre) -> None:
    """Kills a daemon and empties its disk."""
    world.crash(centre.name, down_ms=1_000)
    disk = centre.disk
    disk.blocks.clear()
    disk.local.clear()
    disk.payloads.clear()
    disk.mark, disk.snapshot = None, None


def _lose_blocks(centre: Centre, world: World) -> bool:
    """Kills a daemon and sets its database back; True if it was done."""
    blocks = centre.disk.blocks
    if centre.node is None or len(blocks) < 8 or not kept_elsewhere(world, centre):
        return False
    world.crash(centre.name, down_ms=1_000)
    kept = world.rng.randint(len(blocks) // 2, len(blocks) - 1)
    del blocks[kept:]
    return True


def kept_elsewhere(world: World, centre: Centre) -> bool:
    """Whether what this one would lose can be had from others, or is owed to nobody.

    What no other centre holds must be no word to a user: nothing could bring that back. The rest of
    it (that a job was started, say) is what a centre has to be careful about afterwards.
    """
    lost = _nowhere_else(world, centre)
    if not centre.disk.blocks or world.checks.bound_by(lost):
        return False
    world.checks.unsaid(lost)
    return True


def all_elsewhere(world: World, centre: Centre) -> bool:
    """Whether others hold all that this one wrote: what its high-water file names it must have."""
    return not _nowhere_else(world, centre)


def _nowhere_else(world: World, centre: Centre) -> list[StoredBlock]:
    others = [other for other in world.honest() if other is not centre]
    elsewhere = {block.block_id for other in others for block in other.disk.blocks}
    own = [block for block in centre.disk.blocks if block.feed.centre == centre.name]
    if not all(other.up for other in others):
        return own  # who takes blocks back himself may be the one that has them
    return [block for block in own if block.block_id not in elsewhere]


def fill_disk(world: World) -> None:
    """A disk takes no writes for a while; the daemon waits for it, and may be killed meanwhile."""
    centre = somebody(world)
    centre.disk.full = True
    for_a_while(world, 500, 12_000, lambda: world.free_disk(centre))


def tear_snapshot(world: World) -> None:
    """The power fails while a snapshot is written: what is left of it is no snapshot."""
    centre = somebody(world)
    data = centre.disk.snapshot
    if centre.node is not None and data:
        world.crash(centre.name)
        cut = world.rng.randrange(len(data))
        centre.disk.snapshot = data[:cut] + bytes(world.rng.choice((0, len(data) - cut)))


def set_clock(world: World) -> None:
    """An administrator sets a clock wrong, and right again."""
    centre = somebody(world)
    by_ms = world.rng.choice((-1, 1)) * world.rng.randint(600, 4_000)
    centre.clock_offset_ms += by_ms
    # Peers measure an offset to half a round trip, of which twice the tolerance is allowed.
    plain = abs(by_ms) > 3 * world.federation.rules.clock_error_ms
    centre.clock_told_wrong = plain and centre.node is not None and not centre.held_up
    world.tell(centre.name, ClockStepped(by_ms=by_ms))

    def mend() -> None:
        centre.clock_offset_ms -= by_ms
        centre.clock_told_wrong = False
        world.tell(centre.name, ClockStepped(by_ms=-by_ms))

    for_a_while(world, 500, 10_000, mend)


def drift(world: World) -> None:
    """A clock runs fast or slow until somebody sets it; nobody is told of the drift."""
    centre = somebody(world)
    if centre.drift_ppm:
        return
    centre.drift_since_ms = world.now_ms
    centre.drift_ppm = world.rng.choice((-1, 1)) * world.rng.randint(2_000, 60_000)

    for_a_while(world, 5_000, 30_000, lambda: end_drift(world, centre))


def end_drift(world: World, centre: Centre) -> None:
    """Somebody sets a clock right that ran away."""
    by_ms = world.offset_ms(centre) - centre.clock_offset_ms
    centre.drift_ppm = 0
    if abs(by_ms) > 50:  # a daemon does not see less
        world.tell(centre.name, ClockStepped(by_ms=-by_ms))
