"""SQLite's errors as ours: what happened, whether anything was stored, what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2pfed.errors import StateError, StorageError
from p2pfed.store.files import disk_full

BUSY_MS: Final = 5_000
"""How long to wait for another program that has the file open, such as a backup."""


def foreign(path: Path) -> StorageError:
    """The error for a file that is not ours."""
    return StorageError(
        "database-foreign",
        "this is not a p2pfed ledger",
        where=str(path),
        remedy="point the state folder elsewhere, or move the file away",
    )


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours, by result code (sqlite.org/rescode.html)."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise StateError(
            "block-stored",
            f"a block stands at that position already ({error})",
            where=str(path),
        ) from error
    except sqlite3.ProgrammingError as error:
        raise StateError("database-closed", f"{error}", where=str(path)) from error
    except sqlite3.Error as error:
        raise _storage_error(error, path) from error


def _storage_error(error: sqlite3.Error, path: Path) -> StorageError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    where = str(path)
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return disk_full(path)
    if code == sqlite3.SQLITE_IOERR_WRITE:
        return StorageError(
            "database-write",
            "a write to the ledger was refused and undone",
            where=where,
            remedy="check quotas, file size limits and the disk",
        )
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageError(
            "database-busy",
            f"another program kept the ledger locked for {BUSY_MS} ms",
            where=where,
            remedy="find it (for example with fuser) and stop it",
        )
    if code & 0xFF == sqlite3.SQLITE_NOTADB:
        return foreign(path)
    if code & 0xFF == sqlite3.SQLITE_CORRUPT:
        return StorageError(
            "database-damaged",
            f"the ledger file is damaged ({error})",
            where=where,
            remedy="check the disk; move the ledger away, keep the high-water file, and start: the"
            " blocks come back from the peers",
        )
    name = getattr(error, "sqlite_errorname", "")
    return StorageError(
        "database-error",
        f"SQLite refused: {error} {name}".rstrip(),
        where=where,
        remedy="check that the folder is writable and the disk is healthy",
    )
