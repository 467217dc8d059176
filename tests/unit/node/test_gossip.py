from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from p2pfed.core.ids import CentreName, FederationId, FeedKey
from p2pfed.core.replica import Replica
from p2pfed.core.rules import Rules
from p2pfed.core.units import HlcTime
from p2pfed.core.waiting import SeqRange, block_ref
from p2pfed.errors import InputError
from p2pfed.node.effects import CloseLink, Dial, Effect, Note, Send, SendStored
from p2pfed.node.events import DialFailed, LinkBytes, LinkDown, LinkId, LinkUp
from p2pfed.node.gossip import Gossip
from p2pfed.protocol.framing import FrameReader, frame_blocks
from p2pfed.protocol.limits import FETCH_TIMEOUT_MS, HELLO_TIMEOUT_MS, PENALTY_MS_MIN
from p2pfed.protocol.messages import (
    Bye,
    Have,
    Message,
    Ping,
    Want,
    WantNamed,
    decode_message,
    encode_message,
)
from p2pfed.protocol.session import Answer, Session
from tests.mesh import Mesh, stored
from tests.writers import FEDERATION, START_MS, Writer, keys_of

ALPHA, BETA, GAMMA = CentreName("alpha"), CentreName("beta"), CentreName("gamma")
LINK = LinkId(1)
NAMES = ("alpha", "beta", "gamma")


class Lab:
    """Alpha's gossip, and beta's end of one link played by hand."""

    def __init__(self) -> None:
        self.gossip = Gossip(
            ALPHA, FEDERATION, {BETA: "beta:1", GAMMA: "gamma:1"}, Random(0), Rules()
        )
        self.replica = Replica(FEDERATION, keys_of(*NAMES), 60_000)
        self.beta = Session(BETA, ALPHA, FEDERATION, 7)
        self.now_ms = START_MS

    def up(self, link: LinkId = LINK, *, outbound: bool = True) -> list[Effect]:
        event = LinkUp(link=link, centre=BETA, outbound=outbound)
        return self.gossip.link_up(event, self.now_ms, self.replica.frontier())

    def says(self, data: bytes, link: LinkId = LINK) -> list[Effect]:
        event = LinkBytes(link=link, data=data)
        return list(self.gossip.link_bytes(event, self.now_ms, self.replica).effects)

    def link(self) -> None:
        """A ready link to beta, which has nothing."""
        opening = spoken_bytes(self.up())
        self.says(self.beta.open({}))
        self.beta.receive(opening, self.now_ms)

    def tick(self, after_ms: int = 0) -> list[Effect]:
        self.now_ms += after_ms
        return self.gossip.tick(self.now_ms, self.replica)


def spoken_bytes(effects: list[Effect]) -> bytes:
    return b"".join(e.data for e in effects if isinstance(e, Send))


def spoken(effects: list[Effect]) -> list[Message]:
    return [decode_message(body) for body in FrameReader().feed(spoken_bytes(effects))]


def closed(effects: list[Effect]) -> list[str | None]:
    """Why links are closed: the code of the error, None where nobody is blamed."""
    return [
        e.error.code if e.error is not None else None for e in effects if isinstance(e, CloseLink)
    ]


def test_a_node_that_starts_dials_everybody_it_may() -> None:
    lab = Lab()
    assert lab.tick() == [
        Dial(centre=BETA, address="beta:1"),
        Dial(centre=GAMMA, address="gamma:1"),
    ]
    assert lab.tick() == []


def test_a_new_address_is_dialled_next() -> None:
    lab = Lab()
    lab.gossip.set_address(BETA, "beta:2")
    lab.gossip.set_address(CentreName("stranger"), "stranger:1")
    assert lab.tick()[0] == Dial(centre=BETA, address="beta:2")


def test_a_failed_attempt_is_repeated_and_people_see_why() -> None:
    lab = Lab()
    lab.tick()
    lab.gossip.dial_failed(DialFailed(centre=BETA, why="connection refused"), lab.now_ms)
    status = lab.gossip.peer_status()[0]
    assert (status.state, status.failures, status.error) == ("waiting", 1, "connection refused")
    due_ms = lab.gossip.wake_ms()
    assert due_ms is not None
    assert due_ms == status.next_dial_ms
    assert lab.tick(due_ms - lab.now_ms) == [Dial(centre=BETA, address="beta:1")]


