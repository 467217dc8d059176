"""How a node takes up its ledger: from a snapshot and what came after it, else from the first.

A snapshot is used only if the store holds exactly the blocks that it counts, and no feed has
branches. Whatever is wrong with it, the blocks are folded from the first: slower, never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from p2pfed.core.ids import BlockId, FeedKey, Place
from p2pfed.core.units import HlcTime
from p2pfed.errors import InputError
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

    def has_branches(self) -> bool:
        """Whether a block is stored that stands beside its feed."""


def begin(
    make_node: Callable[[], Node], store: Store, snapshot: bytes | None
) -> tuple[Node, str | None]:
    """A node that holds everything that is stored, and why the snapshot, if any, was not used.

    Raises:
        StorageError, StateError, InputError: the store is damaged.
    """
    refusal = None
    if snapshot is not None:
        try:
            return _resume(make_node(), store, snapshot), None
        except InputError as error:
            refusal = error.what
    node = make_node()
    for place in store.index():
        node.replay(store.data(place.admission), side=place.side)
    return node, refusal


def _resume(node: Node, store: Store, data: bytes) -> Node:
    snapshot = decode_snapshot(data, node.federation.id)
    _check(snapshot, store)
    node.ledger.resume(snapshot)
    counted = {feed: head.seq_num for feed, head in snapshot.frontier.items()}
    for place in store.index():
        if place.seq_num <= counted.get(place.feed, -1):
            time = HlcTime(place.time)
            node.ledger.recall(place.feed, place.seq_num, place.block_id, time)
        else:
            node.replay(store.data(place.admission), side=place.side)
    return node


def _check(snapshot: Snapshot, store: Store) -> None:
    if store.has_branches():
        raise InputError("snapshot-unusable", "a feed has branches")
    for feed, head in snapshot.frontier.items():
        if store.block_id(feed, head.seq_num) != head.block_id:
            raise InputError("snapshot-unusable", "it counts a block that is not stored here")
