"""Blocks on their way to the store and back, and what a record may be before it is written."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from p2pfed.core.blocks import Block, decode_stored
from p2pfed.core.ids import FeedKey, Place, Position
from p2pfed.core.recordcodec import decode_record, encode_record
from p2pfed.core.records import Inert, Record
from p2pfed.core.units import HlcTime
from p2pfed.errors import InputError
from p2pfed.node.effects import StoredBlock


class Shelf(Protocol):
    """Where admitted blocks are stored: what the node reads back, which is rarely."""

    def block(self, feed: FeedKey, seq_num: int) -> bytes | None:
        """The block at this place of the feed, to prove a fork against it; None if not here."""
        ...

    def index(self) -> Iterable[Place]:
        """Where each block stands, in the order in which they were stored."""
        ...

    def data(self, admission: int) -> bytes:
        """The bytes of the block with this number."""
        ...

    def stored(self) -> Iterable[bytes]:
        """All blocks in the order in which they were stored, to make the view anew."""
        ...


def read_by_time(
    shelf: Shelf, fresh: Sequence[StoredBlock], below: Mapping[FeedKey, int], limit: HlcTime
) -> Iterator[Block]:
    """The stored blocks and the `fresh` ones in the order of their times, one after another.

    Holds 24 bytes a block meanwhile, and one block.

    Args:
        below: of these feeds the first so many are left out.
        limit: later ones are left out.
    """
    times, numbers = array("Q"), array("q")
    for place in shelf.index():
        if place.time <= limit and place.seq_num >= below.get(place.feed, 0):
            times.append(place.time)
            numbers.append(place.admission)
    for number, block in enumerate(fresh, start=1):
        if block.time <= limit:
            times.append(block.time)
            numbers.append(-number)
    for at in sorted(range(len(times)), key=times.__getitem__):
        number = numbers[at]
        data = fresh[-number - 1].data if number < 0 else shelf.data(number)
        yield decode_stored(data)


def unsendable(record: Record) -> InputError | None:
    """Why a record that a user made would be refused, or be inert, for its receivers."""
    found = decode_record(encode_record(record))
    if not isinstance(found, Inert):
        return None
    return InputError(found.code, found.detail)


def position_feed(position: Position) -> FeedKey:
    """The feed that a record stands in."""
    return FeedKey(position.centre, position.epoch)


def stored(block: Block, *, side: bool = False) -> StoredBlock:
    """The block as the store and the wire take it."""
    return StoredBlock(
        feed=block.feed,
        seq_num=block.header.seq_num,
        block_id=block.block_id,
        time=block.time,
        data=block.data,
        side=side,
    )
