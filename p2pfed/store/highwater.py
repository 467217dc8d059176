"""The high-water mark: the newest own block that may have left, kept apart from the ledger.

A ledger cannot tell that it is yesterday's copy of itself. Writing on from an old head would fork
the feed, so the newest own position also stands in a small file outside the database's folder,
which is to be left out of backups. It is written after the block is committed and before the block
leaves. Hence, when only crashes happen, the mark equals the ledger's own head or is one block
behind it; for that, a commit that holds several own blocks must not be followed by a second one
before the mark is written, and `judge_restart` takes a mark that is further behind as no evidence.

The file is one line of text:

    p2pfed-highwater 1 <centre> <epoch> <seq_num> <block id, hex> <check>

where `check` is the first 16 hex digits of the SHA-256 of the line up to and including the space
before it. A centre that has written nothing yet has `seq_num` -1, and its key's SHA-256 in the
place of the block id. Only `p2pfed init` writes that, together with the key. So a folder that lost
ledger and mark is not taken for a new one, nor is one that was made anew around the old key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from p2pfed.core.ids import BlockId, CentreName, FeedKey, Head, PublicKey
from p2pfed.errors import StorageError
from p2pfed.store.files import disk_errors, make_folder, write_durable

_LINE: Final = re.compile(
    rb"(p2pfed-highwater 1 ([a-z][a-z0-9-]{0,30}) ([0-9]{1,6}) (-1|[0-9]{1,15}) ([0-9a-f]{64}) )"
    rb"([0-9a-f]{16})\n\Z"
)


NOTHING_YET: Final = -1
"""The `seq_num` of a mark before the first block."""


class Mark(NamedTuple):
    """A position in one's own feed: where the mark, or the ledger's own head, stands."""

    feed: FeedKey
    head: Head


def begun(centre: CentreName, key: PublicKey) -> Mark:
    """The mark of a centre that has written nothing yet with the key that it was made with."""
    return Mark(FeedKey(centre, 0), Head(NOTHING_YET, BlockId(hashlib.sha256(key).digest())))


class HighWater:
    """The high-water file of one centre."""

    def __init__(self, path: Path) -> None:
        """The file need not exist; its folder is made by the first `write`."""
        self.path = path

    def read(self) -> Mark | None:
        """What the file says; None if there is no file.

        Raises:
            StorageError: `highwater-damaged`, `disk-error`.
        """
        with disk_errors(self.path):
            try:
                data = self.path.read_bytes()
            except FileNotFoundError:
                return None
        found = _LINE.match(data)
        if found is None or found[6] != _check(found[1]):
            raise StorageError(
                "highwater-damaged",
                "the high-water file is not as it was written",
                where=str(self.path),
                remedy="check the disk, then remove the file: the centre takes its own blocks back"
                " from its peers, as the manual says under 'restore a centre'",
            )
        feed = FeedKey(CentreName(found[2].decode()), int(found[3]))
        return Mark(feed, Head(int(found[4]), BlockId(bytes.fromhex(found[5].decode()))))

    def begin(self, centre: CentreName, key: PublicKey) -> None:
        """Writes the mark of a centre that was made just now, with this key.

        Raises as `write`.
        """
        self.write(*begun(centre, key))

    def write(self, feed: FeedKey, head: Head) -> None:
        """Replaces the mark, atomically and durably; on an error the old one stays.

        Raises:
            StorageError: `disk-full`, `disk-error`.
        """
        line = (
            f"p2pfed-highwater 1 {feed.centre} {feed.epoch} {head.seq_num} {head.block_id.hex()} "
        ).encode()
        if not self.path.parent.is_dir():
            with disk_errors(self.path):
                make_folder(self.path.parent)
        write_durable(self.path, line + _check(line) + b"\n")


def _check(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest()[:16].encode()


class Restart(Enum):
    """What a daemon does before its first append. Whatever the verdict, it asks its peers too."""

    START = "start"
    """The ledger is as new as anything that left: go on."""
    RECOVER = "recover"
    """The mark is ahead: take own blocks back from peers up to it, else a new epoch."""
    ASK_ALL = "ask-all"
    """Nothing shows how new the ledger is: every member must answer, else a new epoch."""
    NEW_EPOCH = "new-epoch"
    """Mark and ledger contradict each other: this chain cannot be continued."""


def judge_restart(
    mark: Mark | None,
    own_head: Mark | None,
    held: Callable[[FeedKey, int], BlockId | None],
    beginning: Mark,
) -> Restart:
    """What the high-water mark and the ledger together allow. Pure.

    Args:
        mark: what the high-water file says, None if it is missing.
        own_head: the newest own block in the ledger (of the newest epoch), None if there is none.
        held: the id of the ledger's block at a position (`Database.block_id`).
        beginning: the mark that this centre began with (`begun`).

    Raises:
        StorageError: `highwater-centre`: the file is another centre's.
    """
    unwritten = mark is not None and mark.head.seq_num == NOTHING_YET
    if mark is None or (unwritten and mark != beginning):
        return Restart.ASK_ALL
    if own_head is None:
        return Restart.START if unwritten else Restart.RECOVER
    if mark.feed.centre != own_head.feed.centre:
        raise StorageError(
            "highwater-centre",
            f"the high-water file is of {mark.feed.centre}, the ledger of {own_head.feed.centre}",
            remedy="put the files of one centre together again",
        )
    marked = (mark.feed.epoch, mark.head.seq_num)
    newest = (own_head.feed.epoch, own_head.head.seq_num)
    if marked > newest:
        return Restart.RECOVER
    if not unwritten and held(mark.feed, mark.head.seq_num) != mark.head.block_id:
        return Restart.NEW_EPOCH
    first_of_next_epoch = mark.feed.epoch < own_head.feed.epoch and own_head.head.seq_num == 0
    one_behind = marked == (newest[0], newest[1] - 1) or first_of_next_epoch
    return Restart.START if marked == newest or one_behind else Restart.ASK_ALL
