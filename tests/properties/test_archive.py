"""A ledger of which blocks moved to the archive answers like one that keeps them all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.ids import BlockId, CentreName, FeedKey
from p2pfed.core.units import HlcTime
from p2pfed.errors import StateError
from p2pfed.store.database import Database
from p2pfed.store.rows import BlockRow
from p2pfed.store.segments import SegmentWriter

FEDERATION: Final = b"f" * 32
FEEDS: Final = tuple(FeedKey(CentreName(name), 0) for name in ("alpha", "beta", "gamma"))
NEVER: Final = HlcTime(1 << 63)


@st.composite
def histories(draw: st.DrawFn) -> list[BlockRow]:
    """Blocks of some feeds as they were admitted, here and there one beside its feed."""
    heights = dict.fromkeys(FEEDS, 0)
    found = []
    for time, (feed, size, side) in enumerate(
        draw(
            st.lists(
                st.tuples(st.sampled_from(FEEDS), st.integers(1, 400), st.integers(0, 9)),
                min_size=1,
                max_size=40,
            )
        )
    ):
        seq_num = heights[feed]
        is_side = side == 0 and seq_num > 0
        at = seq_num - 1 if is_side else seq_num
        block_id = BlockId(hashlib.sha256(f"{feed} {time}".encode()).digest())
        found.append(BlockRow(feed, at, block_id, time, block_id * (size // 32 + 1), is_side))
        heights[feed] += not is_side
    return found


moves = st.lists(
    st.tuples(st.tuples(*[st.integers(0, 20)] * len(FEEDS)), st.integers(0, 60), st.integers(1, 9)),
    max_size=4,
)


def move(database: Database, covered: tuple[int, ...], before: int, count: int) -> None:
    writer = SegmentWriter(b"charter", FEDERATION)
    admissions = []
    limits = dict(zip(FEEDS, covered, strict=True))
    for admission, row in database.movable(limits, HlcTime(before)):
        assert row.seq_num < limits[row.feed]
        assert row.time < before
        assert not row.side
        writer.add(row)
        admissions.append(admission)
        if len(admissions) == count:
            break
    if admissions:
        segment = writer.finish(*database.next_segment(), 0, bytes(32))
        database.archive.write(segment)
        database.move(segment, admissions)


def outcome(read: Callable[[], object]) -> object:
    try:
        return read()
    except StateError as error:
        return error.code


def read_ten(database: Database, feed: FeedKey) -> list[bytes]:
    return list(database.read_range(feed, 0, 9))


def answers(database: Database, rows: list[BlockRow]) -> list[object]:
    """What a daemon may ever ask of its store."""
    return [
        list(database.blocks()),
        list(database.blocks(after=len(rows) // 2)),
        list(database.stored()),
        list(database.index()),
        database.frontier(),
        [database.block(row.feed, row.seq_num) for row in rows],
        [database.block_id(row.feed, row.seq_num) for row in rows],
        [list(database.read_range(row.feed, row.seq_num, row.seq_num, row[2])) for row in rows],
        [outcome(partial(read_ten, database, feed)) for feed in FEEDS],
        [database.data(place.admission) for place in database.index()],
        database.has_branches(),
        database.block_count(),
    ]


@settings(max_examples=15, deadline=None)
@given(histories(), moves)
def test_archived_and_whole_ledgers_answer_alike(
    rows: list[BlockRow], steps: list[tuple[tuple[int, ...], int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        with Database.open(path, federation=FEDERATION) as database:
            database.append(rows)
            before = answers(database, rows)
            for covered, moved_before, count in steps:
                move(database, covered, moved_before, count)
            assert answers(database, rows) == before
        with Database.open(path, federation=FEDERATION) as database:
            assert answers(database, rows) == before
            move(database, (99,) * len(FEEDS), NEVER, 999)
            assert sum(s.blocks for s in database.segments()) == sum(not r.side for r in rows)
            assert answers(database, rows) == before
