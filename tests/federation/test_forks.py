"""Centres that write two histories: everybody comes to the same end, and nobody is paid less.

The usual accident is played: a whole machine, high-water file included, is set back to an earlier
moment while no peer can be asked. What it then writes forks its feed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from p2pfed.core.accounting import balance
from p2pfed.core.blocks import decode_stored
from p2pfed.core.branches import Mode
from p2pfed.core.ids import BlockId, CentreName, FeedKey, Head
from p2pfed.core.records import End
from p2pfed.simulate.scene import Centre
from p2pfed.simulate.world import World
from tests.federation.scenarios import CALM, RULES, job, offer

FORKER = CentreName("c000")
FEED = FeedKey(FORKER, 0)


def names(world: World) -> set[CentreName]:
    return set(world.centres)


def founded(seed: int, centres: int) -> World:
    world = World(seed, centres, RULES, CALM)
    assert world.run(30_000, world.all_up)
    for name in sorted(names(world) - {FORKER}):
        world.open_offer(name, offer())
    world.run(5_000)
    return world


def part(world: World, *groups: set[CentreName]) -> None:
    """Only centres of one group reach each other."""
    world.network.severed.clear()
    for number, one in enumerate(groups):
        for other in groups[number + 1 :]:
            world.network.part(one, other)


def fork(
    world: World, first: set[CentreName], second: set[CentreName], *, jobs: bool = False
) -> Centre:
    """The forker writes one branch that `first` sees, is set back, and writes one for `second`."""
    forker = world.centres[FORKER]
    forker.honest = False
    rest = names(world) - {FORKER} - first - second
    snapshot = copy.deepcopy(forker.disk)
    for seen_by, number in ((first, 1), (second, 2)):
        part(world, {FORKER, *seen_by}, names(world) - {FORKER} - seen_by - rest, rest)
        assert world.run(20_000, lambda: forker.up)
        if jobs:
            world.submit(FORKER, job(number))
        world.run(12_000)
        if number == 1:
            part(world, {FORKER}, names(world) - {FORKER})
            world.crash(FORKER, down_ms=1_000)
            forker.disk.blocks, forker.disk.mark = snapshot.blocks, snapshot.mark
            forker.disk.local = snapshot.local
    part(world, names(world))
    return forker


def others(world: World) -> list[Centre]:
    return [world.centres[name] for name in sorted(names(world) - {FORKER})]


def agree(world: World) -> bool:
    """Whether all others stand at one round with one view."""
    seen = {(c.node.rounds.last, c.node.rounds.last_digest) for c in others(world) if c.node}
    return len(seen) == 1


class Found(NamedTuple):
    """What a centre holds to be true about the fork, and all balances."""

    modes: Mapping[BlockId, Mode]
    tips: tuple[tuple[FeedKey, Head], ...]
    suspended: list[CentreName]
    balances: dict[CentreName, int]


def verdicts(world: World) -> list[Found]:
    """What each of the others found."""
    found: list[Found] = []
    for centre in others(world):
        assert centre.node is not None
        view = centre.node.ledger.view
        standings = {c: balance(view.state.standing(c, view.cut_ms)) for c in sorted(names(world))}
        modes = {b: mode for b, mode in view.verdict.modes.items() if mode is not Mode.IGNORED}
        suspended = sorted(view.state.suspended)
        found.append(Found(modes, view.verdict.tips, suspended, standings))
    return found


@pytest.mark.parametrize("centres", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", [1, 2])
def test_who_saw_different_branches_first_comes_to_the_same_view(seed: int, centres: int) -> None:
    world = founded(seed, centres)
    rest = sorted(names(world) - {FORKER})
    middle = (len(rest) + 1) // 2
    fork(world, set(rest[:middle]), set(rest[middle:]))
    assert world.run(60_000, lambda: bool(verdicts(world)[0].suspended) and agree(world))
    first, *more = verdicts(world)
    assert all(verdict == first for verdict in more)
    assert first.suspended == [FORKER]


def test_both_branches_come_to_everybody() -> None:
    world = founded(3, 4)
    one, two, three = sorted(names(world) - {FORKER})
    fork(world, {one}, {two, three})
    assert world.run(60_000, lambda: bool(verdicts(world)[0].suspended) and agree(world))
    world.run(5_000)
    held = [
        {b.block_id for b in centre.disk.blocks if b.feed == FEED and b.seq_num < 12}
        for centre in others(world)
    ]
    assert held[0] == held[1] == held[2]
    sides = [
        [b.block_id for b in c.disk.blocks if b.side and b.feed == FEED] for c in others(world)
    ]
    assert all(sides)


def test_the_branch_that_a_majority_of_the_others_saw_counts() -> None:
    world = founded(4, 4)
    one, two, three = sorted(names(world) - {FORKER})
    fork(world, {one}, {two, three})
    assert world.run(60_000, lambda: bool(verdicts(world)[0].suspended) and agree(world))
    modes = verdicts(world)[0].modes
    (first,) = (c for c in others(world) if c.name == one)
    main = [b for b in first.disk.blocks if b.feed == FEED and not b.side]
    lost = [b.block_id for b in main if modes.get(b.block_id) is Mode.BINDS]
    side = [b.block_id for b in first.disk.blocks if b.feed == FEED and b.side]
    assert lost
    assert any(modes.get(block_id) is Mode.COUNTS for block_id in side)


def test_of_three_that_split_the_feed_counts_up_to_the_branch_point() -> None:
    world = founded(5, 3)
    one, two = sorted(names(world) - {FORKER})
    fork(world, {one}, {two})
    assert world.run(60_000, lambda: bool(verdicts(world)[0].suspended) and agree(world))
    modes = verdicts(world)[0].modes
    held = {b.block_id: b.seq_num for c in others(world) for b in c.disk.blocks if b.feed == FEED}
    counted = {held[b] for b, mode in modes.items() if mode is Mode.COUNTS}
    bound = [held[b] for b, mode in modes.items() if mode is Mode.BINDS]
    assert counted
    assert min(bound) == max(counted) + 1
    assert len(bound) > len(set(bound))


def test_a_job_handed_over_on_a_lost_branch_is_paid_for() -> None:
    """Invariant 7 on a fork: both hosts ran a job of the forker, and both are owed for it."""
    world = founded(6, 4)
    one, two, three = sorted(names(world) - {FORKER})
    fork(world, {one}, {two, three}, jobs=True)
    runs = [run for each in world.runs.values() for run in each]
    assert {run.host for run in runs} >= {one}
    assert len({run.host for run in runs}) == 2
    world.run(60_000)
    assert world.run(60_000, lambda: agree(world))
    first, *more = verdicts(world)
    assert all(verdict == first for verdict in more)
    ends = [
        record
        for centre in others(world)
        for stored in centre.disk.blocks
        if stored.feed.centre == centre.name
        for record in decode_stored(stored.data).records
        if isinstance(record, End)
    ]
    assert len(ends) == len(runs)
    for centre in others(world):
        assert centre.node is not None
        state, cut_ms = centre.node.ledger.view.state, centre.node.ledger.view.cut_ms
        assert state.standing(FORKER, cut_ms).usage >= sum(end.core_s for end in ends) > 0


def test_a_restart_with_a_forked_ledger_changes_nothing() -> None:
    world = founded(7, 4)
    one, two, three = sorted(names(world) - {FORKER})
    fork(world, {one}, {two, three}, jobs=True)
    assert world.run(60_000, lambda: bool(verdicts(world)[0].suspended) and agree(world))
    world.run(10_000)
    for name in (one, two, three):
        world.crash(name, down_ms=500)
        assert world.run(30_000, lambda: all(c.up for c in others(world)))
    assert world.run(60_000, lambda: agree(world))
    first, *more = verdicts(world)
    assert all(verdict == first for verdict in more)
    assert first.suspended == [FORKER]
