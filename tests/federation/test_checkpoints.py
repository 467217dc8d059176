"""Centres that computed the same sign the same; one that computes wrongly is named with where."""

from __future__ import annotations

import io

from p2pfed.core.audit import FileSource, Finding, audit_ledger
from p2pfed.core.blocks import decode_stored
from p2pfed.core.charter import encode_charter
from p2pfed.core.checkpoint import TreeHead, decode_trees, encode_trees
from p2pfed.core.ids import CentreName, FeedKey
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.merkle import tree_root
from p2pfed.core.records import Checkpoint, StateDigests
from p2pfed.core.units import HlcTime
from p2pfed.node.node import Node
from p2pfed.simulate.world import World
from tests.federation.scenarios import CALM, Busy, busy_federation


def node_of(world: World, name: CentreName) -> Node:
    node = world.centres[name].node
    assert node is not None
    return node


def federation(jobs: int = 8) -> Busy:
    return busy_federation(3, CALM, jobs)


def test_everybody_signs_the_same_checkpoint_and_it_tells_the_blocks() -> None:
    world = federation()
    world.run(45_000)
    found = {name: node_of(world, name).cosigning.cosigned() for name in world.centres}
    one = next(iter(found.values()))
    assert one is not None
    assert len(one.by) == len(world.centres)
    assert {f.said.statement for f in found.values() if f is not None} == {one.said.statement}
    for name in world.centres:
        node = node_of(world, name)
        assert node.cosigning.warnings() == []
        (record,) = [
            record
            for data in world.centres[name].disk.stored()
            for block in [decode_stored(data)]
            for position, record in zip(block.positions(), block.records, strict=True)
            if position == one.said.position
        ]
        assert isinstance(record, Checkpoint)
        for tree in decode_trees(record.trees):
            ids = [node.ledger.replica.block_id(tree.feed, n) for n in range(tree.size)]
            assert tree.root == tree_root([i for i in ids if i is not None])
            assert tree.block_id == ids[-1]


def test_a_centre_that_computes_wrongly_is_named_with_the_register() -> None:
    """The alarm stands at every centre, the wrong one included, and nothing stops."""
    world = federation()
    world.run(15_000)
    wrong = CentreName("c002")
    accounts = node_of(world, wrong).ledger.view.state.accounts
    accounts.add_offered(CentreName("c000"), "cpu", 19_000, 1)
    world.run(40_000)
    for name in world.centres:
        (warning, *_) = node_of(world, name).cosigning.warnings()
        assert "c000 and c002 computed different states of the same blocks" in warning
        assert "the first difference is amount c000 #0" in warning
    assert any(
        isinstance(record, StateDigests)
        for data in world.centres[wrong].disk.stored()
        for record in decode_stored(data).records
    )
    agreed = node_of(world, wrong).cosigning.cosigned()
    assert agreed is not None
    assert len(agreed.by) in (3, 4)
    found = audited(world)
    assert [f.code for f in found] == ["checkpoint-disagreement"] * len(found)
    assert any("different states: amount c000, register 0" in f.text for f in found)


def audited(world: World) -> list[Finding]:
    """What an audit finds in the ledger that the first centre holds."""
    blocks = next(iter(world.centres.values())).disk.blocks
    data = b"".join(write_ledger(encode_charter(world.charter), blocks))
    report = audit_ledger(FileSource(io.BytesIO(data)), expected=world.federation.id)
    return [f for f in report.ledger.findings if f.code.startswith("checkpoint")]


def test_an_audit_computes_each_root_again() -> None:
    world = federation()
    world.run(25_000)
    assert audited(world) == []
    liar = node_of(world, CentreName("c001"))
    feed = FeedKey(CentreName("c000"), 0)
    block_id = liar.ledger.replica.block_id(feed, 1)
    assert block_id is not None
    time = liar.ledger.replica.time_of(feed, 1)
    assert time is not None
    key, other = (world.centres[CentreName(name)].public_key for name in ("c000", "c001"))
    lies = [
        TreeHead(feed, 2, block_id, bytes(32), time, key),
        TreeHead(feed, 1, block_id, bytes(32), time, key),
        TreeHead(feed, 2, block_id, bytes(32), HlcTime(time + 1), key),
        TreeHead(feed, 2, block_id, bytes(32), time, other),
    ]
    for size, lie in enumerate(lies, start=1):
        false = encode_trees([lie])
        liar.ledger.write(Checkpoint(cut_ms=size, trees=false, state_hash=bytes(32)), world.now_ms)
    world.run(5_000)
    found = audited(world)
    assert [f.code for f in found] == ["checkpoint-false"] * 4
    assert "its root over 2 blocks of c000 is not that of the file" in found[0].text
    assert "its block 0 of c000 is not the one in the file" in found[1].text
    assert "block 1 of c000 has another time in the file" in found[2].text
    assert "another key than it says signs what follows block 1 of c000" in found[3].text
