"""The ledger on disk: one SQLite file that only ever grows at its end.

Theory of operation. A block is a row, numbered in the order in which it was admitted; because a
block is admitted only after everything that it rests on, replaying the rows in that order rebuilds
a node. `append` writes any number of blocks and local rows in one transaction and returns when the
disk has them (write-ahead log, `synchronous=FULL`, one sync a call); whoever acknowledges something
does so after that. Local rows are small facts of this centre alone, never replicated.

SQLite does not notice a bit that rots inside a row, and a daemon does not check a million
signatures at each start. So each row carries a CRC-32 of its block: what is damaged is named when
it is read, and never sent to a peer.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

from p2pfed.core.ids import BlockId, CentreName, FeedKey, Frontier, Head, Place
from p2pfed.errors import P2pfedError, StateError, StorageError
from p2pfed.store.files import disk_errors, make_folder, sync_folder
from p2pfed.store.sqlite_errors import BUSY_MS, foreign, sqlite_errors

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = 0x50324644
"""`P2FD`: what `file` and SQLite see in the header."""
PAGE_BYTES: Final = 1 << 20
"""Block bytes that one step of a reader takes into memory (or one block, if that is larger)."""

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE feeds (
    feed INTEGER PRIMARY KEY, centre TEXT NOT NULL, epoch INTEGER NOT NULL,
    UNIQUE (centre, epoch));
CREATE TABLE blocks (
    admission INTEGER PRIMARY KEY, feed INTEGER NOT NULL, seq_num INTEGER NOT NULL,
    block_id BLOB NOT NULL, time INTEGER NOT NULL, crc INTEGER NOT NULL, side INTEGER NOT NULL,
    data BLOB NOT NULL);
CREATE UNIQUE INDEX chain ON blocks (feed, seq_num) WHERE side = 0;
CREATE UNIQUE INDEX branches ON blocks (feed, seq_num, block_id) WHERE side = 1;
CREATE TABLE local (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID
"""
_INSERT: Final = (
    "INSERT INTO blocks (feed, seq_num, block_id, time, crc, side, data)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class StoredBlock(Protocol):
    """A block as it is kept; any value with these attributes can be appended."""

    @property
    def feed(self) -> FeedKey:
        """The chain that it belongs to."""

    @property
    def seq_num(self) -> int:
        """Its place in the chain, from 0."""

    @property
    def block_id(self) -> BlockId:
        """The SHA-256 of its signed payload."""

    @property
    def time(self) -> int:
        """Its hybrid time, 0 to 2^64 - 1."""

    @property
    def data(self) -> bytes:
        """The bytes as they were received."""

    @property
    def side(self) -> bool:
        """Whether it stands beside its feed, on a branch that came second."""


class BlockRow(NamedTuple):
    """A stored block, as it is read back."""

    feed: FeedKey
    seq_num: int
    block_id: BlockId
    time: int
    data: bytes
    side: bool = False


class Database:
    """The blocks and local rows of one centre in one federation."""

    def __init__(self, path: Path, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        """Use `Database.open`."""
        self.path = path
        self._writer = writer
        self._reader = reader
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._failure: StorageError | None = None
        rows = writer.execute("SELECT centre, epoch, feed FROM feeds").fetchall()
        self._feeds = {FeedKey(CentreName(c), e): feed for c, e, feed in rows}

    @classmethod
    def open(cls, path: Path, *, federation: bytes) -> Database:
        """The database at `path`, made if there is none (mode 0600, parents included).

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
                writer = _connect(path)
                connections.append(writer)
                _prepare(writer, path, federation)
                reader = _connect(path)
                connections.append(reader)
                reader.execute("PRAGMA query_only = ON")
                return cls(path, writer, reader)
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
    ) -> None:
        """Stores all of it in this order and syncs once, or stores nothing and raises.

        A local value None removes the row.

        Raises:
            StateError: `block-stored`: a block stands at one of the positions already.
            StorageError: `disk-full`, `database-write` (nothing stored, may be tried again);
                `database-failed` (nothing more is stored until the database is opened again).
        """
        if not blocks and not local:
            return
        with self._transaction():
            fresh: dict[FeedKey, int] = {}
            self._writer.executemany(_INSERT, [self._row(block, fresh) for block in blocks])
            for key, value in local:
                self._set_local(key, value)
        # Only now: a transaction that was undone took its feed numbers with it.
        self._feeds.update(fresh)

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
        time = _to_signed(block.time)
        return feed, block.seq_num, block.block_id, time, zlib.crc32(data), block.side, data

    def _set_local(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._writer.execute("DELETE FROM local WHERE key = ?", (key,))
        else:
            self._writer.execute("INSERT OR REPLACE INTO local VALUES (?, ?)", (key, value))

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
                if isinstance(error, StorageError) and error.code not in _UNDONE:
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
        """All blocks in the order of their admission, without the first `after`.

        Blocks that are appended meanwhile are included, unless `up_to` (a `block_count()`) says
        where to end: then it is a snapshot.

        Raises:
            StorageError: `database-block-damaged`, `database-damaged`, `database-error`.
        """
        names: dict[int, FeedKey] = {}
        while page := self._page(_NEXT_ADMITTED, (after, _ALL if up_to is None else up_to)):
            for row in page:
                after = row.admission
                if row.feed not in names:
                    names = {number: feed for feed, number in self._feeds.items()}
                feed = names[row.feed]
                self._check(feed, row)
                block_id = BlockId(row.block_id)
                time = row.time & _U64
                yield BlockRow(feed, row.seq_num, block_id, time, row.data, bool(row.side))

    def index(self) -> Iterator[Place]:
        """Where each block stands, in the order of their admission, without its bytes."""
        names = {number: feed for feed, number in self._feeds.items()}
        after = 0
        while page := self._rows(_NEXT_INDEX, (after, _INDEX_ROWS)):
            for after, number, seq_num, block_id, time, side in page:
                feed, moment = names[number], time & _U64
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
        number = self._feeds.get(feed, _NO_FEED)
        seq_num = from_seq
        if block_id is not None:
            for row in self._page(_NAMED, (number, from_seq, block_id)):
                self._check(feed, row)
                yield row.data
            return
        while seq_num <= to_seq:
            page = self._page(_NEXT_OF_FEED, (number, seq_num, to_seq))
            if not page or page[0].seq_num != seq_num:
                raise StateError(
                    "block-not-stored",
                    f"block {seq_num} of {feed.centre}, epoch {feed.epoch}, is not here",
                )
            for row in page:
                if row.seq_num != seq_num:
                    break
                self._check(feed, row)
                seq_num += 1
                yield row.data

    def block(self, feed: FeedKey, seq_num: int) -> bytes | None:
        """The block at that place of the branch that came first, None if it is not here."""
        rows = self._page(_NEXT_OF_FEED, (self._feeds.get(feed, _NO_FEED), seq_num, seq_num))
        for row in rows:
            self._check(feed, row)
            return row.data
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
            (self._feeds.get(feed, _NO_FEED), seq_num),
        )
        return BlockId(rows[0][0]) if rows else None

    def has_branches(self) -> bool:
        """Whether a block is stored that stands beside its feed."""
        return bool(self._rows("SELECT 1 FROM blocks WHERE side != 0 LIMIT 1", ()))

    def block_count(self) -> int:
        """How many blocks are stored."""
        return int(self._rows("SELECT coalesce(max(admission), 0) FROM blocks", ())[0][0])

    def local_get(self, key: str) -> bytes | None:
        """The value of one local row, None if there is none."""
        rows = self._rows("SELECT value FROM local WHERE key = ?", (key,))
        return bytes(rows[0][0]) if rows else None

    def local_items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        """The local rows whose key begins with `prefix`, by key."""
        rows = self._rows(
            "SELECT key, value FROM local WHERE key >= ? AND key < ? ORDER BY key",
            (prefix, prefix + _LAST_CHARACTER),
        )
        return [(str(key), bytes(value)) for key, value in rows]

    def newest_local_items(self, prefix: str, limit: int) -> list[tuple[str, bytes]]:
        """The last `limit` local rows whose key begins with `prefix`, by key, descending."""
        rows = self._rows(
            "SELECT key, value FROM local WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?",
            (prefix, prefix + _LAST_CHARACTER, limit),
        )
        return [(str(key), bytes(value)) for key, value in rows]

    def _rows(self, query: str, values: Sequence[int | str]) -> list[tuple[Any, ...]]:
        with self._read_lock, sqlite_errors(self.path):
            return self._reader.execute(query, values).fetchall()

    def _page(self, query: str, values: Sequence[int | bytes]) -> list[_Row]:
        """The first rows of the answer, about PAGE_BYTES of them, at least one if there is one."""
        found: list[_Row] = []
        size = 0
        with self._read_lock, sqlite_errors(self.path):
            cursor = self._reader.execute(query, values)
            try:
                for values_of_row in cursor:
                    row = _Row(*values_of_row)
                    found.append(row)
                    size += len(row.data) + _ROW_BYTES
                    if size >= PAGE_BYTES:
                        break
            finally:
                cursor.close()
        return found

    def _check(self, feed: FeedKey, row: _Row) -> None:
        if zlib.crc32(row.data) != row.crc:
            raise StorageError(
                "database-block-damaged",
                f"block {row.seq_num} of {feed.centre}, epoch {feed.epoch}, is damaged on disk",
                where=str(self.path),
                remedy="check the disk; move the ledger away, keep the high-water file, and start:"
                " the blocks come back from the peers",
            )


class _Row(NamedTuple):
    admission: int
    feed: int
    seq_num: int
    block_id: bytes
    time: int
    crc: int
    side: int
    data: bytes


_SELECT: Final = "SELECT admission, feed, seq_num, block_id, time, crc, side, data FROM blocks"
_NEXT_ADMITTED: Final = f"{_SELECT} WHERE admission > ? AND admission <= ? ORDER BY admission"
_NEXT_INDEX: Final = """SELECT admission, feed, seq_num, block_id, time, side FROM blocks
    WHERE admission > ? ORDER BY admission LIMIT ?"""
_INDEX_ROWS: Final = 4096
"""Rows of the index that are read at a time."""
_NEXT_OF_FEED: Final = (
    f"{_SELECT} WHERE feed = ? AND side = 0 AND seq_num BETWEEN ? AND ? ORDER BY seq_num"
)
_NAMED: Final = f"{_SELECT} WHERE feed = ? AND seq_num = ? AND block_id = ?"
_ROW_BYTES: Final = 256
"""What a row costs in memory beside its block, roughly: bounds a page of tiny blocks."""
_NO_FEED: Final = -1
_ALL: Final = (1 << 63) - 1
_LAST_CHARACTER: Final = "\U0010ffff"
_U64: Final = (1 << 64) - 1
_UNDONE: Final = frozenset({"disk-full", "database-write", "database-busy"})
"""Errors after which it is certain that nothing was stored."""


def _to_signed(time: int) -> int:
    """SQLite's integers are signed: the upper half of the 64-bit times is stored negative."""
    return time - (1 << 64) if time >> 63 else time


def _connect(path: Path) -> sqlite3.Connection:
    # The locks of Database keep each connection to one thread at a time.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _prepare(writer: sqlite3.Connection, path: Path, federation: bytes) -> None:
    """Checks that the file is ours, or makes the tables in one that is still empty."""
    application = writer.execute("PRAGMA application_id").fetchone()[0]
    version = writer.execute("PRAGMA user_version").fetchone()[0]
    tables = writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    new = (application, version, tables) == (0, 0, 0)
    if not new:
        if application != APPLICATION_ID:
            raise foreign(path)
        if version != SCHEMA_VERSION:
            raise StorageError(
                "database-version",
                f"the ledger has schema version {version}, this program reads {SCHEMA_VERSION}",
                where=str(path),
                remedy="run the version of p2pfed that made it, or move it away: the blocks come"
                " back from the peers (keep the high-water file)",
            )
    mode = writer.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(
            "database-no-wal",
            f"this file system does not support SQLite's write-ahead log (mode is {mode!r})",
            where=str(path),
            remedy="put the state folder on a local disk, not on a network file system",
        )
    if new:
        # One transaction, so that a crash leaves an empty file or a complete one.
        writer.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            writer.execute(statement)
        writer.execute("INSERT INTO meta VALUES ('federation', ?)", (federation,))
        writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        writer.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        writer.execute("COMMIT")
    row = writer.execute("SELECT value FROM meta WHERE key = 'federation'").fetchone()
    held = bytes(row[0]) if row else b""
    if held != federation:
        raise StorageError(
            "database-federation",
            f"the ledger belongs to federation {held.hex()[:16]}, not {federation.hex()[:16]}",
            where=str(path),
            remedy="use the charter that the ledger was made with, or another state folder",
        )
