"""A node answers for the order of its effects."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from p2pfed.core.ids import CentreName
from p2pfed.core.keys import key_id
from p2pfed.core.records import Contact, Offer
from p2pfed.core.rules import Rules
from p2pfed.core.waiting import SeqRange
from p2pfed.node.admission import AdmissionPolicy
from p2pfed.node.effects import CloseLink, Effect, Send
from p2pfed.node.events import (
    LinkBytes,
    LinkId,
    LinkUp,
    OpenOffer,
    RequestId,
    Tick,
)
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.node import Node
from p2pfed.node.recovery import ASK_MS, Memory
from p2pfed.protocol.framing import FrameReader, frame_blocks
from p2pfed.protocol.messages import Want, decode_message
from p2pfed.simulate.disk import Disk
from tests.unit.node.benches import GAMMA, Bench, of_type
from tests.writers import FEDERATION, START_MS, keys_of, private_key, public_key

ALPHA, BETA = CentreName("alpha"), CentreName("beta")
LINK = LinkId(1)
OFFER = Offer(
    resource_class="cpu", nodes=1, cores_per_node=4, memory_mib_per_node=4096, walltime_max_s=3600
)


def make_node(name: CentreName) -> Node:
    """A node that has asked for its peers in vain and may write."""
    federation = Federation(
        id=FEDERATION,
        keys=keys_of(ALPHA, BETA),
        rules=Rules(),
        rules_version=1,
        credit_lines={ALPHA: 1_000, BETA: 1_000},
        addresses={ALPHA: "alpha:1", BETA: "beta:1"},
    )
    me = Identity(
        name=name, signer=private_key(name), kid=key_id(public_key(name)), address=f"{name}:1"
    )
    node = Node(me, federation, AdmissionPolicy(), Random(1), Disk())
    node.start(Memory.SURE, None, START_MS)
    node.handle([Tick()], START_MS + ASK_MS)
    return node


def said(effects: Iterable[Effect]) -> list[str]:
    """The names of the messages that leave on the link, in order."""
    frames = FrameReader().feed(sent(effects))
    return [type(decode_message(frame)).__name__ for frame in frames]


def sent(effects: Iterable[Effect]) -> bytes:
    return b"".join(effect.data for effect in effects if isinstance(effect, Send))


def test_a_block_follows_the_hello_of_its_link() -> None:
    """Also when a link comes up, its peer speaks and a block is written, all in one call."""
    now_ms = START_MS + ASK_MS + 1
    alpha, beta = make_node(ALPHA), make_node(BETA)
    greeting = sent(beta.handle([LinkUp(link=LINK, centre=ALPHA, outbound=False)], now_ms))
    effects = alpha.handle(
        [
            LinkUp(link=LINK, centre=BETA, outbound=True),
            LinkBytes(link=LINK, data=greeting),
            OpenOffer(request=RequestId(1), offer=OFFER),
        ],
        now_ms,
    )
    assert said(effects)[:2] == ["Hello", "FrontierMessage"]
    assert "Blocks" in said(effects)
    answer = beta.handle([LinkBytes(link=LINK, data=sent(effects))], now_ms)
    assert not [effect for effect in answer if isinstance(effect, CloseLink)]


def test_a_forged_block_does_not_stand_in_the_way_of_the_true_one() -> None:
    """Whoever sent it is gone; the next who has the place is asked for it."""
    bench = Bench()
    true = bench.say(bench.beta)
    forged = bytearray(true.data)
    forged[forged.index(true.header.cose) + len(true.header.cose) - 1] ^= 1
    bench.greet(BETA)
    bench.greet(GAMMA, heads=((true.feed, true.head),))
    effects = bench.do(LinkBytes(link=bench.links[BETA], data=frame_blocks([bytes(forged)])))
    assert [e.link for e in of_type(effects, CloseLink)] == [bench.links[BETA]]
    asked = [e.data for e in of_type(effects, Send) if e.link == bench.links[GAMMA]]
    messages = [decode_message(body) for body in FrameReader().feed(b"".join(asked))]
    assert Want((SeqRange(true.feed, 0, 0),)) in messages
    bench.arrive(true, sender=GAMMA)
    assert bench.node.ledger.replica.head(true.feed) == true.head


def test_an_address_that_our_administrator_set_is_not_replaced_by_an_announced_one() -> None:
    bench = Bench(pinned=frozenset({BETA}))
    bench.greet()
    bench.arrive(bench.say(bench.beta, Contact(address="elsewhere:9")))
    bench.arrive(bench.say(bench.gamma, Contact(address="moved:9")), sender=GAMMA)
    assert bench.node.host.address(GAMMA) == "moved:9"
    assert bench.node.host.address(BETA) == "beta:1"
    dialled = {peer.centre: peer.address for peer in bench.node.gossip.peer_status()}
    assert dialled == {BETA: "beta:1", GAMMA: "moved:9"}
