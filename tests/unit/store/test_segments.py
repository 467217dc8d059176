"""Archive segments: any zstd tool makes a ledger file of them, and damage is named."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path

import pytest
import zstandard

from p2pfed.core.ids import BlockId, CentreName, FeedKey
from p2pfed.core.ledgerfile import Entry, Trailer, read_ledger, write_ledger
from p2pfed.core.merkle import tree_root
from p2pfed.errors import InputError, StorageError
from p2pfed.store import segments as module
from p2pfed.store.rows import BlockRow
from p2pfed.store.segments import (
    NO_SEGMENT,
    Location,
    Segment,
    SegmentFile,
    SegmentWriter,
    joined,
    parse_index,
)

CHARTER = b"the charter"
FEDERATION = b"f" * 32
ALPHA = FeedKey(CentreName("alpha"), 0)
BETA = FeedKey(CentreName("beta"), 2)


def rows(first: int, last: int) -> list[BlockRow]:
    """Blocks of two feeds in turn, with bytes that do not compress away."""
    chance = random.Random(first)
    return [
        BlockRow(
            feed,
            n,
            BlockId(hashlib.sha256(f"{feed} {n}".encode()).digest()),
            n,
            chance.randbytes(chance.randrange(1, 900)),
        )
        for n in range(first, last + 1)
        for feed in (ALPHA, BETA)
    ]


def segment(blocks: list[BlockRow], number: int = 1, previous: bytes = NO_SEGMENT) -> Segment:
    writer = SegmentWriter(CHARTER, FEDERATION)
    for block in blocks:
        writer.add(block)
    return writer.finish(number, previous, 1_000, b"s" * 32)


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRAME_BYTES", 3_000)


def write(folder: Path, *parts: Segment) -> Path:
    folder.mkdir(exist_ok=True)
    for part in parts:
        (folder / part.index.name).write_bytes(part.data)
    return folder


def chain(folder: Path) -> tuple[list[BlockRow], list[Segment]]:
    blocks = rows(0, 40)
    first = segment(blocks[:30])
    second = segment(blocks[30:], 2, first.index.digest)
    write(folder, first, second)
    return blocks, [first, second]


def test_any_zstd_tool_makes_a_ledger_file_of_a_segment() -> None:
    blocks = rows(0, 20)
    unpacker = zstandard.ZstdDecompressor().stream_reader(
        io.BytesIO(segment(blocks).data), read_across_frames=True
    )
    plain = unpacker.read()
    assert plain == b"".join(write_ledger(CHARTER, blocks))
    assert isinstance(list(read_ledger(io.BytesIO(plain)))[-1], Trailer)


def test_a_segment_names_what_is_in_it(tmp_path: Path) -> None:
    blocks, parts = chain(tmp_path)
    index = SegmentFile(tmp_path / parts[1].index.name).index
    assert index == parts[1].index
    assert (index.number, index.previous) == (2, parts[0].index.digest)
    assert [run.feed for run in index.runs] == [ALPHA, BETA]
    of_beta = [block for block in blocks[30:] if block.feed == BETA]
    run = index.runs[1]
    assert (run.first, run.last) == (of_beta[0].seq_num, of_beta[-1].seq_num)
    assert run.root == tree_root([block.block_id for block in of_beta])
    assert len(index.frames) > 4


def test_every_block_is_found_by_its_location(tmp_path: Path) -> None:
    blocks = rows(0, 20)
    part = segment(blocks)
    file = SegmentFile(write(tmp_path, part) / part.index.name)
    for block, location in zip(blocks, part.locations, strict=True):
        raw = file.frame(location.frame)
        assert raw[location.offset : location.offset + location.size] == block.data
        assert Location.unpack(location.pack()) == location


def test_a_folder_reads_as_the_ledger_that_was_moved(tmp_path: Path) -> None:
    blocks, parts = chain(tmp_path)
    whole = b"".join(write_ledger(CHARTER, blocks))
    with joined(tmp_path) as file:
        assert file.read() == whole
        entries = [entry for entry in read_ledger(io.BytesIO(whole)) if isinstance(entry, Entry)]
        for entry in reversed(entries):
            file.seek(entry.offset + 4)
            assert file.read(len(entry.data)) == entry.data
        assert file.seek(0, io.SEEK_END) == len(whole)
        assert file.read(1) == b""
    with joined(tmp_path / parts[0].index.name) as file:
        assert file.read() == b"".join(write_ledger(CHARTER, blocks[:30]))


def test_a_missing_link_of_the_chain_is_named(tmp_path: Path) -> None:
    _, parts = chain(tmp_path)
    (tmp_path / parts[0].index.name).unlink()
    with pytest.raises(InputError, match="segment 1 is not there") as caught:
        joined(tmp_path)
    assert caught.value.code == "segment-missing"
    (tmp_path / parts[1].index.name).unlink()
    with pytest.raises(InputError, match="no archive segment"):
        joined(tmp_path)


def test_every_bit_of_a_segment_that_changes_is_seen(tmp_path: Path) -> None:
    part = segment(rows(0, 6))
    path = tmp_path / "one"
    chance = random.Random(3)
    for _ in range(60):
        at = chance.randrange(len(part.data))
        changed = bytearray(part.data)
        changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        assert what_is_wrong(path, part) in ("segment-index", "segment-damaged", "another digest")


def what_is_wrong(path: Path, part: Segment) -> str:
    try:
        file = SegmentFile(path)
        for number in range(len(file.index.frames)):
            file.frame(number)
    except (InputError, StorageError) as error:
        return error.code
    return "" if file.index.digest == part.index.digest else "another digest"


def test_what_is_no_index_is_refused() -> None:
    for data in (b"", b"\x80", b"\x81\x01", segment(rows(0, 1)).index.encode() + b"\x00"):
        with pytest.raises(InputError) as caught:
            parse_index(data)
        assert caught.value.code == "segment-index"
