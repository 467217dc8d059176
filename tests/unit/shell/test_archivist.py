"""What a majority cosigned moves to the archive; what is there is read like any export."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfed.core.audit import FileSource, audit_ledger
from p2pfed.core.blocks import Block
from p2pfed.core.charter import encode_charter
from p2pfed.core.checkpoint import TreeHead
from p2pfed.core.ids import BlockId, FeedKey, PublicKey
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.units import HlcTime, hlc_ms
from p2pfed.errors import StorageError
from p2pfed.node.effects import CheckpointCosigned
from p2pfed.shell.archivist import Archivist
from p2pfed.shell.sections import RetentionConfig
from p2pfed.simulate.scribes import Scribes
from p2pfed.store import segments
from p2pfed.store.database import Database
from p2pfed.store.rows import BlockRow
from p2pfed.store.segments import SegmentFile, joined

CONFIG = RetentionConfig(keep_s=1, segment_kib=8)


class Ledger:
    """A centre's store that holds a short history."""

    def __init__(self, folder: Path) -> None:
        scribes = Scribes(5, jobs=40, walltimes_s=(20,))
        self.charter = encode_charter(scribes.charter)
        self.federation = scribes.charter.federation_id
        self.blocks: list[Block] = list(scribes.blocks())
        self.rows = [BlockRow(b.feed, b.seq_num, b.block_id, b.time, b.data) for b in self.blocks]
        path = folder / "state" / "ledger.sqlite"
        self.database = Database.open(path, federation=self.federation, archive=folder / "archive")
        self.database.append(self.rows)
        self.now_ms = hlc_ms(self.blocks[-1].time) + 60_000

    def archivist(self, config: RetentionConfig = CONFIG) -> Archivist:
        bearings = self.database.path.parent / "bearings"
        return Archivist(self.database, self.charter, self.federation, config, bearings)

    def under(self, part: float = 1.0) -> CheckpointCosigned:
        """A checkpoint over the first part of the history."""
        sizes: dict[FeedKey, Block] = {}
        for block in self.blocks[: int(len(self.blocks) * part)]:
            sizes[block.feed] = block
        return CheckpointCosigned(
            cut_ms=max(hlc_ms(block.time) for block in sizes.values()),
            state_hash=bytes(32),
            trees=tuple(
                TreeHead(f, b.seq_num + 1, b.block_id, bytes(32), b.time, PublicKey(bytes(32)))
                for f, b in sizes.items()
            ),
        )

    def archived(self) -> int:
        return sum(row.blocks for row in self.database.segments())


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setattr(segments, "FRAME_BYTES", 2_000)
    found = Ledger(tmp_path)
    with found.database:
        yield found


def test_an_archive_is_audited_like_the_export_it_was(ledger: Ledger) -> None:
    assert ledger.archivist().move_all(ledger.under(), ledger.now_ms) > 2
    archived = ledger.archived()
    assert archived > len(ledger.rows) // 2
    with joined(ledger.database.archive.folder) as file:
        assert file.read() == b"".join(write_ledger(ledger.charter, ledger.rows[:archived]))
        report = audit_ledger(FileSource(file), expected=ledger.federation)
    assert report.severity is None, report.ledger.findings
    whole = b"".join(write_ledger(ledger.charter, ledger.database.blocks()))
    assert whole == b"".join(write_ledger(ledger.charter, ledger.rows))
    assert audit_ledger(FileSource(io.BytesIO(whole)), expected=ledger.federation).severity is None


def test_only_what_was_cosigned_and_is_old_enough_moves(ledger: Ledger) -> None:
    under = ledger.under(0.5)
    ledger.archivist().move_all(under, ledger.now_ms)
    half = ledger.archived()
    assert 0 < half <= len(ledger.rows) // 2
    sizes = {tree.feed: tree.size for tree in under.trees}
    for path in ledger.database.archive.folder.iterdir():
        index = SegmentFile(path).index
        assert (index.cut_ms, index.state_hash) == (under.cut_ms, under.state_hash)
        assert all(run.last < sizes[run.feed] for run in index.runs)
    older = dataclasses.replace(CONFIG, keep_s=3_000_000)
    assert ledger.archivist(older).move_all(ledger.under(), ledger.now_ms) == 0
    assert ledger.archivist().move_all(ledger.under(), ledger.now_ms) > 0
    assert ledger.archived() > half


def test_what_another_branch_covers_stays(ledger: Ledger) -> None:
    """The majority counts another branch of a feed than the one that is held here."""
    under = ledger.under()
    first = under.trees[0]
    other = first._replace(block_id=BlockId(bytes(32)))
    changed = dataclasses.replace(under, trees=(other, *under.trees[1:]))
    ledger.archivist().move_all(changed, ledger.now_ms)
    assert ledger.archived() > 0
    for path in ledger.database.archive.folder.iterdir():
        assert first.feed not in [run.feed for run in SegmentFile(path).index.runs]


def test_a_segment_that_is_gone_is_named_and_nothing_is_made_up(ledger: Ledger) -> None:
    ledger.archivist().move_all(ledger.under(), ledger.now_ms)
    (lost, *_) = ledger.database.segments()
    (ledger.database.archive.folder / lost.name).unlink()
    with pytest.raises(StorageError, match="archive segment 1") as caught:
        list(ledger.database.blocks())
    assert caught.value.code == "segment-missing"
    newest = ledger.rows[-1]
    assert ledger.database.block(newest.feed, newest.seq_num) == newest.data


def test_a_segment_that_nothing_points_to_is_taken_away(ledger: Ledger) -> None:
    archivist = ledger.archivist()
    archivist.move_all(ledger.under(0.5), ledger.now_ms)
    known = {row.name for row in ledger.database.segments()}
    number, previous = ledger.database.next_segment()
    for name, rows in (("left", ledger.rows[-6:]), ("strange", [unknown(ledger)])):
        writer = segments.SegmentWriter(ledger.charter, ledger.federation)
        for row in rows:
            writer.add(row)
        path = ledger.database.archive.write(writer.finish(number, previous, 0, bytes(32)))
        path.rename(path.with_name(f"{name}{segments.SUFFIX}"))
    archivist.clear()
    names = {path.name for path in ledger.database.archive.folder.iterdir()}
    assert names == known | {f"strange{segments.SUFFIX}.unknown"}


def unknown(ledger: Ledger) -> BlockRow:
    row = ledger.rows[-1]
    return BlockRow(row.feed, row.seq_num + 1, BlockId(b"u" * 32), HlcTime(row.time + 1), b"data")
