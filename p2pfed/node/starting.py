"""How a node takes up its ledger: from a snapshot and what came after it, else from the first.

A snapshot is used only if the store holds exactly the blocks that it counts, and no feed has
branches. Whatever is wrong with it, the blocks are folded from the first: slower, never wrong.

A node that began with a checkpoint takes that in place of the first block until it has the history;
what it has of that goes to the second ledger (`p2pfed.node.history`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from p2pfed.core.bearings import Bearings
from p2pfed.core.ids import FIRST_LIVE, BlockId, FeedKey, Frontier, Head, Place
from p2pfed.core.keyring import KeyFrom
from p2pfed.core.units import HlcTime
from p2pfed.errors import InputError
from p2pfed.node.history import History
from p2pfed.node.node import Node
from p2pfed.node.snapshots import Snapshot, decode_snapshot


class Store(Protocol):
    """The admitted blocks of a node, as they are stored."""

    def index(self) -> Iterable[Place]:
        """Where each block stands, in the order of admission."""

    def data(self, admission: int) -> bytes:
        """The received bytes of a block."""

    def block_id(self, feed: FeedKey, seq_num: int) -> BlockId | None:
        """The id of the block at that position of the feed, None if it is not here."""

    def block(self, feed: FeedKey, seq_num: int) -> bytes | None:
        """The bytes of the block at that position, None if it is not here."""

    def has_branches(self) -> bool:
        """Whether a block is stored that stands beside its feed."""


def begin(
    make_node: Callable[[], Node],
    store: Store,
    snapshot: bytes | None,
    bearings: Bearings | None = None,
) -> tuple[Node, str | None]:
    """A node that holds everything that is stored, and why the snapshot, if any, was not used.

    Args:
        make_node: makes a node with nothing replayed.
        store: its blocks.
        snapshot: the newest, if there is one.
        bearings: of the checkpoint that it began with, if it did and lacks what lies under it.

    Raises:
        StorageError, StateError, InputError: the store is damaged.
    """
    refusal = None
    if snapshot is not None:
        try:
            return _resume(make_node(), store, snapshot, bearings), None
        except InputError as error:
            refusal = error.what
    node = make_node()
    if bearings is not None:
        _stand(node, store, bearings)
        node.ledger.resume(_first_snapshot(node, bearings))
    _replay(node, store, {})
    return node, refusal


def _resume(node: Node, store: Store, data: bytes, bearings: Bearings | None) -> Node:
    snapshot = decode_snapshot(data, node.federation.id)
    base: Frontier = {}
    if bearings is not None:
        base = {tree.feed: Head(tree.size - 1, tree.block_id) for tree in bearings.trees}
    _check(snapshot, store, base)
    if bearings is not None:
        _stand(node, store, bearings)
    node.ledger.resume(snapshot)
    _replay(node, store, snapshot.frontier)
    return node


def _replay(node: Node, store: Store, frontier: Frontier) -> None:
    """Takes the blocks back, those that a snapshot counts by their places alone."""
    history = node.past.history
    counted = {feed: head.seq_num for feed, head in frontier.items()}
    for place in store.index():
        if history is not None and place.admission < FIRST_LIVE:
            continue
        if place.seq_num <= counted.get(place.feed, -1):
            time = HlcTime(place.time)
            node.ledger.recall(place.feed, place.seq_num, place.block_id, time)
        else:
            node.replay(store.data(place.admission), side=place.side)


def _check(snapshot: Snapshot, store: Store, base: Frontier) -> None:
    if store.has_branches():
        raise InputError("snapshot-unusable", "a feed has branches")
    for feed, head in base.items():
        counted = snapshot.frontier.get(feed)
        if counted is None or counted.seq_num < head.seq_num:
            raise InputError("snapshot-unusable", "it is older than the checkpoint")
    for feed, head in snapshot.frontier.items():
        if base.get(feed) != head and store.block_id(feed, head.seq_num) != head.block_id:
            raise InputError("snapshot-unusable", "it counts a block that is not stored here")


# Above a checkpoint


class _OldBlocks:
    """The stored blocks under the checkpoint, as the second ledger reads them back."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def block(self, feed: FeedKey, seq_num: int) -> bytes | None:
        return self._store.block(feed, seq_num)

    def index(self) -> Iterator[Place]:
        return (place for place in self._store.index() if place.admission < FIRST_LIVE)

    def data(self, admission: int) -> bytes:
        return self._store.data(admission)

    def stored(self) -> Iterator[bytes]:
        return (self.data(place.admission) for place in self.index())


def _stand(node: Node, store: Store, bearings: Bearings) -> None:
    ledger = node.ledger_type(node.me, node.federation, _OldBlocks(store))
    history = History(ledger, bearings)
    for place in store.index():
        if place.admission < FIRST_LIVE:
            history.replay(store.data(place.admission), side=place.side)
    node.stand_on(bearings, history)


def _first_snapshot(node: Node, bearings: Bearings) -> Snapshot:
    """What the members signed, in the form of a snapshot."""
    return Snapshot(
        federation=node.federation.id,
        frontier={tree.feed: Head(tree.size - 1, tree.block_id) for tree in bearings.trees},
        acked={},
        keys=tuple(KeyFrom(tree.feed, tree.size, tree.key) for tree in bearings.trees),
        sections=bearings.sections,
        past=(),
        said=bearings.said,
    )
