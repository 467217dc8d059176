from __future__ import annotations

import re
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.core.codec import encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import BlockId, CentreName, FederationId, FeedKey, Head
from p2pfed.core.waiting import BlockRef, SeqRange
from p2pfed.errors import InputError
from p2pfed.protocol.framing import FrameReader
from p2pfed.protocol.limits import FEEDS_MAX, WANT_BLOCKS_MAX, WANT_NAMED_MAX, WANT_RANGES_MAX
from p2pfed.protocol.messages import (
    Blocks,
    Bye,
    Floors,
    FrontierMessage,
    Have,
    Hello,
    Linked,
    Message,
    Ping,
    Pong,
    Want,
    WantNamed,
    claimed_ref,
    decode_message,
    encode_message,
)
from p2pfed.protocol.session import MOVES
from tests.writers import FEDERATION, Writer, some_id

ALPHA = FeedKey(CentreName("alpha"), 0)
BETA = FeedKey(CentreName("beta"), 2)
HEADS = ((ALPHA, Head(7, BlockId(bytes(32)))), (BETA, Head(0, BlockId(b"x" * 32))))
HELLO = Hello(federation=FEDERATION, centre=ALPHA.centre, software="p2pfed/0.1.0", instance=5)
U64 = st.integers(0, (1 << 64) - 1)


def head(centre: str, seq_num: CborItem = 1) -> list[CborItem]:
    return [centre, 0, seq_num, bytes(32)]


def only_body(data: bytes) -> bytes:
    (body,) = FrameReader().feed(data)
    return body