def test_peers_see_each_other_and_their_clocks() -> None:
    mesh = Mesh(NAMES)
    mesh.settle(12_000)
    statuses = mesh.peers[ALPHA].gossip.peer_status()
    assert [(s.centre, s.state, s.offset_ms) for s in statuses] == [
        (BETA, "linked", 0),
        (GAMMA, "linked", 0),
    ]
    assert all(s.software.startswith("p2pfed/") for s in statuses)
    assert mesh.peers[ALPHA].gossip.answered() == {BETA, GAMMA}


def test_a_simultaneous_dial_leaves_one_link() -> None:
    mesh = Mesh(NAMES)
    for name in NAMES:
        for other in NAMES:
            if name != other:
                mesh.perform(CentreName(name), [Dial(centre=CentreName(other), address="")])
    assert len(mesh.wires) == 6
    mesh.flow()
    assert len(mesh.wires) == mesh.linked_pairs() == 3
    assert {(w.dialler, w.answerer) for w in mesh.wires.values()} == {
        (ALPHA, BETA),
        (ALPHA, GAMMA),
        (BETA, GAMMA),
    }


def test_a_restarted_peer_replaces_its_dead_link() -> None:
    lab = Lab()
    lab.link()
    second = LinkId(2)
    lab.up(second, outbound=False)
    restarted = Session(BETA, ALPHA, FEDERATION, 8)
    effects = lab.says(restarted.open({}), second)
    assert [e.link for e in effects if isinstance(e, CloseLink)] == [LINK]
    assert lab.gossip.linked() == (BETA,)


def test_a_block_of_ours_is_pushed_to_everybody_at_once() -> None:
    lab = Lab()
    lab.link()
    block = Writer("alpha").write()
    assert lab.gossip.own_block(stored(block), lab.now_ms) == [
        Send(link=LINK, data=frame_blocks([block.data]))
    ]


def test_a_block_of_ours_that_came_back_from_peers_is_not_pushed() -> None:
    lab = Lab()
    lab.link()
    block = Writer("alpha").write()
    lab.says(lab.beta.announce([(block.feed, block.head)]))
    assert lab.gossip.best_head(block.feed) == block.head
    assert lab.gossip.admitted([stored(block)], lab.now_ms, LINK) == []
    assert lab.gossip.own_block(stored(block), lab.now_ms) == []


def test_a_block_written_while_a_link_opens_is_announced_once_it_is_open() -> None:
    lab = Lab()
    lab.up()
    block = Writer("alpha").write()
    assert lab.gossip.own_block(stored(block), lab.now_ms) == []
    assert Have(((block.feed, block.head),)) in spoken(lab.says(lab.beta.open({})))


def test_others_blocks_are_announced_at_once_to_who_is_not_linked_to_their_author() -> None:
    lab = Lab()
    lab.link()
    block = Writer("gamma").write()
    effects = lab.gossip.admitted([stored(block)], lab.now_ms)
    assert spoken(effects) == [Have(((block.feed, block.head),))]


def test_who_is_linked_to_the_author_is_told_with_the_next_ping() -> None:
    lab = Lab()
    lab.link()
    lab.says(lab.beta.linked([GAMMA]))
    block = Writer("gamma").write()
    assert lab.gossip.admitted([stored(block)], lab.now_ms) == []
    have, ping = spoken(lab.tick(Rules().heartbeat_ms))
    assert have == Have(((block.feed, block.head),))
    assert isinstance(ping, Ping)


def test_who_loses_the_author_is_told_at_once() -> None:
    lab = Lab()
    lab.link()
    lab.says(lab.beta.linked([GAMMA]))
    block = Writer("gamma").write()
    lab.gossip.admitted([stored(block)], lab.now_ms)
    assert spoken(lab.says(lab.beta.linked([]))) == [Have(((block.feed, block.head),))]


