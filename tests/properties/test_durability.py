"""Invariant 3: what rests on a record happens after the record is on the disk, and so does what
lets it out. Every effect of whole federations under faults is looked at when it is performed."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.blocks import decode_block
from p2pfed.core.ids import BlockId, CentreName, Position, parse_position
from p2pfed.core.records import End, Receipt, Start
from p2pfed.node.effects import (
    AnswerTransfer,
    Effect,
    ForgetClaim,
    ForgetPayload,
    NameHandover,
    Reply,
    Send,
    SendPayload,
    SendResult,
    StoreBlocks,
    SubmitNative,
)
from p2pfed.protocol.framing import FrameReader
from p2pfed.protocol.messages import Blocks, decode_message
from p2pfed.simulate.scene import Centre
from tests.federation.scenarios import UNKIND, Busy, busy_federation


class Witness:
    """What stands on each centre's disk, and what its effects rest on."""

    def __init__(self, world: Busy) -> None:
        self.world = world
        self.seen: set[str] = set()
        self._blocks: dict[CentreName, set[BlockId]] = defaultdict(set)
        self._places: dict[CentreName, set[tuple[str, int, int]]] = defaultdict(set)
        self._said: dict[CentreName, set[tuple[str, Position]]] = defaultdict(set)
        for centre in world.centres.values():
            self._stored(centre, tuple(block.data for block in centre.disk.blocks))
        self._perform = world._perform_one
        world._perform_one = self.look  # type: ignore[method-assign]

    def _stored(self, centre: Centre, datas: tuple[bytes, ...]) -> None:
        for data in datas:
            block = decode_block(data, self.world.federation.id, self.world.federation.keys)
            self._blocks[centre.name].add(block.block_id)
            self._places[centre.name].add((*block.feed, block.seq_num))
            for record in block.records:
                claim_id = getattr(record, "claim_id", None)
                if claim_id is not None:
                    self._said[centre.name].add((type(record).__name__, claim_id))

    def look(self, centre: Centre, effect: Effect) -> bool:
        """Judges an effect in the moment in which it is performed."""
        name, kind = centre.name, type(effect).__name__
        said, blocks = self._said[name], self._blocks[name]
        match effect:
            case StoreBlocks():
                self._stored(centre, tuple(block.data for block in effect.blocks))
                if effect.own_head is not None:
                    assert effect.own_head[1].block_id in blocks, kind
            case Reply() if effect.error is None:
                position = parse_position(effect.result)
                assert position[:3] in self._places[name], kind
            case SubmitNative():
                assert (Start.__name__, effect.claim_id) in said, kind
            case NameHandover():
                assert effect.block_id in blocks, kind
            case AnswerTransfer() if effect.block_id is not None:
                assert effect.block_id in blocks, kind
            case SendPayload():
                assert any(word == "Handover" for word, _ in said), kind
            case SendResult():
                assert (End.__name__, effect.claim_id) in said, kind
            case ForgetClaim():
                over = {"Receipt", "Dispute", "Close", "Release", "Lost"}
                assert any((word, effect.claim_id) in said for word in over), kind
            case ForgetPayload():
                assert any(word == Receipt.__name__ for word, _ in said), kind
            case Send():
                self._check_sent(effect.data, blocks)
        self.seen.add(kind)
        return self._perform(centre, effect)

    def _check_sent(self, data: bytes, blocks: set[BlockId]) -> None:
        for body in FrameReader().feed(data):
            message = decode_message(body)
            if isinstance(message, Blocks):
                self.seen.add("pushed blocks")
                federation = self.world.federation
                for sent in message.blocks:
                    block = decode_block(sent, federation.id, federation.keys)
                    assert block.block_id in blocks, "a block left before it was stored"


@settings(max_examples=6)
@given(st.integers(0, 1 << 32))
def test_invariant_3_whatever_rests_on_a_record_comes_after_it_is_stored(seed: int) -> None:
    world = busy_federation(seed, UNKIND, 10)
    Witness(world)
    world.run(40_000)


def test_the_federations_do_what_the_property_is_about() -> None:
    world = busy_federation(1, UNKIND, 10)
    witness = Witness(world)
    world.run(60_000)
    assert witness.seen >= {
        "StoreBlocks",
        "pushed blocks",
        "Reply",
        "AnswerTransfer",
        "NameHandover",
        "SendPayload",
        "SubmitNative",
        "SendResult",
        "ForgetClaim",
        "ForgetPayload",
    }
