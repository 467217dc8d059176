"""What is asked of the ledger database, and a row of its blocks as SQLite gives it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Row(NamedTuple):
    """A row of `blocks`; see `p2pfed.store.ledger_schema`."""

    admission: int
    feed: int
    seq_num: int
    block_id: bytes
    time: int
    crc: int
    side: int
    segment: int
    data: bytes


SELECT: Final = (
    "SELECT admission, feed, seq_num, block_id, time, crc, side, segment, data FROM blocks"
)
SEGMENTS: Final = (
    "SELECT number, name, digest, blocks, raw_bytes, stored_bytes, cut_ms FROM segments"
)
LAST_NUMBER: Final = "SELECT max(admission) FROM blocks WHERE admission BETWEEN ? AND ?"
PLACE: Final = (
    "SELECT admission, feed, seq_num, block_id, time, crc, side FROM blocks"
    " WHERE admission = ? AND segment = 0"
)
INSERT_MOVED: Final = (
    "INSERT INTO blocks (admission, feed, seq_num, block_id, time, crc, side, segment, data)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
NEXT_HERE: Final = f"{SELECT} WHERE admission > ? AND segment = 0 AND side = 0 ORDER BY admission"
NEXT_ADMITTED: Final = f"{SELECT} WHERE admission > ? AND admission <= ? ORDER BY admission"
NEXT_INDEX: Final = """SELECT admission, feed, seq_num, block_id, time, side FROM blocks
    WHERE admission > ? ORDER BY admission LIMIT ?"""
INDEX_ROWS: Final = 4096
"""Rows of the index that are read at a time."""
NEXT_OF_FEED: Final = (
    f"{SELECT} WHERE feed = ? AND side = 0 AND seq_num BETWEEN ? AND ? ORDER BY seq_num"
)
NAMED: Final = f"{SELECT} WHERE feed = ? AND seq_num = ? AND block_id = ?"
ROW_BYTES: Final = 256
"""What a row costs in memory beside its block, roughly: bounds a page of tiny blocks."""
NO_FEED: Final = -1
ALL: Final = (1 << 63) - 1
LAST_CHARACTER: Final = "\U0010ffff"
U64: Final = (1 << 64) - 1
UNDONE: Final = frozenset({"disk-full", "database-write", "database-busy"})
"""Errors after which it is certain that nothing was stored."""


def to_signed(time: int) -> int:
    """SQLite's integers are signed: the upper half of the 64-bit times is stored negative."""
    return time - (1 << 64) if time >> 63 else time


INSERT: Final = (
    "INSERT INTO blocks (admission, feed, seq_num, block_id, time, crc, side, data)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
