"""A start from a snapshot gives the node that a fold of all blocks gives, or it is not used."""

from __future__ import annotations

import hashlib

import pytest

from p2pfed.core.codec import decode_unchecked, encode
from p2pfed.core.statecodec import dump_state
from p2pfed.node import snapshots
from p2pfed.node.effects import KeepSnapshot
from p2pfed.node.events import Tick
from p2pfed.node.node import Node
from p2pfed.node.recovery import Memory
from p2pfed.node.snapshots import MAGIC
from p2pfed.node.starting import begin
from p2pfed.simulate.world import World
from tests.federation.scenarios import CALM, HOMES, RULES, busy_federation

NAME = HOMES[0]


@pytest.fixture(scope="module")
def world() -> World:
    """A federation at work: some jobs are over, some are not."""
    world = busy_federation(7, CALM, 12)
    world.run(60_000)
    return world


def start(world: World, snapshot: bytes | None) -> tuple[Node, str | None]:
    centre = world.centres[NAME]
    assert centre.node is not None
    me, federation = centre.node.me, centre.node.federation
    policy = centre.node.host.policy
    return begin(
        lambda: Node(me, federation, policy, world.rng, centre.disk), centre.disk, snapshot
    )


def told(node: Node, now_ms: int) -> object:
    """All that a node knows of the federation after its next round."""
    node.start(Memory.SURE, None, now_ms)
    node.handle([Tick()], now_ms + 2 * RULES.round_ms)
    ledger = node.ledger
    live = {key: (entry, ledger.live.judge(entry)) for key, entry in ledger.live.jobs.items()}
    return (
        dump_state(ledger.view.state),
        ledger.replica.frontier(),
        {key: ledger.live.claims[key] for key in sorted(ledger.live.claims)},
        {key: live[key] for key in sorted(live)},
        ledger.live.contacts,
        node.rounds.last_digest,
    )


def test_a_start_from_a_snapshot_and_one_from_the_first_block_are_one(world: World) -> None:
    snapshot = world.centres[NAME].disk.snapshot
    assert snapshot is not None
    resumed, refusal = start(world, snapshot)
    folded, _ = start(world, None)
    assert refusal is None
    now_ms = world.now_ms + 1_000
    assert told(resumed, now_ms) == told(folded, now_ms)


def resealed(body: object) -> bytes:
    data = encode(body)  # type: ignore[arg-type]
    return MAGIC + hashlib.sha256(data).digest() + data


def body_of(data: bytes) -> list[object]:
    body = decode_unchecked(data[len(MAGIC) + 32 :])
    assert isinstance(body, list)
    return [*body]


def test_a_snapshot_that_was_cut_short_or_changed_is_not_used(world: World) -> None:
    good = world.centres[NAME].disk.snapshot
    assert good is not None
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad in (b"", good[:-1], bytes(flipped), good + b"x", b"x" + good):
        node, refusal = start(world, bad)
        assert refusal is not None
        assert node.ledger.head == start(world, None)[0].ledger.head


def test_a_snapshot_of_another_program_or_federation_is_not_used(world: World) -> None:
    good = world.centres[NAME].disk.snapshot
    assert good is not None
    for index, value in ((0, "0.0.0"), (1, bytes(32))):
        body = body_of(good)
        body[index] = value
        assert start(world, resealed(body))[1] is not None


def test_a_snapshot_that_counts_a_block_we_do_not_hold_is_not_used(world: World) -> None:
    """The ledger came out of an older backup than the snapshot beside it."""
    good = world.centres[NAME].disk.snapshot
    assert good is not None
    body = body_of(good)
    heads = body[2]
    assert isinstance(heads, list)
    body[2] = [[*head[:3], bytes(32)] for head in heads]
    assert start(world, resealed(body))[1] == "it counts a block that is not stored here"


def test_a_state_of_another_form_is_not_used(world: World) -> None:
    good = world.centres[NAME].disk.snapshot
    assert good is not None
    body = body_of(good)
    body[5] = [["job", "alpha", encode([[1, 2, 3]])]]
    node, refusal = start(world, resealed(body))
    assert refusal is not None
    assert node.ledger.view.state.registers.folded


def test_the_live_node_keeps_a_snapshot_now_and_then(world: World) -> None:
    node, _ = start(world, None)
    node.snapshot_every = 1
    node.start(Memory.SURE, None, world.now_ms)
    effects = node.handle([Tick()], world.now_ms + 2 * RULES.round_ms)
    (kept,) = [effect for effect in effects if isinstance(effect, KeepSnapshot)]
    assert start(world, kept.data)[1] is None
    assert snapshots.SNAPSHOT_EVERY > 1
