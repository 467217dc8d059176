"""The waiting room: blocks that can't be admitted yet, within bounds.

A block waits for one block at a time that it lacks (when that has come, the replica looks again and
it may wait for the next), or for its time. The room also knows which blocks the waiting ones
*name*: an ack names its block, and a named block that waits names its backlink. Only named blocks
are worth keeping from a branch that lost.

The bounds are PENDING_BLOCKS_MAX and PENDING_BYTES_MAX. When the room is full, the centre that
fills most of it loses its newest block, so that a flood costs its author first.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from p2pfed.core.blocks import Block, BlockHeader
from p2pfed.core.ids import BlockId, CentreName, FeedKey
from p2pfed.core.limits import (
    PENDING_BLOCKS_MAX,
    PENDING_BYTES_MAX,
    UNSURE_BLOCKS_MAX,
    UNSURE_BYTES_MAX,
)


class SeqRange(NamedTuple):
    """Blocks `from_seq` to `to_seq` of a feed, both included."""

    feed: FeedKey
    from_seq: int
    to_seq: int


class BlockRef(NamedTuple):
    """One exact block: its place and its id."""

    feed: FeedKey
    seq_num: int
    block_id: BlockId


def block_ref(block: Block) -> BlockRef:
    """The block's own place and id."""
    return BlockRef(block.feed, block.seq_num, block.block_id)


def backlink_ref(block: Block) -> BlockRef | None:
    """The block before, None for the first of a feed."""
    backlink = block.header.backlink
    return None if backlink is None else BlockRef(block.feed, block.seq_num - 1, backlink)


def ack_refs(block: Block) -> list[BlockRef]:
    """The blocks that the block acks."""
    return [BlockRef(ack.feed, *ack.head) for ack in block.header.acks]


def block_refs(block: Block) -> list[BlockRef]:
    """All blocks that the block names: the one before, then those it acks."""
    return header_refs(block.header)


def header_refs(header: BlockHeader) -> list[BlockRef]:
    """All blocks that a header names: the one before, then those it acks."""
    acked = [BlockRef(ack.feed, *ack.head) for ack in header.acks]
    if header.backlink is None:
        return acked
    return [BlockRef(header.feed, header.seq_num - 1, header.backlink), *acked]


def merge_ranges(ranges: Iterable[SeqRange]) -> tuple[SeqRange, ...]:
    """The same blocks in the fewest ranges, ascending."""
    merged: list[SeqRange] = []
    for found in sorted(ranges):
        last = merged[-1] if merged else None
        if last and last.feed == found.feed and found.from_seq <= last.to_seq + 1:
            merged[-1] = last._replace(to_seq=max(last.to_seq, found.to_seq))
        else:
            merged.append(found)
    return tuple(merged)


@dataclass(slots=True)
class _Entry:
    block: Block
    watched: BlockRef | None
    named: list[BlockRef] = field(default_factory=list)


