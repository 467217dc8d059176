"""The ledger on disk: one SQLite file of blocks in the order of their admission.

Theory of operation. A block is a row, numbered in the order in which it was admitted; because a
block is admitted only after everything that it rests on, replaying the rows in that order rebuilds
a node. `append` writes any number of blocks and local rows in one transaction and returns when the
disk has them (write-ahead log, `synchronous=FULL`, one sync a call); whoever acknowledges something
does so after that. Local rows are small facts of this centre alone, never replicated.

SQLite does not notice a bit that rots inside a row, and a daemon does not check a million
signatures at each start. So each row carries a CRC-32 of its block: what is damaged is named when
it is read, and never sent to a peer.

Old blocks can move to archive segments (`move`). Their rows stay, with the place in the segment
instead of the bytes, and every way to read gives the same as before.

Reading and writing have a connection each. A reader fetches about a mebibyte at a time and keeps no
transaction open in between, so a slow peer does not keep the log from being folded back. Both may
be used from any thread.

After an error that leaves open what the disk holds (a failed sync: Rebello et al., "Can
Applications Recover from fsync Failures?", ATC 2020) the database takes nothing more until it is
opened again. A full disk is not such an error: the transaction is undone and the next may succeed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from p2pfed.core.ids import FIRST_LIVE, BlockId, CentreName, FeedKey, Frontier, Head, Place
from p2pfed.core.units import HlcTime
from p2pfed.errors import P2pfedError, StateError, StorageError
from p2pfed.store.archive import Archive, SegmentRow
from p2pfed.store.files import disk_errors, make_folder, sync_folder
from p2pfed.store.ledger_schema import connect, prepare
from p2pfed.store.queries import (
    ALL,
    INDEX_ROWS,
    INSERT,
    INSERT_MOVED,
    LAST_CHARACTER,
    LAST_NUMBER,
    NAMED,
    NEXT_ADMITTED,
    NEXT_HERE,
    NEXT_INDEX,
    NEXT_OF_FEED,
    NO_FEED,
    PLACE,
    ROW_BYTES,
    SEGMENTS,
    U64,
    UNDONE,
    Row,
    to_signed,
)
from p2pfed.store.rows import BlockRow, StoredBlock
from p2pfed.store.segments import NO_SEGMENT, Location, Segment
from p2pfed.store.sqlite_errors import sqlite_errors

PAGE_BYTES: Final = 1 << 20
"""Block bytes that one step of a reader takes into memory (or one block, if that is larger)."""

_LATE: Final = 3_600_000 << 16
"""Hybrid time of an hour: a block that came later than that moves with the next segment."""
_VACUUM_PAGES: Final = 256
"""Pages given back in one step: a few milliseconds in which nothing can be appended."""


class Database:
    """The blocks and local rows of one centre in one federation."""

    def __init__(
        self,
        path: Path,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        archive: Archive,
    ) -> None:
        """Use `Database.open`."""
        self.path = path
        self.archive = archive
        self._writer = writer
        self._reader = reader
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._failure: StorageError | None = None
        rows = writer.execute("SELECT centre, epoch, feed FROM feeds").fetchall()
        self._feeds = {FeedKey(CentreName(c), e): feed for c, e, feed in rows}
        self._above = bool(writer.execute("SELECT 1 FROM meta WHERE key = 'above'").fetchall())
        found = writer.execute(f"{SEGMENTS} ORDER BY number").fetchall()
        self._segments = {row[0]: SegmentRow(*row) for row in found}

    @classmethod
    def open(cls, path: Path, *, federation: bytes, archive: Path | None = None) -> Database:
        """The database at `path`, made if there is none (mode 0600, parents included).

        `archive` is the folder of its segments; without one it is the folder beside it.

        Raises:
            StorageError: `database-foreign` (not ours), `database-version`, `database-federation`,
                `database-damaged`, `database-busy`, `database-error`, `disk-full`, `disk-error`.
        """
        with disk_errors(path):
            make_folder(path.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sync_folder(path.parent)
        connections: list[sqlite3.Connection] = []
        try:
            with sqlite_errors(path):
                writer = connect(path)
                connections.append(writer)
                prepare(writer, path, federation)
                reader = connect(path)
                connections.append(reader)
                reader.execute("PRAGMA query_only = ON")
                folder = archive or path.parent / "archive"
                return cls(path, writer, reader, Archive(folder))
        except P2pfedError:
            for connection in connections:
                connection.close()
            raise

    def close(self) -> None:
        """Folds the log back into the file and closes it. Idempotent."""
        with self._read_lock:
            self._reader.close()
        with self._write_lock, suppress(sqlite3.Error):
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Writing

    def append(
        self,
        blocks: Sequence[StoredBlock],
        local: Sequence[tuple[str, bytes | None]] = (),
        *,
        history: bool = False,
    ) -> None:
        """Stores all of it in this order and syncs once, or stores nothing and raises.

        A local value None removes the row. `history`: the blocks lie under the checkpoint that the
        ledger began with (`begin_above`), and stand before all others.

        Raises:
            StateError: `block-stored`: a block stands at one of the positions already.
            StorageError: `disk-full`, `database-write` (nothing stored, may be tried again);
                `database-failed` (nothing more is stored until the database is opened again).
        """
        if not blocks and not local:
            return
        with self._transaction():
            fresh: dict[FeedKey, int] = {}
            first = self._last_number(history=history) + 1
            self._writer.executemany(
                INSERT,
                [(number, *self._row(block, fresh)) for number, block in enumerate(blocks, first)],
            )
            for key, value in local:
                self._set_local(key, value)
        # Only now: a transaction that was undone took its feed numbers with it.
        self._feeds.update(fresh)

    def _last_number(self, *, history: bool) -> int:
        """The number of the newest block among those under the checkpoint, or above it."""
        low, high = (0, FIRST_LIVE - 1) if history or not self._above else (FIRST_LIVE, ALL)
        found = self._writer.execute(LAST_NUMBER, (low, high)).fetchone()[0]
        return int(low - (low > 0) if found is None else found)

    def begin_above(self) -> None:
        """From now on blocks are stored above a checkpoint; what is stored already is history.

        Raises:
            StorageError: as `append`.
        """
        with self._transaction():
            self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('above', x'01')")
        self._above = True

    def local_put(self, key: str, value: bytes) -> None:
        """Sets one local row, durably. Raises as `append`."""
        self.append((), ((key, value),))

    def local_delete(self, key: str) -> None:
        """Removes one local row, durably; no error if there is none. Raises as `append`."""
        self.append((), ((key, None),))

    def local_erase(self, rows: Sequence[tuple[str, bytes]]) -> None:
        """Replaces local rows, and leaves nothing of their old values in the files.

        Raises as `append`; once it has returned, neither a free page nor the log holds them.
        """
        with self._write_lock, sqlite_errors(self.path):
            self._writer.execute("PRAGMA secure_delete = ON")
        try:
            self.append((), rows)
        finally:
            with self._write_lock, sqlite_errors(self.path):
                self._writer.execute("PRAGMA secure_delete = OFF")
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _row(
        self, block: StoredBlock, fresh: dict[FeedKey, int]
    ) -> tuple[int, int, bytes, int, int, bool, bytes]:
        feed = self._feeds.get(block.feed) or fresh.get(block.feed)
        if feed is None:
            feed = self._writer.execute(
                "INSERT INTO feeds (centre, epoch) VALUES (?, ?) RETURNING feed",
                block.feed,
            ).fetchone()[0]
            fresh[block.feed] = feed
        data = block.data
        time = to_signed(block.time)
        return feed, block.seq_num, block.block_id, time, zlib.crc32(data), block.side, data

    def _set_local(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._writer.execute("DELETE FROM local WHERE key = ?", (key,))
        else:
            self._writer.execute("INSERT OR REPLACE INTO local VALUES (?, ?)", (key, value))

    # The archive

    def segments(self) -> tuple[SegmentRow, ...]:
        """The segments that blocks moved to, the oldest first."""
        return tuple(self._segments.values())

    def next_segment(self) -> tuple[int, bytes]:
        """The number of the next segment, and the digest of the one before."""
        last = self.segments()[-1:]
        return (last[0].number + 1, last[0].digest) if last else (1, NO_SEGMENT)

    def movable(
        self, covered: Mapping[FeedKey, int], before: HlcTime
    ) -> Iterator[tuple[int, BlockRow]]:
        """The blocks that may move, with their numbers, in the order of their admission.

        Args:
            covered: how many blocks of each feed lie under a cosigned checkpoint.
            before: only blocks with a time before this.

        Raises:
            StorageError: as `blocks`.
        """
        after = 0
        closed: set[FeedKey] = set()
        names = {number: feed for feed, number in self._feeds.items()}
        while page := self._page(NEXT_HERE, (after,)):
            for row in page:
                after, feed, time = row.admission, names[row.feed], row.time & U64
                if time >= before + _LATE:
                    return
                if row.seq_num >= covered.get(feed, 0) or time >= before:
                    closed.add(feed)
                if feed not in closed:
                    block_id = BlockId(row.block_id)
                    yield after, BlockRow(feed, row.seq_num, block_id, time, self._data(feed, row))

    def move(self, segment: Segment, admissions: Sequence[int]) -> SegmentRow:
        """Lets the blocks with these numbers point into the segment, which is on disk already.

        Raises:
            StorageError: as `append`; every block is where it was.
        """
        index = segment.index
        assert len(admissions) == len(segment.locations) == index.blocks, "one place each"
        raw = sum(location.size for location in segment.locations)
        row = SegmentRow(
            index.number,
            index.name,
            index.digest,
            index.blocks,
            raw,
            len(segment.data),
            index.cut_ms,
        )
        with self._transaction():
            self._writer.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            # A row that only became shorter would leave its page as empty as it is; one that is
            # deleted lets SQLite merge pages, so that the file can become smaller.
            kept = [self._writer.execute(PLACE, (number,)).fetchone() for number in admissions]
            self._writer.executemany(
                "DELETE FROM blocks WHERE admission = ?", [(number,) for number in admissions]
            )
            self._writer.executemany(
                INSERT_MOVED,
                [
                    (*place, index.number, location.pack())
                    for place, location in zip(kept, segment.locations, strict=True)
                ],
            )
        self._segments[index.number] = row
        return row

    def give_back(self, pages: int = _VACUUM_PAGES) -> int:
        """Gives at most so many empty pages back to the file system; returns how many are left.

        Raises:
            StorageError: `database-failed` or as `append`.
        """
        with self._write_lock, sqlite_errors(self.path):
            if self._failure is not None:
                raise self._failure
            self._writer.execute(f"PRAGMA incremental_vacuum({pages:d})").fetchall()
            return int(self._writer.execute("PRAGMA freelist_count").fetchone()[0])

    def size_bytes(self) -> int:
        """What the file and its write-ahead log take on disk."""
        found = 0
        for path in (self.path, self.path.with_name(self.path.name + "-wal")):
            with suppress(OSError):
                found += path.stat().st_size
        return found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._write_lock:
            if self._failure is not None:
                raise self._failure
            try:
                with sqlite_errors(self.path):
                    self._writer.execute("BEGIN IMMEDIATE")
                    yield
                    self._writer.execute("COMMIT")
            except BaseException as error:
                self._undo()
                if isinstance(error, StorageError) and error.code not in UNDONE:
                    self._failure = StorageError(
                        "database-failed",
                        f"the ledger takes nothing more after an earlier error: {error.what}",
                        where=str(self.path),
                        remedy="check the disk, then start the daemon again",
                    )
                    raise self._failure from error
                raise

    def _undo(self) -> None:
        # Some errors roll back by themselves; then this one says so and is of no interest.
        with suppress(sqlite3.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    # Reading

    def blocks(self, *, after: int = 0, up_to: int | None = None) -> Iterator[BlockRow]:
        """All blocks in the order of their admission, those numbered up to `after` left out.

        Blocks that are appended meanwhile are included, unless `up_to` (a `last_admission()`) says
        where to end: then it is a snapshot.

        Raises:
            StorageError: `database-block-damaged`, `database-damaged`, `database-error`.
        """
        names: dict[int, FeedKey] = {}
        while page := self._page(NEXT_ADMITTED, (after, ALL if up_to is None else up_to)):
            for row in page:
                after = row.admission
                if row.feed not in names:
                    names = {number: feed for feed, number in self._feeds.items()}
                feed = names[row.feed]
                data, block_id = self._data(feed, row), BlockId(row.block_id)
                time = row.time & U64
                yield BlockRow(feed, row.seq_num, block_id, time, data, bool(row.side))

    def index(self) -> Iterator[Place]:
        """Where each block stands, in the order of their admission, without its bytes."""
        names = {number: feed for feed, number in self._feeds.items()}
        after = 0
        while page := self._rows(NEXT_INDEX, (after, INDEX_ROWS)):
            for after, number, seq_num, block_id, time, side in page:
                feed, moment = names[number], time & U64
                yield Place(after, feed, seq_num, BlockId(block_id), moment, bool(side))

    def data(self, admission: int) -> bytes:
        """The received bytes of the block with this number in the order of admission.

        Raises:
            StorageError: as `blocks`.
        """
        row = next(self.blocks(after=admission - 1, up_to=admission))
        return row.data

    def read_range(
        self, feed: FeedKey, from_seq: int, to_seq: int, block_id: BlockId | None = None
    ) -> Iterator[bytes]:
        """The received bytes of the blocks `from_seq` to `to_seq`, both included, in order.

        Of a feed with branches, those of the branch that came first; with a `block_id`, one block
        on whichever branch it stands, at the place `from_seq`.

        Raises:
            StateError: `block-not-stored`, where the first missing one would stand.
            StorageError: as `blocks`.
        """
        number = self._feeds.get(feed, NO_FEED)
        seq_num = from_seq
        if block_id is not None:
            for row in self._page(NAMED, (number, from_seq, block_id)):
                yield self._data(feed, row)
            return
        while seq_num <= to_seq:
            page = self._page(NEXT_OF_FEED, (number, seq_num, to_seq))
            if not page or page[0].seq_num != seq_num:
                raise StateError(
                    "block-not-stored",
                    f"block {seq_num} of {feed.centre}, epoch {feed.epoch}, is not here",
                )
            for row in page:
                if row.seq_num != seq_num:
                    break
                seq_num += 1
                yield self._data(feed, row)

    def block(self, feed: FeedKey, seq_num: int) -> bytes | None:
        """The block at that place of the branch that came first, None if it is not here."""
        rows = self._page(NEXT_OF_FEED, (self._feeds.get(feed, NO_FEED), seq_num, seq_num))
        for row in rows:
            return self._data(feed, row)
        return None

    def stored(self) -> Iterator[bytes]:
        """The bytes of all blocks, in the order of their admission; raises as `blocks`."""
        return (row.data for row in self.blocks())

    def frontier(self) -> Frontier:
        """For every feed, its newest block."""
        rows = self._rows(
            "SELECT f.centre, f.epoch, b.seq_num, b.block_id FROM feeds f JOIN blocks b"
            " ON b.feed = f.feed AND b.side = 0 AND b.seq_num = (SELECT max(seq_num) FROM blocks"
            " WHERE feed = f.feed AND side = 0) ORDER BY f.centre, f.epoch",
            (),
        )
        return {FeedKey(CentreName(c), e): Head(s, BlockId(i)) for c, e, s, i in rows}

    def block_id(self, feed: FeedKey, seq_num: int) -> BlockId | None:
        """The id of the block at that position, None if it is not here."""
        rows = self._rows(
            "SELECT block_id FROM blocks WHERE feed = ? AND seq_num = ? AND side = 0",
            (self._feeds.get(feed, NO_FEED), seq_num),
        )
        return BlockId(rows[0][0]) if rows else None

    def has_branches(self) -> bool:
        """Whether a block is stored that stands beside its feed."""
        return bool(self._rows("SELECT 1 FROM blocks WHERE side != 0 LIMIT 1", ()))

    def block_count(self) -> int:
        """How many blocks are stored."""
        return int(self._rows("SELECT count(*) FROM blocks", ())[0][0])

    def last_admission(self) -> int:
        """The number of the newest block, 0 if there is none."""
        return int(self._rows("SELECT coalesce(max(admission), 0) FROM blocks", ())[0][0])

    def local_get(self, key: str) -> bytes | None:
        """The value of one local row, None if there is none."""
        rows = self._rows("SELECT value FROM local WHERE key = ?", (key,))
        return bytes(rows[0][0]) if rows else None

    def local_items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        """The local rows whose key begins with `prefix`, by key."""
        rows = self._rows(
            "SELECT key, value FROM local WHERE key >= ? AND key < ? ORDER BY key",
            (prefix, prefix + LAST_CHARACTER),
        )
        return [(str(key), bytes(value)) for key, value in rows]

    def newest_local_items(self, prefix: str, limit: int) -> list[tuple[str, bytes]]:
        """The last `limit` local rows whose key begins with `prefix`, by key, descending."""
        rows = self._rows(
            "SELECT key, value FROM local WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?",
            (prefix, prefix + LAST_CHARACTER, limit),
        )
        return [(str(key), bytes(value)) for key, value in rows]

    def _rows(self, query: str, values: Sequence[int | str]) -> list[tuple[Any, ...]]:
        with self._read_lock, sqlite_errors(self.path):
            return self._reader.execute(query, values).fetchall()

    def _page(self, query: str, values: Sequence[int | bytes]) -> list[Row]:
        """The first rows of the answer, about PAGE_BYTES of them, at least one if there is one."""
        found: list[Row] = []
        size = 0
        with self._read_lock, sqlite_errors(self.path):
            cursor = self._reader.execute(query, values)
            try:
                for values_of_row in cursor:
                    row = Row(*values_of_row)
                    found.append(row)
                    size += len(row.data) + ROW_BYTES
                    if size >= PAGE_BYTES:
                        break
            finally:
                cursor.close()
        return found

    def _data(self, feed: FeedKey, row: Row) -> bytes:
        """The received bytes, wherever they are."""
        data = row.data
        if row.segment:
            data = self.archive.block(self._segments[row.segment], Location.unpack(data))
        if zlib.crc32(data) != row.crc:
            raise StorageError(
                "database-block-damaged",
                f"block {row.seq_num} of {feed.centre}, epoch {feed.epoch}, is damaged on disk",
                where=str(self.path),
                remedy="check the disk; move the ledger away, keep the high-water file, and start:"
                " the blocks come back from the peers",
            )
        return data
