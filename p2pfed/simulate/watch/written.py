"""What a centre wrote, against what it holds: nothing leaves that a crash could take back.

Looked at effect by effect, on each honest centre's own disk:

- whatever a node wants done, all that it wrote until then is synced (invariant 3);
- a block is stored after the one before it and after all that it acks (so every cut is closed);
- an own block acks everything that its author held: its causal past is what it knew (design, 1);
- what may have left is never written again in another way (invariant 8).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from p2pfed.core.blocks import Block
from p2pfed.core.ids import BlockId, CentreName, FeedKey, Head
from p2pfed.node.effects import Effect, KeepSnapshot, Note, StoreBlocks, StoredBlock
from p2pfed.simulate.memo import Library
from p2pfed.simulate.scene import Centre, Scene

_QUIET: Final = (StoreBlocks, KeepSnapshot, Note)
"""What nobody outside can see."""


@dataclass(slots=True)
class _Held:
    """What stands on one disk, and how many blocks of each feed are known from a checkpoint."""

    floors: dict[FeedKey, int] = field(default_factory=dict)
    heads: dict[FeedKey, Head] = field(default_factory=dict)
    ids: set[BlockId] = field(default_factory=set)
    acked: dict[FeedKey, Head] = field(default_factory=dict)
    epoch: int = 0
    unshown: list[tuple[FeedKey, Head]] = field(default_factory=list)


class Written:
    """Watches every disk of a world."""

    def __init__(self, scene: Scene, library: Library) -> None:
        self._scene = scene
        self._library = library
        self._held: dict[CentreName, _Held] = {}
        self._shown: dict[tuple[FeedKey, int], BlockId] = {}
        self._anywhere: set[BlockId] = set()

    def booted(self, centre: Centre) -> None:
        """A daemon starts from its disk."""
        held = self._held[centre.name] = _Held()
        base = centre.disk.base
        for tree in () if base is None else base.trees:
            held.heads[tree.feed] = Head(tree.size - 1, tree.block_id)
            held.floors[tree.feed] = tree.size
        for stored in centre.disk.everything() if base is None else centre.disk.blocks:
            self._add(centre, held, self._library.read(stored), side=stored.side)

    def unsaid(self, blocks: Iterable[StoredBlock]) -> None:
        """These blocks are gone, and nobody holds them: another may take their place."""
        for stored in blocks:
            self._shown.pop((stored.feed, stored.seq_num), None)

    def to_be_stored(self, centre: Centre, effect: StoreBlocks) -> None:
        """Before blocks go to a disk."""
        held = self._held[centre.name]
        for stored in () if effect.history else effect.blocks:
            block = self._library.read(stored)
            if centre.honest:
                self._in_order(centre, held, block, side=stored.side)
            self._add(centre, held, block, side=stored.side)
            new = block.block_id not in self._anywhere and block.header.centre == centre.name
            self._anywhere.add(block.block_id)
            if centre.honest and new:
                self._acks_all(centre, held, block)
                held.unshown.append((block.feed, block.head))

    def before_effect(self, centre: Centre, effect: Effect) -> None:
        """Before anything is done that somebody could see."""
        if isinstance(effect, _QUIET) or centre.node is None or not centre.honest:
            return
        held, hold, kind = self._held[centre.name], self._scene.hold, type(effect).__name__
        hold(centre.disk.durable, f"{centre.name}: {kind} rests on what is not synced")
        ledger = centre.node.ledger
        stored = held.heads.get(ledger.me.feed)
        hold(ledger.head == stored, f"{centre.name}: {kind} before its block is stored")
        marked = centre.disk.mark
        for feed, head in held.unshown:
            first = self._shown.setdefault((feed, head.seq_num), head.block_id)
            hold(first == head.block_id, f"{centre.name} forked its feed at {head.seq_num}")
            ahead = marked is not None and (marked.feed.epoch, marked.head.seq_num) >= (
                feed.epoch,
                head.seq_num,
            )
            hold(ahead, f"{centre.name}: {kind} while the high-water file is behind")
        held.unshown.clear()

    def _in_order(self, centre: Centre, held: _Held, block: Block, *, side: bool) -> None:
        hold, header = self._scene.hold, block.header
        name = f"{centre.name} stores block {header.seq_num} of {header.centre}"
        before = held.heads.get(block.feed)
        if not side:
            expected = (-1, None) if before is None else before
            hold((header.seq_num - 1, header.backlink) == expected, f"{name} out of its order")
        missing = [
            head
            for feed, head in header.acks
            if head.block_id not in held.ids and head.seq_num >= held.floors.get(feed, 0)
        ]
        hold(not missing, f"{name} before what it acks")

    def _acks_all(self, centre: Centre, held: _Held, block: Block) -> None:
        unacked = [
            feed
            for feed, head in held.heads.items()
            if feed != block.feed and held.acked.get(feed) != head
        ]
        self._scene.hold(not unacked, f"{centre.name} does not ack what it holds: {unacked}")

    def _add(self, centre: Centre, held: _Held, block: Block, *, side: bool) -> None:
        held.ids.add(block.block_id)
        if side:
            return
        feed = block.feed
        held.heads[feed] = Head(block.seq_num, block.block_id)
        if feed.centre != centre.name:
            return
        if feed.epoch != held.epoch:
            held.epoch, held.acked = feed.epoch, {}
        held.acked.update(dict(block.header.acks))
