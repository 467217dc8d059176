"""Archive segments: blocks that left the database, each segment a file that any tool can read.

Theory of operation. A segment is a run of zstd frames (RFC 8878). Whatever decompresses zstd turns
it into an ordinary ledger file (`p2pfed.core.ledgerfile`): the charter, blocks in the order of
their admission, the trailer. Before the frames stands a *skippable* frame, which such tools pass
over. It holds the index: which places of which feeds are in the segment, under which checkpoint
they lay, the SHA-256 of every frame, and the SHA-256 of the index of the segment before. So a
folder of segments is a chain: with the newest index everything before it can be checked.

One block is found by its `Location` without reading the rest: frames are about a mebibyte.

`joined` reads segments, or one of them, as the single ledger file that they make together, which
every command that takes an export takes. docs/reference/archive-segments.md is the normative text.
"""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import zstandard

from p2pfed.core.codec import decode, encode
from p2pfed.core.ids import CENTRE_NAME, BlockId, CentreName, FeedKey, Frontier, Head
from p2pfed.core.ledgerfile import LENGTH_BYTES, ExportedBlock, ledger_head, ledger_tail
from p2pfed.core.limits import BLOCK_BYTES_MAX
from p2pfed.core.merkle import HASH_BYTES, Range
from p2pfed.errors import InputError, StorageError
from p2pfed.store.files import disk_errors

SUFFIX: Final = ".ledger.zst"
FRAME_BYTES: Final = 1 << 20
"""Bytes of blocks after which a frame ends: what reading one block takes into memory."""
FRAME_BYTES_MAX: Final = FRAME_BYTES + BLOCK_BYTES_MAX + LENGTH_BYTES
INDEX_BYTES_MAX: Final = 16 << 20
LEVEL: Final = 9
"""Of compression. Half of a small block is signature and hashes, which nothing compresses."""
NO_SEGMENT: Final = bytes(HASH_BYTES)
"""What the first segment names as the one before."""
_SKIPPABLE: Final = (0x184D2A50).to_bytes(4, "little")
_PREFIX_BYTES: Final = 8
_FORMAT: Final = "p2pfed-segment 1"


class Location(NamedTuple):
    """Where one block stands: in which frame, from which byte of it on, and how long it is."""

    frame: int
    offset: int
    size: int

    def pack(self) -> bytes:
        """Twelve bytes: three numbers, big-endian."""
        return b"".join(part.to_bytes(4, "big") for part in self)

    @classmethod
    def unpack(cls, data: bytes) -> Location:
        """What `pack` gave."""
        return cls(*(int.from_bytes(data[at : at + 4], "big") for at in (0, 4, 8)))


class Run(NamedTuple):
    """The blocks of one feed in a segment: `first` to `last`, the last one's id, their root.

    The root is the Merkle tree hash (RFC 6962) over the ids of just these blocks.
    """

    feed: FeedKey
    first: int
    last: int
    block_id: BlockId
    root: bytes


class Frame(NamedTuple):
    """One zstd frame: its bytes in the file, what it decompresses to, the SHA-256 of that."""

    stored: int
    raw: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What a segment says of itself.

    Attributes:
        number: from 1, one more than that of the segment before.
        previous: the digest of the segment before, `NO_SEGMENT` for the first.
        cut_ms, state_hash: the cosigned checkpoint that the blocks lay under.
        blocks: how many.
        runs: by feed, ascending.
        frames: the head of the ledger file alone, then the blocks, then the tail alone.
    """

    number: int
    previous: bytes
    federation: bytes
    cut_ms: int
    state_hash: bytes
    blocks: int
    runs: tuple[Run, ...]
    frames: tuple[Frame, ...]

    def encode(self) -> bytes:
        """Deterministic CBOR; its SHA-256 is the segment's digest."""
        return encode(
            [
                _FORMAT,
                self.number,
                self.previous,
                self.federation,
                self.cut_ms,
                self.state_hash,
                self.blocks,
                [[*run.feed, *run[1:]] for run in self.runs],
                [[*frame] for frame in self.frames],
            ]
        )

    @property
    def digest(self) -> bytes:
        """What the next segment names, and what the database keeps."""
        return hashlib.sha256(self.encode()).digest()

    @property
    def name(self) -> str:
        """The file's name: its number and the first digits of its digest."""
        return f"{self.number:08d}-{self.digest.hex()[:16]}{SUFFIX}"


