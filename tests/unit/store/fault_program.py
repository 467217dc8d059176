"""Run under `faults.c`: a daemon's storage traffic, failed or killed at every single write.

Prints one line of JSON: how many writes were tried and what went wrong. Not a test by itself.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from p2pfed.core.ids import BlockId, CentreName, FeedKey, Head, PublicKey
from p2pfed.errors import StorageError
from p2pfed.store.database import Database
from p2pfed.store.highwater import HighWater, Mark, Restart, begun, judge_restart
from p2pfed.store.rows import BlockRow

FEDERATION = b"f" * 32
FEED = FeedKey(CentreName("alpha"), 0)
KEY = PublicKey(bytes(32))
APPENDS = 6
FAULTS = ctypes.CDLL(None)
FAULTS.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]


class Task(NamedTuple):
    """What is done while writes fail, and how it is judged."""

    prepare: Callable[[Path], None]
    work: Callable[[Path, Path], object]
    check: Callable[[Path, Path], str]


def arm(folder: Path, nth: int, error: int) -> None:
    FAULTS.fault_arm(f"{folder}/".encode(), nth, error)


def disarm() -> None:
    FAULTS.fault_arm(b"", 0, 0)


def row(seq_num: int) -> BlockRow:
    data = b"%d" % seq_num * 3000
    return BlockRow(FEED, seq_num, BlockId(seq_num.to_bytes(32, "big")), seq_num, data)


def prepare(folder: Path) -> None:
    """As `p2pfed init` leaves it."""
    HighWater(folder / "highwater").begin(FEED.centre, KEY)


def work(folder: Path, acknowledged: Path) -> list[str]:
    """Own blocks, each followed by its mark and its acknowledgement; the errors met.

    After a full disk the step that failed is tried again; after any other error it stops.
    """
    met: list[str] = []
    highwater = HighWater(folder / "highwater")
    try:
        with Database.open(folder / "state" / "ledger.sqlite", federation=FEDERATION) as database:
            for new in map(row, range(APPENDS)):
                note = f"note/{new.seq_num}"
                persist(met, partial(database.append, [new], [(note, b"x")]))
                persist(met, partial(highwater.write, FEED, Head(new.seq_num, new.block_id)))
                acknowledged.write_text(str(new.seq_num + 1))
    except StorageError as error:
        met.append(error.code)
    return met


def persist(met: list[str], step: Callable[[], None]) -> None:
    try:
        step()
    except StorageError as error:
        met.append(error.code)
        if error.code not in ("disk-full", "database-write"):
            raise
        step()


def check(folder: Path, acknowledged: Path) -> str:
    """What is wrong with what the disk now holds; empty if nothing is."""
    expected = int(acknowledged.read_text()) if acknowledged.exists() else 0
    with Database.open(folder / "state" / "ledger.sqlite", federation=FEDERATION) as database:
        rows = list(database.blocks())
        if rows != [row(n) for n in range(len(rows))] or len(rows) < expected:
            return f"{expected} acknowledged, held: {[r.seq_num for r in rows]}"
        if len(database.local_items("note/")) != len(rows):
            return "local rows and blocks of one transaction parted"
        mark = HighWater(folder / "highwater").read()
        own = Mark(FEED, Head(len(rows) - 1, rows[-1].block_id)) if rows else None
        beginning = begun(FEED.centre, KEY)
        verdict = judge_restart(mark, own, database.block_id, beginning)
        if verdict is not Restart.START:
            return f"mark {mark}, {len(rows)} blocks: restart would be {verdict}"
        database.append([row(len(rows))])
    return ""


def attempt(folder: Path, nth: int, error: int, task: Task) -> tuple[bool, str]:
    """One fresh folder, one fault; whether the fault was reached, and what it broke."""
    acknowledged = folder.with_suffix(".ack")
    folder.mkdir()
    task.prepare(folder)
    process = os.fork()
    if process == 0:
        status = 3
        try:
            arm(folder, nth, error)
            task.work(folder, acknowledged)
            status = 1 if FAULTS.fault_calls() >= nth else 0
        finally:
            os._exit(status)
    _, status = os.waitpid(process, 0)
    if os.waitstatus_to_exitcode(status) == 3:
        return True, "an error that is not ours"
    return status != 0, task.check(folder, acknowledged)


def main(task: Task) -> None:
    root = Path(sys.argv[1])
    error = int(sys.argv[2])
    broken: list[str] = []
    nth = 0
    reached = True
    while reached:
        nth += 1
        reached, wrong = attempt(root / f"{error}-{nth}", nth, error, task)
        if wrong:
            broken.append(f"{errno.errorcode.get(error, 'kill')} at write {nth}: {wrong}")
    (root / "synced").mkdir()
    task.prepare(root / "synced")
    arm(root, 0, 0)
    task.work(root / "synced", root / "synced.ack")
    unsynced, syncs = FAULTS.fault_unsynced(), FAULTS.fault_syncs()
    disarm()
    print(json.dumps({"writes": nth - 1, "broken": broken, "unsynced": unsynced, "syncs": syncs}))


if __name__ == "__main__":
    main(Task(prepare, work, check))