@pytest.mark.parametrize(
    "message",
    [
        HELLO,
        FrontierMessage(()),
        FrontierMessage(HEADS),
        Blocks((b"one", b"two")),
        Have(HEADS),
        Want((SeqRange(ALPHA, 0, 3), SeqRange(ALPHA, 5, 5), SeqRange(BETA, 1, 9))),
        Ping(12),
        Pong(12, 13, 14),
        Bye("shutdown", "this daemon stops"),
        Linked((ALPHA.centre, BETA.centre)),
        WantNamed((BlockRef(ALPHA, 3, BlockId(bytes(32))), BlockRef(ALPHA, 4, some_id("b")))),
        Floors(()),
        Floors(((ALPHA, 3), (BETA, 4))),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_said_is_understood(message: Message) -> None:
    assert decode_message(only_body(encode_message(message))) == message


MALFORMED: dict[str, tuple[CborItem, str]] = {
    "not a map": ([1], "protocol-message"),
    "without a type": ({1: 5}, "protocol-message-unknown"),
    "of an unknown type": ({0: 23, 1: 5}, "protocol-message-unknown"),
    "of a type that is no number": ({0: True, 1: 5}, "protocol-message-unknown"),
    "a key too many": ({0: 6, 1: 5, 2: 5}, "protocol-message"),
    "a key too few": ({0: 7, 1: 5, 2: 5}, "protocol-message"),
    "a Hello of another version": ({0: 1, 1: 2}, "protocol-version"),
    "a Hello without a centre": ({0: 1, 1: 1, 2: bytes(32)}, "protocol-message"),
    "a Hello with half a federation": (
        {0: 1, 1: 1, 2: bytes(16), 3: "alpha", 4: "x", 5: 1},
        "protocol-message",
    ),
    "a Hello with escape codes": (
        {0: 1, 1: 1, 2: bytes(32), 3: "alpha", 4: "\x1b[2J", 5: 1},
        "protocol-message",
    ),
    "a Hello from a centre with no name": (
        {0: 1, 1: 1, 2: bytes(32), 3: "Alpha!", 4: "x", 5: 1},
        "protocol-message",
    ),
    "heads out of order": ({0: 2, 1: [head("beta"), head("alpha")]}, "protocol-message"),
    "a feed twice": ({0: 2, 1: [head("alpha"), head("alpha", 2)]}, "protocol-message"),
    "a head of three parts": ({0: 2, 1: [["alpha", 0, 1]]}, "protocol-message"),
    "a head with a short id": ({0: 2, 1: [["alpha", 0, 1, bytes(31)]]}, "protocol-message"),
    "a head beyond every feed": ({0: 2, 1: [head("alpha", 1 << 60)]}, "protocol-message"),
    "a negative head": ({0: 2, 1: [head("alpha", -1)]}, "protocol-message"),
    "a boolean head": ({0: 2, 1: [head("alpha", True)]}, "protocol-message"),
    "too many heads": (
        {0: 2, 1: [["alpha", epoch, 1, bytes(32)] for epoch in range(FEEDS_MAX + 1)]},
        "protocol-message",
    ),
    "a Have of nothing": ({0: 4, 1: []}, "protocol-message"),
    "Blocks without blocks": ({0: 3, 1: []}, "protocol-message"),
    "Blocks of text": ({0: 3, 1: ["block"]}, "protocol-message"),
    "Blocks with an empty block": ({0: 3, 1: [b""]}, "protocol-message"),
    "a Want of nothing": ({0: 5, 1: []}, "protocol-message"),
    "a Want that runs backwards": ({0: 5, 1: [["alpha", 0, 5, 4]]}, "protocol-message"),
    "a Want that overlaps itself": (
        {0: 5, 1: [["alpha", 0, 0, 4], ["alpha", 0, 4, 5]]},
        "protocol-message",
    ),
    "a Want out of order": (
        {0: 5, 1: [["beta", 0, 0, 0], ["alpha", 0, 0, 0]]},
        "protocol-message",
    ),
    "a Want for the whole world": (
        {0: 5, 1: [["alpha", 0, 0, WANT_BLOCKS_MAX]]},
        "protocol-message",
    ),
    "a Want of too many ranges": (
        {0: 5, 1: [["alpha", 0, 2 * n, 2 * n] for n in range(WANT_RANGES_MAX + 1)]},
        "protocol-message",
    ),
    "Floors of one feed twice": ({0: 11, 1: [["alpha", 0, 1]] * 2}, "protocol-message"),
    "Floors without places": ({0: 11, 1: [["alpha", 0]]}, "protocol-message"),
    "a WantNamed of nothing": ({0: 10, 1: []}, "protocol-message"),
    "a WantNamed of one block twice": ({0: 10, 1: [head("alpha")] * 2}, "protocol-message"),
    "a WantNamed of too many blocks": (
        {0: 10, 1: [head("alpha", n) for n in range(WANT_NAMED_MAX + 1)]},
        "protocol-message",
    ),
    "a Ping from before time": ({0: 6, 1: -1}, "protocol-message"),
    "a Pong sent before it was asked for": ({0: 7, 1: 0, 2: 9, 3: 8}, "protocol-message"),
    "a Bye in capitals": ({0: 8, 1: "BYE", 2: ""}, "protocol-message"),
    "a Bye with a novel": ({0: 8, 1: "bye", 2: "x" * 257}, "protocol-message"),
    "Linked twice to one centre": ({0: 9, 1: ["alpha", "alpha"]}, "protocol-message"),
}


@pytest.mark.parametrize(("item", "code"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_message_is_the_peers_fault(item: CborItem, code: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_message(encode(item))
    assert caught.value.code == code


BAD_BYTES: dict[str, tuple[bytes, str]] = {
    "a long integer": (bytes.fromhex("a20006011800"), "cbor-not-deterministic"),
    "keys in the wrong order": (bytes.fromhex("a201050006"), "cbor-not-deterministic"),
    "a key twice": (bytes.fromhex("a3000601050105"), "cbor-not-deterministic"),
    "an indefinite map": (bytes.fromhex("bf00060105ff"), "cbor-not-deterministic"),
    "bytes after the message": (encode({0: 6, 1: 5}) + b"\x00", "cbor-trailing"),
    "a float": (cbor2.dumps({0: 6, 1: 5.5}), "cbor-type"),
    "half a message": (encode({0: 6, 1: 5})[:-1], "cbor-malformed"),
}


@pytest.mark.parametrize(("body", "code"), BAD_BYTES.values(), ids=BAD_BYTES.keys())
def test_bytes_that_are_not_in_the_one_form_are_the_peers_fault(body: bytes, code: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_message(body)
    assert caught.value.code == code


def test_a_hello_of_a_later_release_may_say_more() -> None:
    item: CborItem = {0: 1, 1: 1, 2: FEDERATION, 3: "alpha", 4: "p2pfed/0.1.0", 5: 5, 6: "more"}
    assert decode_message(encode(item)) == HELLO


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_the_peers_fault(body: bytes) -> None:
    try:
        message = decode_message(body)
    except InputError:
        return
    assert only_body(encode_message(message)) == body or isinstance(message, Hello)


def test_a_block_says_where_it_belongs() -> None:
    block = Writer("alpha", epoch=3).write()
    assert claimed_ref(block.data) == BlockRef(block.feed, 0, block.block_id)


@given(st.data())
def test_a_damaged_block_says_something_or_is_the_peers_fault(data: st.DataObject) -> None:
    damaged = bytearray(Writer("alpha").write().data)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        claimed_ref(bytes(damaged))
    except InputError:
        return


PAGE = (Path(__file__).parents[3] / "docs/reference/peer-protocol.md").read_text(encoding="utf-8")
EXAMPLES: tuple[Message, ...] = (
    Hello(
        federation=FederationId(bytes(32)),
        centre=ALPHA.centre,
        software="p2pfed/0.1.0",
        instance=5,
    ),
    FrontierMessage(((ALPHA, Head(7, BlockId(bytes(32)))),)),
    Blocks((b"block",)),
    Have(((ALPHA, Head(7, BlockId(bytes(32)))),)),
    Want((SeqRange(ALPHA, 0, 3),)),
    Ping(1000),
    Pong(1000, 1004, 1004),
    Bye("shutdown", "this daemon stops"),
    Linked((ALPHA.centre, BETA.centre)),
    WantNamed((BlockRef(ALPHA, 7, BlockId(bytes(32))),)),
    Floors(((ALPHA, 7),)),
)


def name_of(kind: type[Message]) -> str:
    return kind.__name__.removesuffix("Message")


def test_the_reference_page_shows_a_frame_of_each_message_as_it_is() -> None:
    shown = re.findall(r"^\| (\w+) \| `([0-9a-f]+)` \|$", PAGE, re.MULTILINE)
    assert shown == [(name_of(type(m)), encode_message(m).hex()) for m in EXAMPLES]


def test_the_reference_page_numbers_the_messages_as_they_are() -> None:
    numbered = re.findall(r"^\| (\d+) \| (\w+) \|", PAGE, re.MULTILINE)
    assert numbered == [(str(decode_type(encode_message(m))), name_of(type(m))) for m in EXAMPLES]


def test_the_reference_page_has_the_table_of_moves() -> None:
    stated = re.findall(r"^\| ([a-z-]+) \| ([A-Z]\w+) \| ([a-z-]+) \|$", PAGE, re.MULTILINE)
    assert set(stated) == {
        (state.value, name_of(kind), after.value)
        for state, moves in MOVES.items()
        for kind, after in moves.items()
    }


def decode_type(data: bytes) -> int:
    item = cbor2.loads(only_body(data))
    number = item[0]
    assert isinstance(number, int)
    return number
