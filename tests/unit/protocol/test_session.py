"""Two sessions and a wire: the tests read as dialogues."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.core.blocks import Block
from p2pfed.core.codec import encode
from p2pfed.core.ids import CentreName, FederationId, FeedKey, Frontier, Head
from p2pfed.core.waiting import SeqRange
from p2pfed.errors import InputError, StateError
from p2pfed.protocol.framing import frame, frame_blocks
from p2pfed.protocol.limits import (
    FEEDS_MAX,
    HELLO_BYTES_MAX,
    PING_BURST_MAX,
    PUSH_LAG_BLOCKS_MAX,
    REPEATED_BLOCKS_MAX,
    STALE_HEADS_MAX,
    WANT_BLOCKS_MAX,
    WANT_RANGES_MAX,
)
from p2pfed.protocol.messages import (
    Blocks,
    Bye,
    FrontierMessage,
    Have,
    Hello,
    Message,
    Ping,
    Pong,
    Want,
    encode_message,
)
from p2pfed.protocol.session import (
    MOVES,
    Answer,
    BlocksCame,
    BlocksWanted,
    HeadsHeard,
    LinkedHeard,
    OffsetMeasured,
    PeerLeft,
    PeerNamed,
    Session,
    SessionEvent,
    State,
)
from tests.writers import FEDERATION, Writer, some_id

ALPHA, BETA, GAMMA = CentreName("alpha"), CentreName("beta"), CentreName("gamma")
FEED_A, FEED_B, FEED_C = FeedKey(ALPHA, 0), FeedKey(BETA, 0), FeedKey(GAMMA, 0)


def head(seq_num: int) -> Head:
    return Head(seq_num, some_id(str(seq_num)))


def pair(a_has: Frontier | None = None, b_has: Frontier | None = None) -> tuple[Session, Session]:
    """Alpha's session with beta and beta's with alpha, both open."""
    a = Session(ALPHA, BETA, FEDERATION, 1)
    b = Session(BETA, ALPHA, FEDERATION, 2)
    from_a, from_b = a.open(a_has or {}), b.open(b_has or {})
    b.receive(from_a, 0)
    a.receive(from_b, 0)
    return a, b


def hello(
    *, federation: FederationId = FEDERATION, centre: CentreName = BETA, instance: int = 2
) -> bytes:
    return encode_message(
        Hello(federation=federation, centre=centre, software="test", instance=instance)
    )


def said(session: Session, data: bytes, now_ms: int = 0) -> list[SessionEvent]:
    return session.receive(data, now_ms)


def blocks_of(name: str, count: int) -> list[Block]:
    writer = Writer(name)
    return [writer.write() for _ in range(count)]


# Opening


def test_both_speak_at_once_and_then_know_each_other() -> None:
    a = Session(ALPHA, BETA, FEDERATION, 1)
    b = Session(BETA, ALPHA, FEDERATION, 2)
    from_a, from_b = a.open({FEED_A: head(3)}), b.open({})
    named, heard = said(b, from_a)
    assert isinstance(named, PeerNamed)
    assert named.instance == 1
    assert heard == HeadsHeard(((FEED_A, head(3)),), first=True)
    assert (a.ready, b.ready) == (False, True)
    said(a, from_b)
    assert (a.ready, b.ready) == (True, True)
    assert b.peer_has(FEED_A) == 3
    assert a.peer_has(FEED_A) == -1


def test_a_session_is_opened_once() -> None:
    a, _ = pair()
    with pytest.raises(StateError):
        a.open({})


@given(seed=st.integers(0, 1 << 20))
def test_how_the_wire_cuts_changes_nothing(seed: int) -> None:
    whole, pieces = pair()[0], pair()[0]
    block = blocks_of("beta", 1)[0]
    stream = b"".join(
        encode_message(message)
        for message in (
            Have(((FEED_C, head(4)),)),
            Blocks((block.data,)),
            Ping(5),
            Want((SeqRange(FEED_A, 0, 2),)),
            Bye("shutdown", ""),
        )
    )
    rng, found = Random(seed), list[SessionEvent]()
    at = 0
    while at < len(stream):
        size = rng.randint(1, 40)
        found += said(pieces, stream[at : at + size])
        at += size
    assert found == said(whole, stream)
    assert not pieces.listens()


# Blocks


def test_an_author_pushes_and_nobody_announces_it_back() -> None:
    a, b = pair()
    (block,) = blocks_of("alpha", 1)
    (came,) = said(b, a.push(FEED_A, 0, block.data))
    assert isinstance(came, BlocksCame)
    assert [data for _, data in came.blocks] == [block.data]
    assert b.announce([(FEED_A, block.head)]) == b""
    assert a.announce([(FEED_A, block.head)]) == b""


def test_who_hears_of_a_block_asks_for_it_and_gets_it_once() -> None:
    blocks = blocks_of("gamma", 3)
    a, b = pair()
    (heard,) = said(b, a.announce([(FEED_C, blocks[2].head)]))
    assert heard == HeadsHeard(((FEED_C, blocks[2].head),), first=False)
    (wanted,) = said(a, b.want([SeqRange(FEED_C, 0, 2)]))
    assert isinstance(wanted, BlocksWanted)
    served = a.serve(wanted.ranges, {FEED_C: blocks[2].head})
    assert served == (SeqRange(FEED_C, 0, 2),)
    (came,) = said(b, frame_blocks(block.data for block in blocks))
    assert isinstance(came, BlocksCame)
    assert len(came.blocks) == 3
    assert b.announce([(FEED_C, blocks[2].head)]) == b""


def test_what_was_announced_is_not_announced_again() -> None:
    a, _ = pair()
    assert a.announce([(FEED_C, head(5))])
    assert a.announce([(FEED_C, head(5))]) == b""
    assert a.announce([(FEED_C, head(6))])


def test_only_what_is_held_is_served() -> None:
    a, _ = pair()
    ranges = [SeqRange(FEED_C, 3, 9), SeqRange(FEED_B, 0, 0)]
    assert a.serve(ranges, {FEED_C: head(5)}) == (SeqRange(FEED_C, 3, 5),)


def test_a_want_too_large_for_one_message_is_several() -> None:
    a, b = pair()
    ranges = [SeqRange(FEED_C, 2 * n, 2 * n) for n in range(WANT_RANGES_MAX + 1)]
    ranges.append(SeqRange(FEED_B, 0, WANT_BLOCKS_MAX - 1))
    wants = said(a, b.want(ranges))
    assert sorted(r for w in wants if isinstance(w, BlocksWanted) for r in w.ranges) == (
        sorted(ranges)
    )


def test_who_is_far_behind_is_told_of_new_blocks_until_it_has_caught_up() -> None:
    far = PUSH_LAG_BLOCKS_MAX + 10
    a, b = pair({FEED_A: head(far)})
    assert not a.takes_push(FEED_A)
    assert a.announce([(FEED_A, head(far + 1))])
    (wanted,) = said(a, b.want([SeqRange(FEED_A, 0, 20)]))
    assert isinstance(wanted, BlocksWanted)
    a.serve(wanted.ranges, {FEED_A: head(far + 1)})
    assert a.takes_push(FEED_A)


def test_nothing_is_pushed_before_the_peers_frontier_is_known() -> None:
    a = Session(ALPHA, BETA, FEDERATION)
    a.open({})
    assert not a.takes_push(FEED_A)


# Time


def test_a_ping_measures_the_offset_of_the_clocks() -> None:
    a, b = pair()
    (answer,) = said(b, a.ping(1_000), now_ms=51_010)
    assert isinstance(answer, Answer)
    assert said(a, answer.data, now_ms=1_020) == [OffsetMeasured(50_000, 20)]


def test_a_clock_set_back_meanwhile_gives_no_measure() -> None:
    a, b = pair()
    (answer,) = said(b, a.ping(1_000), now_ms=1_000)
    assert isinstance(answer, Answer)
    assert said(a, answer.data, now_ms=400) == []


def test_an_unanswered_ping_is_counted_and_not_repeated() -> None:
    a, b = pair()
    first = a.ping(0)
    assert a.ping(10) == b""
    assert a.pings_missed == 1
    (answer,) = said(b, first)
    assert isinstance(answer, Answer)
    said(a, answer.data, now_ms=20)
    assert a.pings_missed == 0
    assert a.ping(30)


def test_pings_in_their_time_are_answered_for_ever() -> None:
    _, b = pair()
    for second in range(5 * PING_BURST_MAX):
        said(b, encode_message(Ping(second)), now_ms=second * 1000)


def test_a_busy_listener_takes_pings_that_came_unevenly_for_what_they_are() -> None:
    _, b = pair()
    for turn in range(30 * PING_BURST_MAX):  # three in three seconds, read when it gets to it
        for late_ms in (1_500, 3_000, 3_000):
            heard_ms = turn * 3_000 + late_ms
            said(b, encode_message(Ping(heard_ms)), now_ms=heard_ms)


def test_a_clock_set_back_does_not_make_pings_a_flood() -> None:
    _, b = pair()
    for second in range(1_000_000, 1_000_000 - PING_BURST_MAX // 2, -1):
        said(b, encode_message(Ping(0)), now_ms=second * 1000)
    said(b, encode_message(Ping(0)), now_ms=999_999_000)


# Leaving


def test_after_a_bye_nothing_means_anything() -> None:
    a, b = pair()
    assert said(b, a.bye("shutdown", "bad \x1b text" + "ü" * 300) + a.linked([])) == [
        PeerLeft("shutdown", "bad ? text" + "ü" * 123)
    ]
    assert said(b, b"\x00\x00\x00\x00") == []


def test_the_peers_links_are_heard_of() -> None:
    a, b = pair()
    assert said(b, a.linked([GAMMA, BETA])) == [LinkedHeard((BETA, GAMMA))]


# Breaches


def table_of(messages: dict[str, tuple[bytes, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("data", "code"), messages.values(), ids=messages.keys())


@table_of(
    {
        "another federation": (
            hello(federation=FederationId(bytes(32))),
            "protocol-federation",
        ),
        "another centre than its key says": (hello(centre=GAMMA), "protocol-centre"),
        "another version": (frame(encode({0: 1, 1: 99})), "protocol-version"),
        "a block before Hello": (frame_blocks([b"block"]), "protocol-order"),
        "its frontier before Hello": (encode_message(FrontierMessage(())), "protocol-order"),
        "Hello twice": (hello() + hello(), "protocol-order"),
        "a ping before its frontier": (hello() + encode_message(Ping(1)), "protocol-order"),
        "a huge Hello": ((HELLO_BYTES_MAX + 1).to_bytes(4, "big"), "protocol-frame-too-long"),
        "no frame": (bytes(4), "protocol-frame-empty"),
        "no CBOR": (frame(b"\xff"), "cbor-malformed"),
    }
)
def test_who_opens_badly_is_refused(data: bytes, code: str) -> None:
    a = Session(ALPHA, BETA, FEDERATION)
    a.open({})
    with pytest.raises(InputError) as caught:
        said(a, data)
    assert caught.value.code == code
    assert caught.value.where
    assert not a.listens()


BETA_BLOCKS = blocks_of("beta", 2)
GAMMA_BLOCK = blocks_of("gamma", 1)[0]


def messages(*several: Message) -> bytes:
    return b"".join(map(encode_message, several))


@table_of(
    {
        "a frontier again": (messages(FrontierMessage(())), "protocol-order"),
        "a block nobody asked for": (
            messages(Blocks((GAMMA_BLOCK.data,))),
            "protocol-block-unasked",
        ),
        "its own block twice": (
            messages(Blocks((BETA_BLOCKS[0].data, BETA_BLOCKS[0].data))),
            "protocol-block-unasked",
        ),
        "its own block late": (
            messages(Blocks((BETA_BLOCKS[1].data, BETA_BLOCKS[0].data))),
            "protocol-block-unasked",
        ),
        "what is no block": (messages(Blocks((b"block",))), "block-form"),
        "a pong to no ping": (messages(Pong(1, 2, 3)), "protocol-pong"),
        "pings without pause": (messages(*[Ping(1)] * (PING_BURST_MAX + 1)), "protocol-ping-flood"),
        "the same head again and again": (
            messages(*[Have(((FEED_C, head(1)),))] * (STALE_HEADS_MAX + 2)),
            "protocol-have-stale",
        ),
        "heads of feeds without end": (
            messages(
                *[
                    Have(tuple((FeedKey(centre, epoch), head(1)) for epoch in range(FEEDS_MAX)))
                    for centre in (BETA, GAMMA)
                ]
            ),
            "protocol-feeds",
        ),
    }
)
def test_who_breaks_a_rule_of_the_open_session_is_refused(data: bytes, code: str) -> None:
    a, _ = pair()
    with pytest.raises(InputError) as caught:
        said(a, data)
    assert caught.value.code == code
    assert not a.listens()


@pytest.mark.parametrize(
    ("held", "times"),
    [({FEED_C: head(WANT_BLOCKS_MAX)}, 2), ({}, 1)],
    ids=["what it was sent", "what nobody has"],
)
def test_asking_again_and_again_is_bounded(held: Frontier, times: int) -> None:
    a, _ = pair()
    wanted = [SeqRange(FEED_C, 0, REPEATED_BLOCKS_MAX - 1)]
    for _ in range(times):
        a.serve(wanted, held)
    with pytest.raises(InputError) as caught:
        a.serve(wanted, held)
    assert caught.value.code == "protocol-want-repeated"


def test_the_table_of_moves_is_closed() -> None:
    assert set(MOVES) == set(State)
    assert MOVES[State.CLOSED] == {}
    assert all(moves[Bye] is State.CLOSED for state, moves in MOVES.items() if moves)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5), st.booleans())
def test_any_bytes_are_understood_or_the_peers_fault(bodies: list[bytes], framed: bool) -> None:
    a, _ = pair()
    try:
        said(a, b"".join(frame(body) if framed else body for body in bodies))
    except InputError:
        assert not a.listens()