class WaitingRoom:
    """Blocks in the order they came, found by id, by place, and by the block they wait for."""

    __slots__ = (
        "_centre_bytes",
        "_due",
        "_entries",
        "_named",
        "_places",
        "_watchers",
        "total_bytes",
    )

    def __init__(self) -> None:
        self.total_bytes = 0
        self._entries: dict[BlockId, _Entry] = {}
        self._places: dict[FeedKey, dict[int, list[BlockId]]] = {}
        self._watchers: dict[BlockRef, list[BlockId]] = {}
        self._named: dict[BlockRef, int] = {}
        self._due: list[tuple[int, BlockId]] = []
        self._centre_bytes: dict[CentreName, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def holds(self, block_id: BlockId) -> bool:
        """Whether this block waits."""
        return block_id in self._entries

    def is_named(self, ref: BlockRef) -> bool:
        """Whether a waiting block needs exactly this one."""
        return ref in self._named

    def blocks(self) -> list[Block]:
        """The waiting blocks, in the order they came."""
        return [entry.block for entry in self._entries.values()]

    def at(self, feed: FeedKey, seq_num: int) -> list[Block]:
        """The blocks that wait to take this place."""
        ids = self._places.get(feed, {}).get(seq_num, ())
        return [self._entries[block_id].block for block_id in ids]

    def gaps(self, feed: FeedKey, from_seq: int, to_seq: int) -> list[SeqRange]:
        """The parts of the range where no block waits, ascending."""
        places = self._places.get(feed, {})
        found: list[SeqRange] = []
        start = from_seq
        for seq_num in sorted(s for s in places if from_seq <= s <= to_seq):
            if start < seq_num:
                found.append(SeqRange(feed, start, seq_num - 1))
            start = seq_num + 1
        if start <= to_seq:
            found.append(SeqRange(feed, start, to_seq))
        return found

    def due_ms(self) -> int | None:
        """The earliest time that a block waits for."""
        while self._due and self._due[0][1] not in self._entries:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    # Coming and going

    def add(
        self, block: Block, *, watched: BlockRef | None = None, due_ms: int = 0
    ) -> list[BlockId]:
        """Lets the block wait for `watched`, or with None until `due_ms`.

        Returns:
            The ids of the blocks that lost their place for it; it may be among them.
        """
        ref = block_ref(block)
        entry = _Entry(block, watched)
        self._entries[ref.block_id] = entry
        self._places.setdefault(ref.feed, {}).setdefault(ref.seq_num, []).append(ref.block_id)
        if watched is None:
            heapq.heappush(self._due, (due_ms, ref.block_id))
        else:
            self._watchers.setdefault(watched, []).append(ref.block_id)
        self._weigh(block, len(block.data))
        self._name(entry, ack_refs(block))
        if self.is_named(ref):
            self._name_backlink(entry)
        dropped: list[BlockId] = []
        while len(self._entries) > PENDING_BLOCKS_MAX or self.total_bytes > PENDING_BYTES_MAX:
            victim = self._newest_of_heaviest()
            self.take(victim)
            dropped.append(victim)
        return dropped

    def take(self, block_id: BlockId) -> Block:
        """Removes a waiting block and what it named."""
        entry = self._entries.pop(block_id)
        ref = block_ref(entry.block)
        places = self._places[ref.feed]
        places[ref.seq_num].remove(block_id)
        if not places[ref.seq_num]:
            del places[ref.seq_num]
            if not places:
                del self._places[ref.feed]
        if entry.watched is not None and entry.watched in self._watchers:
            watchers = self._watchers[entry.watched]
            watchers.remove(block_id)
            if not watchers:
                del self._watchers[entry.watched]
        for named in entry.named:
            self._named[named] -= 1
            if not self._named[named]:
                del self._named[named]
        self._weigh(entry.block, -len(entry.block.data))
        return entry.block

    def take_watchers(self, ref: BlockRef) -> list[Block]:
        """Removes the blocks that waited for this one."""
        return [self.take(block_id) for block_id in tuple(self._watchers.get(ref, ()))]

    def take_due(self, now_ms: int) -> list[Block]:
        """Removes the blocks whose time has come, earliest first."""
        found: list[Block] = []
        while (due_ms := self.due_ms()) is not None and due_ms <= now_ms:
            found.append(self.take(heapq.heappop(self._due)[1]))
        return found

    def _weigh(self, block: Block, size: int) -> None:
        centre = block.header.centre
        weight = self._centre_bytes.get(centre, 0) + size
        self.total_bytes += size
        if weight:
            self._centre_bytes[centre] = weight
        else:
            del self._centre_bytes[centre]

    def _name(self, entry: _Entry, refs: Iterable[BlockRef]) -> None:
        for ref in refs:
            entry.named.append(ref)
            self._named[ref] = self._named.get(ref, 0) + 1
            waiting = self._entries.get(ref.block_id)
            if waiting is not None and self._named[ref] == 1:
                self._name_backlink(waiting)

    def _name_backlink(self, entry: _Entry) -> None:
        """Names the backlink of a named block, and so on down what waits of its branch."""
        while True:
            ref = backlink_ref(entry.block)
            if ref is None or ref in entry.named:
                return
            entry.named.append(ref)
            self._named[ref] = self._named.get(ref, 0) + 1
            below = self._entries.get(ref.block_id)
            if below is None:
                return
            entry = below

    def _newest_of_heaviest(self) -> BlockId:
        centre = max(self._centre_bytes, key=lambda name: (self._centre_bytes[name], name))
        feed = max(feed for feed in self._places if feed.centre == centre)
        places = self._places[feed]
        return max(places[max(places)])


class Unsure:
    """Blocks whose key is not known: it may come with what they name, so they wait unverified.

    The oldest is dropped when there are too many; it is fetched again.
    """

    __slots__ = ("_entries", "_total_bytes")

    def __init__(self) -> None:
        self._entries: OrderedDict[BlockId, tuple[bytes, list[BlockRef]]] = OrderedDict()
        self._total_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, block_id: BlockId, data: bytes, refs: list[BlockRef]) -> tuple[BlockId, ...]:
        """Keeps a block; returns the ids of those that lost their place for it."""
        if block_id in self._entries:
            return ()
        self._entries[block_id] = data, refs
        self._total_bytes += len(data)
        dropped: list[BlockId] = []
        while len(self._entries) > UNSURE_BLOCKS_MAX or self._total_bytes > UNSURE_BYTES_MAX:
            oldest, (lost, _) = self._entries.popitem(last=False)
            self._total_bytes -= len(lost)
            dropped.append(oldest)
        return tuple(dropped)

    def take(self, holds: Callable[[BlockRef], bool]) -> list[tuple[BlockId, bytes]]:
        """Removes the blocks all of whose names are held, oldest first."""
        ready = [
            block_id
            for block_id, (_, refs) in self._entries.items()
            if all(holds(ref) for ref in refs)
        ]
        found: list[tuple[BlockId, bytes]] = []
        for block_id in ready:
            data, _ = self._entries.pop(block_id)
            self._total_bytes -= len(data)
            found.append((block_id, data))
        return found