def parse_index(data: bytes) -> Index:
    """The index in these bytes.

    Raises:
        InputError: `segment-index`.
    """
    try:
        item: Any = decode(data, limit=INDEX_BYTES_MAX, where="segment index")
    except InputError as error:
        raise InputError("segment-index", error.what) from error
    match item:
        case [
            str(form),
            int(number),
            bytes(previous),
            bytes(federation),
            int(cut_ms),
            bytes(state_hash),
            int(blocks),
            list(runs),
            list(frames),
        ] if form == _FORMAT and all(map(_is_run, runs)) and all(map(_is_frame, frames)):
            return Index(
                number=number,
                previous=previous,
                federation=federation,
                cut_ms=cut_ms,
                state_hash=state_hash,
                blocks=blocks,
                runs=tuple(
                    Run(FeedKey(CentreName(c), e), first, last, BlockId(block_id), root)
                    for c, e, first, last, block_id, root in runs
                ),
                frames=tuple(Frame(*frame) for frame in frames),
            )
        case _:
            raise InputError("segment-index", "this is not the index of an archive segment")


def _is_run(item: Any) -> bool:
    match item:
        case [str(centre), int(epoch), int(first), int(last), bytes(block_id), bytes(root)]:
            hashes = len(block_id) == len(root) == HASH_BYTES
            return bool(CENTRE_NAME.match(centre)) and epoch >= 0 and 0 <= first <= last and hashes
    return False


def _is_frame(item: Any) -> bool:
    match item:
        case [int(stored), int(raw), bytes(digest)]:
            return stored > 0 and 0 < raw <= FRAME_BYTES_MAX and len(digest) == HASH_BYTES
    return False


# Writing


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that is still to be written; `locations` are its blocks', in their order."""

    index: Index
    data: bytes
    locations: tuple[Location, ...]


class SegmentWriter:
    """Collects blocks and makes a segment of them.

    Args:
        charter: as it was received.
        federation: its id.
    """

    def __init__(self, charter: bytes, federation: bytes) -> None:
        self._federation = federation
        self._packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._frames: list[Frame] = []
        self._packed: list[bytes] = []
        self._open: list[bytes] = []
        self._open_bytes = 0
        self._locations: list[Location] = []
        self._runs: dict[FeedKey, tuple[int, Head, Range]] = {}
        self.raw_bytes = 0
        self._charter = charter
        self._end(ledger_head(charter))

    def add(self, block: ExportedBlock) -> None:
        """Takes the next block; those of one feed come one after another in their order."""
        at = self._open_bytes + LENGTH_BYTES
        self._locations.append(Location(len(self._frames), at, len(block.data)))
        self._open += (len(block.data).to_bytes(LENGTH_BYTES, "big"), block.data)
        self._open_bytes = at + len(block.data)
        self.raw_bytes += len(block.data)
        first, _, tree = self._runs.get(block.feed) or (block.seq_num, None, Range())
        assert block.seq_num == first + tree.size, "a run has no gaps"
        tree.append(block.block_id)
        self._runs[block.feed] = first, Head(block.seq_num, block.block_id), tree
        if self._open_bytes >= FRAME_BYTES:
            self._close()

    def _close(self) -> None:
        if self._open:
            self._end(b"".join(self._open))
            self._open, self._open_bytes = [], 0

    def _end(self, raw: bytes) -> None:
        packed = self._packer.compress(raw)
        self._packed.append(packed)
        self._frames.append(Frame(len(packed), len(raw), hashlib.sha256(raw).digest()))

    def finish(self, number: int, previous: bytes, cut_ms: int, state_hash: bytes) -> Segment:
        """The segment with these blocks; see `Index` for what it is told."""
        self._close()
        frontier = {feed: head for feed, (_, head, _) in self._runs.items()}
        self._end(ledger_tail(len(self._locations), frontier))
        index = Index(
            number=number,
            previous=previous,
            federation=self._federation,
            cut_ms=cut_ms,
            state_hash=state_hash,
            blocks=len(self._locations),
            runs=tuple(
                Run(feed, first, head.seq_num, head.block_id, tree.root())
                for feed, (first, head, tree) in sorted(self._runs.items())
            ),
            frames=tuple(self._frames),
        )
        encoded = index.encode()
        skipped = _SKIPPABLE + len(encoded).to_bytes(4, "little") + encoded
        return Segment(index, b"".join([skipped, *self._packed]), tuple(self._locations))


# Reading