def test_what_a_peer_asks_for_is_sent_from_the_store() -> None:
    lab = Lab()
    block = Writer("alpha").write()
    lab.replica.admit(block, lab.now_ms)
    lab.link()
    effects = lab.says(encode_message(Want((SeqRange(block.feed, 0, 0),))))
    assert effects == [SendStored(link=LINK, feed=block.feed, from_seq=0, to_seq=0)]


def test_another_branch_at_a_peer_is_asked_for_so_that_the_fork_can_be_proven() -> None:
    lab = Lab()
    writer = Writer("gamma")
    ours, theirs = writer.branch().write(records=()), writer.branch()
    theirs.time = HlcTime(theirs.time + 5)
    other = theirs.write()
    lab.replica.admit(ours, lab.now_ms)
    lab.up()
    wants = [
        message
        for message in spoken(lab.says(lab.beta.open({other.feed: other.head})))
        if isinstance(message, WantNamed)
    ]
    assert [w.refs for w in wants] == [(block_ref(other),)]


@pytest.mark.parametrize(
    ("opening", "code"),
    {
        "garbage": (b"\x00\x00\x00\x01\xff", "cbor-malformed"),
        "a huge frame": (b"\xff\xff\xff\xff", "protocol-frame-too-long"),
        "a block before Hello": (frame_blocks([b"x"]), "protocol-order"),
        "another federation": (
            Session(BETA, ALPHA, FederationId(bytes(32))).open({}),
            "protocol-federation",
        ),
    }.values(),
)
def test_a_peer_that_breaks_the_protocol_costs_itself_its_connection(
    opening: bytes, code: str
) -> None:
    lab = Lab()
    lab.tick()
    lab.up()
    effects = lab.says(opening)
    assert closed(effects) == [code]
    bye = spoken(effects)[-1]
    assert isinstance(bye, Bye)
    assert bye.code == code
    assert any(isinstance(e, Note) for e in effects)
    assert code in lab.gossip.peer_status()[0].error
    assert closed(lab.up(LinkId(2), outbound=False)) == [None], "and is left alone for a while"
    assert lab.tick(PENALTY_MS_MIN - 1) == []
    assert Dial(centre=BETA, address="beta:1") in lab.tick(1)


def test_a_block_that_the_node_refuses_costs_its_sender_the_connection() -> None:
    lab = Lab()
    lab.link()
    error = InputError("block-signature", "forged")
    assert closed(lab.gossip.misbehaved(LINK, error, lab.now_ms)) == ["block-signature"]
    assert lab.gossip.misbehaved(LINK, error, lab.now_ms) == []


def test_half_a_frame_before_the_end_is_nobodys_fault() -> None:
    lab = Lab()
    lab.link()
    lab.says(b"\x00\x00")
    lab.gossip.link_down(LinkDown(link=LINK), lab.now_ms)
    status = lab.gossip.peer_status()[0]
    assert status.state == "waiting"
    assert status.next_dial_ms is not None
    assert status.next_dial_ms < lab.now_ms + 2_000


def test_a_link_that_says_nothing_is_given_up() -> None:
    lab = Lab()
    lab.tick()
    lab.up()
    assert lab.gossip.wake_ms() == lab.now_ms + HELLO_TIMEOUT_MS
    assert closed(lab.tick(HELLO_TIMEOUT_MS)) == ["protocol-hello-late"]


def test_a_link_that_answers_no_ping_is_given_up() -> None:
    lab = Lab()
    lab.link()
    codes = [closed(lab.tick(Rules().heartbeat_ms)) for _ in range(3)]
    assert codes == [[], [], ["protocol-silent"]]


