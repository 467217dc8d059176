"""Run under `faults.c`: blocks move to the archive while every single write fails or kills.

Whatever happens, every block can be read as before, and the move can be made after a new start.
Not a test by itself.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from p2pfed.core.units import HlcTime
from p2pfed.errors import StorageError
from p2pfed.store.database import Database
from p2pfed.store.segments import SegmentWriter
from tests.unit.store.fault_program import FEDERATION, FEED, Task, main, row

BLOCKS = 6
MOVED = 4


def opened(folder: Path) -> Database:
    return Database.open(folder / "state" / "ledger.sqlite", federation=FEDERATION)


def prepare(folder: Path) -> None:
    with opened(folder) as database:
        database.append([row(n) for n in range(BLOCKS)])


def move(database: Database, covered: int) -> None:
    writer = SegmentWriter(b"charter", FEDERATION)
    admissions = []
    for admission, block in database.movable({FEED: covered}, HlcTime(1 << 62)):
        writer.add(block)
        admissions.append(admission)
    if admissions:
        segment = writer.finish(*database.next_segment(), 0, bytes(32))
        database.archive.write(segment)
        database.move(segment, admissions)


def work(folder: Path, acknowledged: Path) -> None:
    with suppress(StorageError), opened(folder) as database:
        move(database, MOVED // 2)
        move(database, MOVED)
        acknowledged.write_text("moved")
        while database.give_back():
            pass


def check(folder: Path, acknowledged: Path) -> str:
    """What is wrong with what the disk now holds; empty if nothing is."""
    with opened(folder) as database:
        if list(database.blocks()) != [row(n) for n in range(BLOCKS)]:
            return "blocks are lost or changed"
        moved = sum(segment.blocks for segment in database.segments())
        if acknowledged.exists() and moved != MOVED:
            return f"{moved} blocks are in the archive, {MOVED} were moved"
        known = {segment.name for segment in database.segments()}
        database.archive.clear(known, database.next_segment()[0], database.block_id)
        files = set()
        if database.archive.folder.exists():
            files = {path.name for path in database.archive.folder.iterdir()}
        if files != known:
            return f"the archive holds {files}, the ledger points to {known}"
        move(database, MOVED)
        if list(database.read_range(FEED, 0, BLOCKS - 1)) != [row(n).data for n in range(BLOCKS)]:
            return "a second move lost blocks"
    return ""


if __name__ == "__main__":
    main(Task(prepare, work, check))
