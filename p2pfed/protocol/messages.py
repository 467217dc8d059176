"""What two daemons say to each other: ten messages, each one frame.

A message on the wire is a CBOR map whose key 0 holds its type and whose other keys are the numbers
given below; docs/reference/peer-protocol.md is the normative text. Decoding is strict: a key too
many, a list out of order or a number out of range is the peer's fault. Only Hello may carry keys
that we don't know, so that daemons of different versions can still tell each other so. Whether a
message may be said *now* is the session's business (`p2pfed.protocol.session`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from p2pfed.core.blocks import split_block
from p2pfed.core.codec import decode, encode
from p2pfed.core.cose import cut
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import CENTRE_NAME, BlockId, CentreName, FederationId, FeedKey, Head
from p2pfed.core.limits import (
    BLOCK_BYTES_MAX,
    CENTRES_MAX,
    EPOCH_MAX,
    FRAME_BYTES_MAX,
    HEADER_BYTES_MAX,
    SEQ_NUM_MAX,
)
from p2pfed.core.waiting import BlockRef, SeqRange
from p2pfed.errors import InputError
from p2pfed.protocol.framing import BLOCKS_TYPE, frame, frame_blocks
from p2pfed.protocol.limits import (
    BYE_TEXT_BYTES_MAX,
    FEEDS_MAX,
    PROTOCOL_VERSION,
    SOFTWARE_BYTES_MAX,
    WANT_BLOCKS_MAX,
    WANT_NAMED_MAX,
    WANT_RANGES_MAX,
)

_CODE = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")
_U64_MAX: Final = (1 << 64) - 1

Heads = tuple[tuple[FeedKey, Head], ...]
"""Newest blocks of feeds, ascending by feed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who speaks: 1 version, 2 federation, 3 centre, 4 software, 5 instance.

    `instance` (0..2^64-1) is drawn when a daemon starts: two links of one instance are a
    simultaneous dial, a link of another instance means that the peer was restarted.
    """

    version: int = PROTOCOL_VERSION
    federation: FederationId
    centre: CentreName
    software: str
    instance: int


@dataclass(frozen=True, slots=True)
class FrontierMessage:
    """Everything the speaker holds when the session begins: 1 `[[centre, epoch, seq, id]...]`."""

    heads: Heads


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks as they were received or stored: 1 `[bytes...]`."""

    blocks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Have:
    """Heads that the speaker has newly admitted: 1 `[[centre, epoch, seq, id]...]`."""

    heads: Heads


