"""The folder of archive segments that one centre's database points into.

Theory of operation. Blocks move in this order: the segment is written under a temporary name,
synced, read back and compared, renamed, its folder synced (`write`); only then one database
transaction lets the rows point into it (`Database.move`). A crash before that transaction leaves a
file that nothing points to, which `clear` takes away at the next start; a crash after it leaves
nothing to do. At no moment is a block in neither place.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from p2pfed.core.ids import BlockId, FeedKey
from p2pfed.errors import InputError, StorageError
from p2pfed.store.files import disk_errors, make_folder, write_durable
from p2pfed.store.segments import SUFFIX, Location, Segment, SegmentFile

log = logging.getLogger("p2pfed.archive")

FRAMES_KEPT: Final = 8
"""Frames kept in memory, some mebibytes: a peer that fetches history reads every frame often."""
FILES_KEPT: Final = 64


class SegmentRow(NamedTuple):
    """What the database knows of one segment; times in ms, sizes in bytes."""

    number: int
    name: str
    digest: bytes
    blocks: int
    raw_bytes: int
    stored_bytes: int
    cut_ms: int


class Archive:
    """Writes and reads segments. May be used from any thread."""

    def __init__(self, folder: Path) -> None:
        """The folder is made by the first `write`."""
        self.folder = folder
        self._lock = threading.Lock()
        self._files: OrderedDict[str, SegmentFile] = OrderedDict()
        self._frames: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def write(self, segment: Segment) -> Path:
        """Makes the segment durable and reads it back.

        Raises:
            StorageError: `disk-full`, `disk-error`, `segment-damaged`: nothing counts as written.
        """
        with disk_errors(self.folder):
            make_folder(self.folder)
        path = self.folder / segment.index.name
        write_durable(path, segment.data)
        written = SegmentFile(path)
        for number in range(len(segment.index.frames)):
            written.frame(number)
        return path

    def block(self, row: SegmentRow, location: Location) -> bytes:
        """The bytes of one block.

        Raises:
            StorageError: `segment-missing`, `segment-damaged`, `disk-error`.
        """
        with self._lock:
            raw = self._frame(row, location.frame)
        return raw[location.offset : location.offset + location.size]

    def _frame(self, row: SegmentRow, number: int) -> bytes:
        key = row.name, number
        found = self._frames.get(key)
        if found is None:
            found = self._frames[key] = self._file(row).frame(number)
            if len(self._frames) > FRAMES_KEPT:
                self._frames.popitem(last=False)
        self._frames.move_to_end(key)
        return found

    def _file(self, row: SegmentRow) -> SegmentFile:
        found = self._files.get(row.name)
        if found is None:
            path = self.folder / row.name
            try:
                found = SegmentFile(path)
            except InputError as error:
                raise _damaged(path) from error
            except StorageError as error:
                if path.exists():
                    raise
                raise StorageError(
                    "segment-missing",
                    f"archive segment {row.number} is not in the archive",
                    where=str(path),
                    remedy="put it back: the ledger's older blocks are in it",
                ) from error
            if found.index.digest != row.digest:
                raise _damaged(path)
            self._files[row.name] = found
            if len(self._files) > FILES_KEPT:
                self._files.popitem(last=False)
        return found

    def clear(
        self, known: set[str], number: int, held: Callable[[FeedKey, int], BlockId | None]
    ) -> None:
        """Takes away what a crash left: segments from `number` on that no row points to.

        One that holds a block which the database lacks is set aside instead, under another name.
        """
        with suppress(FileNotFoundError):
            for path in sorted(self.folder.iterdir()):
                if path.name.startswith(".") and path.name.endswith(f"{SUFFIX}.tmp"):
                    path.unlink()
                elif path.name.endswith(SUFFIX) and path.name not in known:
                    self._clear_one(path, number, held)

    def _clear_one(
        self, path: Path, number: int, held: Callable[[FeedKey, int], BlockId | None]
    ) -> None:
        try:
            index = SegmentFile(path).index
        except (InputError, StorageError):
            return
        if index.number < number:
            return
        if all(held(run.feed, run.last) == run.block_id for run in index.runs):
            path.unlink()
            log.info("removed %s, which an interrupted move left", path)
        else:
            path.rename(path.with_name(path.name + ".unknown"))
            log.warning("%s holds blocks that the ledger lacks: set aside", path)


def _damaged(path: Path) -> StorageError:
    return StorageError(
        "segment-damaged",
        "the archive segment is not the one that the ledger points to",
        where=str(path),
        remedy="put the centre's own segment back",
    )
