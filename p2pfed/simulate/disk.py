"""A simulated disk: what was synced survives a crash, and a start reads it as a daemon would.

Ledger and high-water file are two files, each synced by itself, as in `p2pfed.store`. Whatever was
written and not synced is gone after a crash. Both files are written so that a write which is torn
leaves the old contents, by SQLite's checksums and by renaming; only a snapshot can be torn, since
nothing rests on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from p2pfed.core.bearings import Bearings
from p2pfed.core.ids import FIRST_LIVE, BlockId, CentreName, ClaimId, FeedKey, Head, Place
from p2pfed.node.effects import StoredBlock
from p2pfed.node.recovery import Memory
from p2pfed.simulate.natives import Native
from p2pfed.store.highwater import NOTHING_YET, Mark, Restart, judge_restart

_MEMORY: Final = {
    Restart.START: Memory.SURE,
    Restart.RECOVER: Memory.BEHIND,
    Restart.ASK_ALL: Memory.UNSURE,
    Restart.NEW_EPOCH: Memory.BROKEN,
}

NO_BLOCK_YET: Final = Head(NOTHING_YET, BlockId(bytes(32)))
"""The mark of a centre that has written nothing."""

_Undo = list[Callable[[], None]]


@dataclass(slots=True)
class Disk:
    """What a centre keeps, and what its batch system runs.

    Attributes:
        bearings: the newest cosigned checkpoint, for newcomers.
        base: the checkpoint that the ledger began with, until the history is here.
        history: the blocks under that checkpoint; `blocks` are those above it.
    """

    blocks: list[StoredBlock] = field(default_factory=list)
    local: dict[str, bytes] = field(default_factory=dict)
    mark: Mark | None = None
    snapshot: bytes | None = None
    natives: dict[str, Native] = field(default_factory=dict)
    payloads: set[ClaimId] = field(default_factory=set)
    full: bool = False
    bearings: bytes | None = None
    base: Bearings | None = None
    history: list[StoredBlock] = field(default_factory=list)
    _unsynced_ledger: _Undo = field(default_factory=list)
    _unsynced_mark: _Undo = field(default_factory=list)

    # What a daemon writes

    def append(
        self,
        blocks: Sequence[StoredBlock],
        local: Iterable[tuple[str, bytes]],
        *,
        history: bool = False,
    ) -> None:
        """Stores blocks and local rows in one transaction, and syncs it."""
        to = self.history if history else self.blocks
        held, rows = len(to), dict(self.local)

        def undo() -> None:
            del to[held:]
            self.local = rows

        self._unsynced_ledger.append(undo)
        to += blocks
        self.local.update(local)
        self.sync_ledger()

    def write_mark(self, mark: Mark) -> None:
        """Replaces the high-water file, and syncs it."""
        before = self.mark

        def undo() -> None:
            self.mark = before

        self._unsynced_mark.append(undo)
        self.mark = mark
        self.sync_mark()

    def sync_ledger(self) -> None:
        """What the ledger holds now survives a crash."""
        self._unsynced_ledger.clear()

    def sync_mark(self) -> None:
        """What the high-water file says now survives a crash."""
        self._unsynced_mark.clear()

    def lose_power(self) -> None:
        """Forgets what was not synced."""
        for unsynced in (self._unsynced_ledger, self._unsynced_mark):
            while unsynced:
                unsynced.pop()()

    @property
    def durable(self) -> bool:
        """Whether all that was written would survive a crash."""
        return not self._unsynced_ledger and not self._unsynced_mark

    # What a start reads

    def epoch(self, name: CentreName) -> int:
        """The newest epoch of this centre that the ledger holds a block of."""
        return max((b.feed.epoch for b in self.everything() if b.feed.centre == name), default=0)

    def judge(self, me: FeedKey, head: Head | None, beginning: Mark) -> tuple[Memory, Head | None]:
        """What a daemon concludes from its disk before it writes anything."""
        mark, own = self.mark, None if head is None else Mark(me, head)
        verdict = judge_restart(mark, own, self._known, beginning)
        return _MEMORY[verdict], None if mark is None else mark.head

    def _known(self, feed: FeedKey, seq_num: int) -> BlockId | None:
        for tree in self.base.trees if self.base is not None else ():
            if (tree.feed, tree.size - 1) == (feed, seq_num):
                return tree.block_id
        return self.block_id(feed, seq_num)

    def everything(self) -> list[StoredBlock]:
        """All blocks; those under the checkpoint that the ledger began with come first."""
        return [*self.history, *self.blocks]

    def index(self) -> Iterable[Place]:
        """Where each block stands, in the order of admission."""
        first = FIRST_LIVE if self.base is not None or self.history else 0
        numbered = [*enumerate(self.history), *enumerate(self.blocks, start=first)]
        return [Place(n, b.feed, b.seq_num, b.block_id, b.time, b.side) for n, b in numbered]

    def data(self, admission: int) -> bytes:
        """The bytes of the block with this number."""
        if admission >= FIRST_LIVE:
            return self.blocks[admission - FIRST_LIVE].data
        return (self.history or self.blocks)[admission].data

    def _at(self, feed: FeedKey, seq_num: int) -> StoredBlock | None:
        for block in chain(reversed(self.blocks), reversed(self.history)):
            if block.seq_num == seq_num and block.feed == feed and not block.side:
                return block
        return None

    def block_id(self, feed: FeedKey, seq_num: int) -> BlockId | None:
        """The id of the block at this place of the feed, None if there is none."""
        block = self._at(feed, seq_num)
        return None if block is None else block.block_id

    def block(self, feed: FeedKey, seq_num: int) -> bytes | None:
        """The block at this place of the feed, None if there is none."""
        block = self._at(feed, seq_num)
        return None if block is None else block.data

    def has_branches(self) -> bool:
        """Whether a block stands beside its feed."""
        return any(block.side for block in self.everything())

    def stored(self) -> Iterable[bytes]:
        """All blocks, in the order in which they were stored."""
        return [block.data for block in self.everything()]


def judge_disk(
    me: FeedKey,
    head: Head | None,
    mark: Head | None,
    held: Callable[[FeedKey, int], BlockId | None],
) -> tuple[Memory, Head | None]:
    """What a daemon concludes, where one feed and a mark without its feed are all there is.

    Args:
        me: its own feed.
        head: the newest block of that feed in the store.
        mark: what the high-water file says; None if there is none.
        held: the id of the store's block at a place.
    """
    verdict = judge_restart(
        None if mark is None else Mark(me, mark),
        None if head is None else Mark(me, head),
        held,
        Mark(me, NO_BLOCK_YET),
    )
    return _MEMORY[verdict], mark