@dataclass(frozen=True, slots=True)
class Want:
    """Ranges that the speaker asks for: 1 `[[centre, epoch, from, to]...]`."""

    ranges: tuple[SeqRange, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """A question for the time: 1 `sent_ms` by the speaker's clock."""

    sent_ms: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer: 1 the ping's `sent_ms`; by its own clock 2 `received_ms`, 3 `replied_ms`."""

    sent_ms: int
    received_ms: int
    replied_ms: int


@dataclass(frozen=True, slots=True)
class Bye:
    """The speaker closes the connection: 1 code, 2 text for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Linked:
    """To whom the speaker is linked now: 1 `[centre...]`; replaces what it said before."""

    centres: tuple[CentreName, ...]


@dataclass(frozen=True, slots=True)
class WantNamed:
    """Blocks that the speaker asks for by id: 1 `[[centre, epoch, seq, id]...]`.

    Where a feed has branches, a place alone does not say which block is meant.
    """

    refs: tuple[BlockRef, ...]


@dataclass(frozen=True, slots=True)
class Floors:
    """Feeds of which the speaker lacks the oldest blocks, and from which on it has them.

    1 `[[centre, epoch, seq]...]`; replaces what it said before.
    """

    floors: tuple[tuple[FeedKey, int], ...]


Message = (
    Hello | FrontierMessage | Blocks | Have | Want | Ping | Pong | Bye | Linked | WantNamed | Floors
)


# Encoding


def encode_message(message: Message) -> bytes:
    """The frame (for Blocks: the frames) that carries the message."""
    match message:
        case Hello():
            return _framed(
                1,
                message.version,
                message.federation,
                message.centre,
                message.software,
                message.instance,
            )
        case FrontierMessage(heads=heads):
            return _framed(2, _dump_heads(heads))
        case Blocks(blocks=blocks):
            return frame_blocks(blocks)
        case Have(heads=heads):
            return _framed(4, _dump_heads(heads))
        case Want(ranges=ranges):
            return _framed(5, [[r.feed.centre, r.feed.epoch, r.from_seq, r.to_seq] for r in ranges])
        case Ping(sent_ms=sent_ms):
            return _framed(6, sent_ms)
        case Pong(sent_ms=sent_ms, received_ms=received_ms, replied_ms=replied_ms):
            return _framed(7, sent_ms, received_ms, replied_ms)
        case Bye(code=code, text=text):
            return _framed(8, code, text)
        case Linked(centres=centres):
            return _framed(9, [str(centre) for centre in centres])
        case WantNamed(refs=refs):
            return _framed(10, [[*ref.feed, ref.seq_num, ref.block_id] for ref in refs])
        case Floors(floors=floors):
            return _framed(11, [[*feed, seq_num] for feed, seq_num in floors])


def _framed(message_type: int, *values: CborItem) -> bytes:
    return frame(encode({0: message_type, **dict(enumerate(values, 1))}))


def _dump_heads(heads: Heads) -> CborItem:
    return [[feed.centre, feed.epoch, head.seq_num, head.block_id] for feed, head in heads]


# Decoding


def decode_message(body: bytes) -> Message:
    """The message in a frame's body.

    Raises:
        InputError: `protocol-message-unknown` for a type that this version does not know,
            `protocol-message` for a wrong form, `protocol-version` for a Hello of another version,
            and the codec's `cbor-...` codes.
    """
    item = decode(body, limit=FRAME_BYTES_MAX, where="frame")
    if type(item) is not dict:
        raise _bad("a frame", "must be a map")
    message_type = item.get(0)
    if type(message_type) is not int or message_type not in _DECODERS:
        raise InputError("protocol-message-unknown", f"{message_type!r} is not a message type")
    name, fields, decoder = _DECODERS[message_type]
    if item.keys() != set(range(fields + 1)) and not (message_type == 1 and item.keys() >= {0, 1}):
        raise _bad(name, f"must have the keys 0 to {fields}")
    return decoder(item)


def _bad(name: str, problem: str) -> InputError:
    return InputError("protocol-message", f"{name} {problem}")


def _decode_hello(item: Mapping[int, CborItem]) -> Hello:
    version = _integer(item[1], "Hello version")
    if version != PROTOCOL_VERSION:
        raise InputError(
            "protocol-version",
            f"the peer speaks protocol version {version}, we speak {PROTOCOL_VERSION}",
            remedy="run the same release of p2pfed at both centres",
        )
    federation, software = item.get(2), item.get(4)
    if type(federation) is not bytes or len(federation) != 32:
        raise _bad("Hello", "must name a federation of 32 bytes")
    return Hello(
        version=version,
        federation=FederationId(federation),
        centre=_centre(item.get(3), "Hello"),
        software=_line(software, "Hello software", SOFTWARE_BYTES_MAX),
        instance=_integer(item.get(5), "Hello instance"),
    )


def _decode_blocks(item: Mapping[int, CborItem]) -> Blocks:
    blocks = item[1]
    if type(blocks) is not list or not blocks:
        raise _bad("Blocks", "must hold a list of at least one block")
    found: list[bytes] = []
    for block in blocks:
        if type(block) is not bytes or not 0 < len(block) <= BLOCK_BYTES_MAX:
            raise _bad("Blocks", f"must hold byte strings of 1 to {BLOCK_BYTES_MAX} bytes")
        found.append(block)
    return Blocks(tuple(found))


def _decode_have(item: Mapping[int, CborItem]) -> Have:
    heads = _heads(item[1], "Have")
    if not heads:
        raise _bad("Have", "must name at least one head")
    return Have(heads)


def _decode_want(item: Mapping[int, CborItem]) -> Want:
    rows = item[1]
    if type(rows) is not list or not 0 < len(rows) <= WANT_RANGES_MAX:
        raise _bad("Want", f"must hold 1 to {WANT_RANGES_MAX} ranges")
    ranges: list[SeqRange] = []
    blocks = 0
    for row in rows:
        if type(row) is not list or len(row) != 4:
            raise _bad("Want", "must hold ranges [centre, epoch, from, to]")
        feed = _feed(row, "Want")
        first, last = _integer(row[2], "Want", SEQ_NUM_MAX), _integer(row[3], "Want", SEQ_NUM_MAX)
        if last < first:
            raise _bad("Want", f"asks for blocks {first} to {last}")
        if ranges and (ranges[-1].feed, ranges[-1].to_seq) >= (feed, first):
            raise _bad("Want", "must hold ascending ranges that do not overlap")
        ranges.append(SeqRange(feed, first, last))
        blocks += last - first + 1
    if blocks > WANT_BLOCKS_MAX:
        raise _bad("Want", f"asks for {blocks} blocks, at most {WANT_BLOCKS_MAX} are allowed")
    return Want(tuple(ranges))


def _decode_pong(item: Mapping[int, CborItem]) -> Pong:
    sent, received, replied = (_integer(item[number], "Pong") for number in (1, 2, 3))
    if replied < received:
        raise _bad("Pong", "must not be replied before it was received")
    return Pong(sent, received, replied)


def _decode_bye(item: Mapping[int, CborItem]) -> Bye:
    code = item[1]
    if type(code) is not str or not _CODE.match(code):
        raise _bad("Bye", "must have a code of lower-case letters, digits and hyphens")
    return Bye(code, _line(item[2], "Bye", BYE_TEXT_BYTES_MAX))


def _decode_linked(item: Mapping[int, CborItem]) -> Linked:
    names = item[1]
    if type(names) is not list or len(names) > CENTRES_MAX:
        raise _bad("Linked", f"must hold at most {CENTRES_MAX} centres")
    centres = tuple(_centre(name, "Linked") for name in names)
    if any(not a < b for a, b in pairwise(centres)):
        raise _bad("Linked", "must hold centres in ascending order")
    return Linked(centres)


def _decode_want_named(item: Mapping[int, CborItem]) -> WantNamed:
    rows = item[1]
    if type(rows) is not list or not 0 < len(rows) <= WANT_NAMED_MAX:
        raise _bad("WantNamed", f"must hold 1 to {WANT_NAMED_MAX} blocks")
    refs = tuple(BlockRef(feed, *head) for feed, head in (_head(row, "WantNamed") for row in rows))
    if any(not a < b for a, b in pairwise(refs)):
        raise _bad("WantNamed", "must hold blocks in ascending order")
    return WantNamed(refs)


def _decode_floors(item: Mapping[int, CborItem]) -> Floors:
    rows = item[1]
    if type(rows) is not list or len(rows) > FEEDS_MAX:
        raise _bad("Floors", f"must hold at most {FEEDS_MAX} feeds")
    floors: list[tuple[FeedKey, int]] = []
    for row in rows:
        if type(row) is not list or len(row) != 3:
            raise _bad("Floors", "must hold places [centre, epoch, seq_num]")
        floors.append((_feed(row, "Floors"), _integer(row[2], "Floors", SEQ_NUM_MAX)))
    if any(not a[0] < b[0] for a, b in pairwise(floors)):
        raise _bad("Floors", "must hold feeds in ascending order")
    return Floors(tuple(floors))


_DECODERS: Final[dict[int, tuple[str, int, Callable[[Mapping[int, CborItem]], Message]]]] = {
    1: ("Hello", 5, _decode_hello),
    2: ("Frontier", 1, lambda item: FrontierMessage(_heads(item[1], "Frontier"))),
    BLOCKS_TYPE: ("Blocks", 1, _decode_blocks),
    4: ("Have", 1, _decode_have),
    5: ("Want", 1, _decode_want),
    6: ("Ping", 1, lambda item: Ping(_integer(item[1], "Ping"))),
    7: ("Pong", 3, _decode_pong),
    8: ("Bye", 2, _decode_bye),
    9: ("Linked", 1, _decode_linked),
    10: ("WantNamed", 1, _decode_want_named),
    11: ("Floors", 1, _decode_floors),
}


def _integer(item: CborItem, name: str, high: int = _U64_MAX) -> int:
    if type(item) is not int or not 0 <= item <= high:
        raise _bad(name, f"must be an integer from 0 to {high}")
    return item


def _centre(item: CborItem, name: str) -> CentreName:
    if type(item) is not str or not CENTRE_NAME.match(item):
        raise _bad(name, "must name centres in the agreed form")
    return CentreName(item)


def _line(item: CborItem, name: str, high: int) -> str:
    if type(item) is not str or len(item.encode()) > high or not item.isprintable():
        raise _bad(name, f"must have a printable text of at most {high} bytes")
    return item


def _feed(row: list[CborItem], name: str) -> FeedKey:
    return FeedKey(_centre(row[0], name), _integer(row[1], name, EPOCH_MAX))


def _heads(rows: CborItem, name: str) -> Heads:
    if type(rows) is not list or len(rows) > FEEDS_MAX:
        raise _bad(name, f"must hold at most {FEEDS_MAX} heads")
    heads: list[tuple[FeedKey, Head]] = []
    for row in rows:
        feed, head = _head(row, name)
        if heads and heads[-1][0] >= feed:
            raise _bad(name, "must hold heads in ascending order of their feeds")
        heads.append((feed, head))
    return tuple(heads)


def _head(row: CborItem, name: str) -> tuple[FeedKey, Head]:
    if type(row) is not list or len(row) != 4:
        raise _bad(name, "must hold heads [centre, epoch, seq_num, block id]")
    feed = _feed(row, name)
    block_id = row[3]
    if type(block_id) is not bytes or len(block_id) != 32:
        raise _bad(name, "must hold block ids of 32 bytes")
    return feed, Head(_integer(row[2], name, SEQ_NUM_MAX), BlockId(block_id))


# Blocks, as far as a session looks into them


def claimed_ref(data: bytes) -> BlockRef:
    """The place and the id that a received block claims for itself, before any verification.

    It serves to tell what was asked for from what was not. Whoever admits the block verifies it.

    Raises:
        InputError: `protocol-block`, `protocol-message`, and the `block-...`, `cose-...`
            and `cbor-...` codes of a block's outer form.
    """
    payload = cut(split_block(data)[0])[1]
    header = decode(payload, limit=HEADER_BYTES_MAX, where="block")
    if type(header) is not dict:
        raise InputError("protocol-block", "a block's header is not a map")
    feed = _feed([header.get(1), header.get(2)], "a block")
    seq_num = _integer(header.get(3), "a block", SEQ_NUM_MAX)
    return BlockRef(feed, seq_num, BlockId(hashlib.sha256(payload).digest()))


def sorted_heads(heads: Mapping[FeedKey, Head] | Iterable[tuple[FeedKey, Head]]) -> Heads:
    """The heads in the order that messages have them."""
    items = heads.items() if isinstance(heads, Mapping) else heads
    return tuple(sorted(items))
