"""The tables of the ledger database, and what makes a file one of ours.

A row of `blocks` is a block. Its `data` are the received bytes while `segment` is 0; once the block
has moved to the archive, `segment` is the number of its archive segment and `data` the place in it
(`p2pfed.store.segments.Location`). The CRC-32 is that of the received bytes in both cases.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from p2pfed.errors import StorageError
from p2pfed.store.sqlite_errors import BUSY_MS, foreign

SCHEMA_VERSION: Final = 3
APPLICATION_ID: Final = 0x50324644
"""`P2FD`: what `file` and SQLite see in the header."""

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE feeds (
    feed INTEGER PRIMARY KEY, centre TEXT NOT NULL, epoch INTEGER NOT NULL,
    UNIQUE (centre, epoch));
CREATE TABLE blocks (
    admission INTEGER PRIMARY KEY, feed INTEGER NOT NULL, seq_num INTEGER NOT NULL,
    block_id BLOB NOT NULL, time INTEGER NOT NULL, crc INTEGER NOT NULL, side INTEGER NOT NULL,
    segment INTEGER NOT NULL DEFAULT 0, data BLOB NOT NULL);
CREATE UNIQUE INDEX chain ON blocks (feed, seq_num) WHERE side = 0;
CREATE UNIQUE INDEX branches ON blocks (feed, seq_num, block_id) WHERE side = 1;
CREATE INDEX here ON blocks (admission) WHERE segment = 0 AND side = 0;
CREATE TABLE segments (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL, blocks INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL, stored_bytes INTEGER NOT NULL, cut_ms INTEGER NOT NULL);
CREATE TABLE local (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection that whoever uses it keeps to one thread at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def prepare(writer: sqlite3.Connection, path: Path, federation: bytes) -> None:
    """Checks that the file is ours, or makes the tables in one that is still empty.

    Raises:
        StorageError: `database-foreign`, `database-version`, `database-no-wal`,
            `database-federation`.
    """
    application = writer.execute("PRAGMA application_id").fetchone()[0]
    version = writer.execute("PRAGMA user_version").fetchone()[0]
    tables = writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    new = (application, version, tables) == (0, 0, 0)
    if new:
        # Only before the first table: pages that the archive emptied can then be given back.
        writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
    else:
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
