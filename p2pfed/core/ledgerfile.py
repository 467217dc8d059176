"""The ledger as one file: how it is written and how it is read, in one pass each.

    magic     `p2pfed-ledger 1` and a line feed (16 bytes)
    entry     the charter
    entry     a block, as it was received; any number of these, each after every block it names
    end       an empty entry
    entry     the trailer: how many blocks there are, and the frontier

An entry is its length in 4 bytes, big-endian, then that many bytes. The trailer is a deterministic
CBOR map: key 0 the number of blocks, key 1 the frontier, `[centre, epoch, seq_num, block id]` for
each feed in ascending order. It is not signed, for anyone may export: it shows that a file is
whole, while the blocks prove themselves. docs/reference/ledger-file.md is the normative text.

Neither side ever holds more than one block. Reading checks the form of the file alone; what the
blocks say is judged by `p2pfed.core.audit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from p2pfed.core.codec import decode, encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import CENTRE_NAME, BlockId, CentreName, FeedKey, Frontier, Head
from p2pfed.core.limits import (
    BLOCK_BYTES_MAX,
    CHARTER_BYTES_MAX,
    EPOCH_MAX,
    SEQ_NUM_MAX,
)
from p2pfed.errors import InputError

MAGIC: Final = b"p2pfed-ledger 1\n"
LENGTH_BYTES: Final = 4
ENTRY_BYTES_MAX: Final = max(BLOCK_BYTES_MAX, CHARTER_BYTES_MAX)
TRAILER_BYTES_MAX: Final = 1 << 20
"""Room for a head of some 80 bytes in each of 13 000 feeds."""
_END: Final = bytes(LENGTH_BYTES)


class Reader(Protocol):
    """Anything that gives bytes in order: an open file, a socket's file, `io.BytesIO`."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; empty only at the end."""


class ExportedBlock(Protocol):
    """What the writer needs of a block, whatever keeps it."""

    @property
    def feed(self) -> FeedKey:
        """The chain that it belongs to."""

    @property
    def seq_num(self) -> int:
        """Its place in the chain, from 0."""

    @property
    def block_id(self) -> BlockId:
        """The SHA-256 of its header."""

    @property
    def data(self) -> bytes:
        """The bytes as they were received."""


@dataclass(frozen=True, slots=True)
class Trailer:
    """What the end of a ledger file says was written."""

    block_count: int
    frontier: Frontier


@dataclass(frozen=True, slots=True)
class Entry:
    """A charter or block of a ledger file, nothing in it checked.

    Attributes:
        number: 0 for the charter, then the blocks from 1.
        offset: of the entry's length in the file, in bytes.
    """

    number: int
    offset: int
    data: bytes


def write_ledger(charter: bytes, blocks: Iterable[ExportedBlock]) -> Iterator[bytes]:
    """The bytes of a ledger file, in pieces of about a block.

    Args:
        charter: as it was received.
        blocks: each after every block that it names, as they were admitted.
    """
    yield ledger_head(charter)
    frontier: Frontier = {}
    count = 0
    for block in blocks:
        count += 1
        known = frontier.get(block.feed)
        if known is None or known.seq_num < block.seq_num:
            frontier[block.feed] = Head(block.seq_num, block.block_id)
        yield len(block.data).to_bytes(LENGTH_BYTES, "big") + block.data
    yield ledger_tail(count, frontier)


def ledger_head(charter: bytes) -> bytes:
    """What stands before the blocks."""
    return MAGIC + len(charter).to_bytes(LENGTH_BYTES, "big") + charter


def ledger_tail(block_count: int, frontier: Frontier) -> bytes:
    """What stands behind the blocks."""
    heads: list[CborItem] = [[*feed, *head] for feed, head in sorted(frontier.items())]
    trailer = encode({0: block_count, 1: heads})
    return _END + len(trailer).to_bytes(LENGTH_BYTES, "big") + trailer


def read_ledger(reader: Reader) -> Iterator[Entry | Trailer]:
    """The charter, the blocks and the trailer of a ledger file, in order.

    Raises:
        InputError: `ledger-magic`, `ledger-truncated`, `ledger-entry-size`, `ledger-trailer`,
            `ledger-trailing-bytes`; what was yielded before stands.
    """
    if _read_up_to(reader, len(MAGIC)) != MAGIC:
        raise InputError(
            "ledger-magic",
            "the file does not begin like a p2pfed ledger of version 1",
            remedy="give a file that `p2pfed ledger export` wrote",
        )
    offset, number = len(MAGIC), 0
    while True:
        size = _read_length(reader, offset)
        if size == 0 and number > 0:
            break
        if not 0 < size <= ENTRY_BYTES_MAX:
            raise InputError(
                "ledger-entry-size",
                f"an entry of {size} bytes, over {ENTRY_BYTES_MAX} or empty",
                where=f"byte {offset}",
                remedy="what follows can't be read: export the ledger again",
            )
        yield Entry(number, offset, _read_exactly(reader, size, offset + LENGTH_BYTES))
        offset += LENGTH_BYTES + size
        number += 1
    yield _read_trailer(reader, offset + LENGTH_BYTES)


def _read_trailer(reader: Reader, offset: int) -> Trailer:
    size = _read_length(reader, offset)
    if size > TRAILER_BYTES_MAX:
        raise InputError("ledger-trailer", f"a trailer of {size} bytes", where=f"byte {offset}")
    data = _read_exactly(reader, size, offset + LENGTH_BYTES)
    if reader.read(1):
        raise InputError(
            "ledger-trailing-bytes",
            "there are bytes after the trailer",
            where=f"byte {offset + LENGTH_BYTES + size}",
        )
    try:
        item = decode(data, limit=TRAILER_BYTES_MAX)
    except InputError as error:
        raise InputError("ledger-trailer", error.what, where=f"byte {offset}") from error
    match item:
        case {0: int(count), 1: list(heads), **rest} if not rest and type(count) is int:
            parsed = [_parse_head(head) for head in heads]
        case _:
            parsed, count = [None], 0
    found = [head for head in parsed if head is not None]
    feeds = [feed for feed, _ in found]
    if len(found) != len(parsed) or feeds != sorted(set(feeds)):
        raise InputError("ledger-trailer", "the trailer has another form", where=f"byte {offset}")
    return Trailer(count, dict(found))


def _parse_head(item: CborItem) -> tuple[FeedKey, Head] | None:
    match item:
        case [str(centre), int(epoch), int(seq_num), bytes(block_id)] if (
            CENTRE_NAME.match(centre)
            and type(epoch) is int
            and type(seq_num) is int
            and 0 <= epoch <= EPOCH_MAX
            and 0 <= seq_num <= SEQ_NUM_MAX
            and len(block_id) == 32
        ):
            return FeedKey(CentreName(centre), epoch), Head(seq_num, BlockId(block_id))
        case _:
            return None


def _read_length(reader: Reader, offset: int) -> int:
    return int.from_bytes(_read_exactly(reader, LENGTH_BYTES, offset), "big")


def _read_exactly(reader: Reader, size: int, offset: int) -> bytes:
    data = _read_up_to(reader, size)
    if len(data) < size:
        raise InputError(
            "ledger-truncated",
            f"the file ends {size - len(data)} bytes early",
            where=f"byte {offset}",
            remedy="export the ledger again; a copy was cut short",
        )
    return data


def _read_up_to(reader: Reader, size: int) -> bytes:
    data = reader.read(size)
    while 0 < len(data) < size:
        more = reader.read(size - len(data))
        if not more:
            break
        data += more
    return data