class SegmentFile:
    """One segment on disk; its index is read at once, its frames when they are asked for.

    Raises:
        InputError: `segment-index`: it is not a segment.
        StorageError: `disk-error`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path), path.open("rb") as file:
            prefix = file.read(_PREFIX_BYTES)
            size = int.from_bytes(prefix[4:], "little")
            if prefix[:4] != _SKIPPABLE or size > INDEX_BYTES_MAX:
                raise InputError("segment-index", "this is not an archive segment", where=str(path))
            try:
                self.index = parse_index(file.read(size))
            except InputError as error:
                error.where = str(path)
                raise
        self._starts = [_PREFIX_BYTES + size]
        for frame in self.index.frames:
            self._starts.append(self._starts[-1] + frame.stored)

    def frame(self, number: int) -> bytes:
        """What a frame decompresses to.

        Raises:
            StorageError: `segment-damaged`, `disk-error`.
        """
        if not 0 <= number < len(self.index.frames):
            raise self._damaged(number)
        told = self.index.frames[number]
        with disk_errors(self.path), self.path.open("rb") as file:
            file.seek(self._starts[number])
            packed = file.read(told.stored)
        try:
            raw = zstandard.ZstdDecompressor().decompress(packed, max_output_size=told.raw)
        except zstandard.ZstdError:
            raise self._damaged(number) from None
        if len(raw) != told.raw or hashlib.sha256(raw).digest() != told.digest:
            raise self._damaged(number)
        return raw

    def _damaged(self, number: int) -> StorageError:
        return StorageError(
            "segment-damaged",
            f"frame {number} of the archive segment is not as it was written",
            where=str(self.path),
            remedy="check the disk, and put a copy of the segment in its place: any other centre's"
            " archive, or its ledger export, holds the same blocks",
        )


class JoinedReader(io.RawIOBase):
    """Segments as the one ledger file that they make together; can be read at any place."""

    def __init__(self, files: Sequence[SegmentFile]) -> None:
        super().__init__()
        frontier: Frontier = {}
        for file in files:
            frontier.update((run.feed, Head(run.last, run.block_id)) for run in file.index.runs)
        tail = ledger_tail(sum(file.index.blocks for file in files), frontier)
        self._starts: list[int] = []
        self._loads: list[Callable[[], bytes]] = []
        self._size = 0
        self._add(lambda: files[0].frame(0), files[0].index.frames[0].raw)
        for file in files:
            for number in range(1, len(file.index.frames) - 1):
                self._add(_loader(file, number), file.index.frames[number].raw)
        self._add(lambda: tail, len(tail))
        self._at = 0
        self._kept: tuple[int, bytes] = (-1, b"")

    def _add(self, load: Callable[[], bytes], size: int) -> None:
        self._starts.append(self._size)
        self._loads.append(load)
        self._size += size

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As for any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As for any file; gives at most the rest of one frame."""
        if self._at >= self._size:
            return 0
        number = bisect_right(self._starts, self._at) - 1
        if self._kept[0] != number:
            self._kept = number, self._loads[number]()
        start = self._at - self._starts[number]
        piece = self._kept[1][start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _loader(file: SegmentFile, number: int) -> Callable[[], bytes]:
    return lambda: file.frame(number)


def is_segment(path: Path) -> bool:
    """Whether the file begins like an archive segment."""
    try:
        with path.open("rb") as file:
            return file.read(4) == _SKIPPABLE
    except OSError:
        return False


def joined(path: Path) -> BinaryIO:
    """A folder of segments, or one segment, as a ledger file that can be read at any place.

    Raises:
        InputError: `segment-index`; `segment-missing`: the folder has none, or a part of the chain
            is not there.
        StorageError: `disk-error`.
    """
    paths = [path]
    if path.is_dir():
        with disk_errors(path):
            paths = [found for found in path.iterdir() if found.name.endswith(SUFFIX)]
    files = sorted(map(SegmentFile, paths), key=lambda file: file.index.number)
    if path.is_dir():
        _check_chain(path, files)
    return io.BufferedReader(JoinedReader(files), FRAME_BYTES)


def _check_chain(folder: Path, files: Iterable[SegmentFile]) -> None:
    expected, before = 1, NO_SEGMENT
    for file in files:
        index = file.index
        if index.number != expected or index.previous != before:
            raise InputError(
                "segment-missing",
                f"segment {expected} is not there, or {file.path.name} does not follow it",
                where=str(folder),
                remedy="put all segments of one centre, from number 1 on, into one folder",
            )
        expected, before = expected + 1, index.digest
    if expected == 1:
        raise InputError(
            "segment-missing",
            "there is no archive segment in this folder",
            where=str(folder),
            remedy="name the folder 'archive' of a centre, or a ledger file",
        )