def test_a_link_on_which_promised_blocks_do_not_come_is_given_up() -> None:
    lab = Lab()
    lab.link()
    block = Writer("gamma").write()
    assert len(spoken(lab.says(lab.beta.announce([(block.feed, block.head)])))) == 1
    codes: list[str | None] = []
    for _ in range(2 * FETCH_TIMEOUT_MS // Rules().heartbeat_ms):
        effects = lab.tick(Rules().heartbeat_ms)
        codes += closed(effects)
        for sent in effects:  # beta is alive and answers pings
            for said in lab.beta.receive(sent.data, 0) if isinstance(sent, Send) else ():
                if isinstance(said, Answer):
                    lab.says(said.data)
    assert codes == ["protocol-fetch-late"]


def test_a_bye_that_blames_us_is_noted_and_one_that_does_not_is_not() -> None:
    for code, notes in (("protocol-version", 1), ("shutdown", 0)):
        lab = Lab()
        lab.link()
        effects = lab.says(lab.beta.bye(code, "text"))
        assert closed(effects) == [None]
        assert sum(isinstance(e, Note) for e in effects) == notes


def test_who_is_no_member_is_turned_away_and_who_leaves_is_closed() -> None:
    lab = Lab()
    stranger = LinkUp(link=LINK, centre=CentreName("stranger"), outbound=False)
    assert closed(lab.gossip.link_up(stranger, lab.now_ms, {})) == [None]
    lab.link()
    assert closed(lab.gossip.set_members({GAMMA: "gamma:1"}, now_ms=lab.now_ms)) == [None]
    assert lab.gossip.linked() == ()


def test_everybody_is_told_when_a_daemon_stops() -> None:
    lab = Lab()
    lab.link()
    assert spoken(lab.gossip.shut_down(lab.now_ms)) == [Bye("shutdown", "this daemon stops")]


def test_an_idle_node_wakes_once_in_a_heartbeat() -> None:
    mesh = Mesh(NAMES)
    mesh.settle(5_000)
    wakes = []
    for _ in range(5):
        due_ms = mesh.peers[ALPHA].gossip.wake_ms()
        assert due_ms is not None
        wakes.append(due_ms)
        mesh.tick(max(0, due_ms - mesh.now_ms))
        mesh.flow()
    assert {b - a for a, b in pairwise(wakes)} == {Rules().heartbeat_ms}


def test_a_clock_that_jumps_costs_no_connection() -> None:
    mesh = Mesh(NAMES)
    mesh.settle(15_000)
    for jump_ms in (3_600_000, -7_200_000):
        mesh.tick(jump_ms)
        mesh.flow()
        mesh.tick()
        mesh.flow()
    assert mesh.linked_pairs() == 3
    assert mesh.past == []


def test_when_an_authors_link_stalls_its_blocks_come_by_another_way() -> None:
    mesh = Mesh(NAMES)
    mesh.settle(5_000)
    stalled = next(w for w in mesh.wires.values() if {w.dialler, w.answerer} == {ALPHA, GAMMA})
    mesh.write("alpha")
    stalled.queues[GAMMA].clear()  # alpha's push is stuck for ever
    mesh.settle(11_000)
    assert mesh.converged()


def test_blocks_of_a_new_member_are_fetched_once_it_is_one() -> None:
    lab = Lab()
    lab.link()
    delta = FeedKey(CentreName("delta"), 0)
    head = Writer("delta").write().head
    assert spoken(lab.says(lab.beta.announce([(delta, head)]))) == []
    members = {BETA: "beta:1", GAMMA: "gamma:1", delta.centre: "delta:1"}
    (want,) = spoken(lab.gossip.set_members(members, now_ms=lab.now_ms))
    assert isinstance(want, Want)
    assert want.ranges[0].feed == delta


def test_a_fork_is_seen_when_its_branches_meet_and_honest_peers_stay_linked() -> None:
    mesh = Mesh(("alpha", "beta"))
    writer = Writer("gamma")
    root = writer.write()
    short, long = writer.branch(), writer.branch()
    long.time = HlcTime(long.time + 5)
    branches = {ALPHA: [root, short.write()], BETA: [root, *(long.write() for _ in range(4))]}
    for name, peer in mesh.peers.items():
        peer.replica.set_keys(keys_of("alpha", "beta", "gamma"))
        peer.gossip.set_members({ALPHA: "", BETA: ""}, now_ms=0, former=[GAMMA])
        for block in branches[name]:
            peer.replica.admit(block, mesh.now_ms)
        peer.keep(branches[name])
    mesh.settle(60_000)
    forked = [peer.replica.forked() for peer in mesh.peers.values()]
    assert (writer.feed,) in forked
    assert mesh.linked_pairs() == 1
    assert mesh.past == []
    assert mesh.crossings_max() <= 1
