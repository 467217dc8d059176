"""A centre begins with a cosigned checkpoint, works at once, and checks the history later."""

from __future__ import annotations

import dataclasses

import pytest

from p2pfed.core.bearings import Bearings, check_bearings
from p2pfed.core.ids import CentreName
from p2pfed.core.statecodec import dump_state, state_hash
from p2pfed.errors import InputError
from p2pfed.node.node import Node
from p2pfed.protocol import fetch
from p2pfed.simulate.disk import Disk
from p2pfed.simulate.scene import Faults
from p2pfed.simulate.world import World
from tests.federation.scenarios import CALM, Busy, busy_federation, job

LATE = CentreName("c003")
FIRST = CentreName("c000")


def node_of(world: World, name: CentreName) -> Node:
    node = world.centres[name].node
    assert node is not None
    return node


def bearings_of(world: World) -> bytes:
    found = world.centres[FIRST].disk.bearings
    assert found
    return found


def grown(jobs: int = 16) -> Busy:
    """A federation with a history and a cosigned checkpoint; the last centre is away since."""
    world = busy_federation(11, CALM, jobs)
    world.run(35_000)
    bearings_of(world)
    return world


def absent(world: Busy) -> None:
    """The last centre's daemon stops and stays away."""
    world.crash(LATE, down_ms=10_000_000)


def stand(world: Busy, bearings: Bearings, *, keep: bool) -> None:
    """The centre comes back and begins with the checkpoint; `keep`: with its old blocks."""
    centre = world.centres[LATE]
    old = centre.disk
    centre.disk = Disk(base=bearings, history=old.blocks if keep else [], mark=old.mark)
    world.boot(LATE)


@pytest.mark.parametrize("keep", [True, False], ids=["long absent", "with an empty disk"])
def test_a_centre_works_before_the_history_is_here_and_then_has_all_of_it(
    keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One block of each feed at a time, over slow links: so that the history takes a while.
    monkeypatch.setattr(fetch, "FEED_WINDOW_BLOCKS_MAX", 1)
    world = grown()
    absent(world)
    world.run(25_000)
    bearings = check_bearings(bearings_of(world), world.charter)
    under = {tree.feed: tree.size for tree in bearings.trees}
    world.faults = Faults(delay_ms=(40, 80))
    stand(world, bearings, keep=keep)
    node = node_of(world, LATE)
    assert not node.past.complete
    request = None

    def has_worked() -> bool:
        nonlocal request
        if world.centres[LATE].up and request is None:
            assert not node.past.complete, "it works only once the history is here"
            request = world.submit(LATE, job(900))
        return request is not None and request in world.centres[LATE].replies

    assert world.run(30_000, has_worked)
    assert world.run(60_000, lambda: node_of(world, LATE).past.complete)
    node = node_of(world, LATE)
    assert node.past.warnings() == []
    replica, other = node.ledger.replica, node_of(world, FIRST).ledger.replica
    assert world.run(20_000, lambda: replica.frontier() == other.frontier())
    for feed, size in under.items():
        ids = [replica.block_id(feed, n) for n in range(size)]
        assert ids == [other.block_id(feed, n) for n in range(size)]
        assert None not in ids
    assert replica.keyring.dump() == other.keyring.dump()
    world.run(2_000)
    same_state(world)
    # The next start needs the checkpoint no more.
    world.crash(LATE, down_ms=100)
    assert world.run(20_000, lambda: world.centres[LATE].up)
    assert node_of(world, LATE).past.complete
    world.run(2_000)
    same_state(world)


def same_state(world: World) -> None:
    """All that stand at one cut hold one state."""
    by_cut: dict[int, set[bytes]] = {}
    for centre in world.centres.values():
        if centre.node is not None:
            state = centre.node.ledger.view.state
            by_cut.setdefault(state.cut_ms, set()).add(state_hash(dump_state(state)))
    assert all(len(hashes) == 1 for hashes in by_cut.values())
    assert max(len([c for c in world.centres.values() if c.node]) - len(by_cut), 0) >= 1


def test_a_restart_half_way_goes_on_with_what_it_has() -> None:
    world = grown()
    absent(world)
    world.run(15_000)
    stand(world, check_bearings(bearings_of(world), world.charter), keep=False)
    total = node_of(world, LATE).past.lacking_blocks
    assert world.run(30_000, lambda: 0 < node_of(world, LATE).past.lacking_blocks < total)
    world.crash(LATE, down_ms=1_000)
    assert world.run(60_000, lambda: bool(world.centres[LATE].up))
    assert world.run(60_000, lambda: node_of(world, LATE).past.complete)
    world.run(2_000)
    same_state(world)


def test_a_state_that_does_not_follow_from_the_history_is_an_alarm() -> None:
    """The members signed the state of other blocks: nobody notices before the history is here."""
    world = grown()
    absent(world)
    world.run(15_000)
    true = check_bearings(bearings_of(world), world.charter)
    amount = next(part for part in true.sections if part.kind == "amount")
    body = bytearray(amount.body)
    body[-1] ^= 1
    sections = tuple(
        part._replace(body=bytes(body)) if part is amount else part for part in true.sections
    )
    false = dataclasses.replace(true, sections=sections, state_hash=state_hash(sections))
    stand(world, false, keep=False)
    assert world.run(
        60_000, lambda: any("contradicts" in w for w in node_of(world, LATE).past.warnings())
    )
    (warning,) = node_of(world, LATE).past.warnings()
    assert f"amount {amount.writer}" in warning
    assert not node_of(world, LATE).past.complete


def test_bearings_that_the_charter_does_not_carry_are_refused() -> None:
    world = grown()
    data = bearings_of(world)
    found = check_bearings(data, world.charter)
    assert len(found.signers) > len(world.centres) // 2
    other = busy_federation(12, CALM, 2).charter
    refused: dict[str, tuple[bytes, object]] = {
        "bearings-form": (b"something else", world.charter),
        "bearings-federation": (data, other),
    }
    for code, (given, charter) in refused.items():
        with pytest.raises(InputError) as caught:
            check_bearings(given, charter)  # type: ignore[arg-type]
        assert caught.value.code == code
    for at in range(40, len(data), max(1, len(data) // 97)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(InputError):
            check_bearings(bytes(changed), world.charter)
