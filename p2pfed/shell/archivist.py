"""The archivist: moves what a majority cosigned out of the database, into archive segments.

Theory of operation. When the members cosigned a checkpoint and signed what we signed, every block
under it may leave the database: nobody can show another history up to there. Each time that
happens, blocks older than `keep` that are still in the database are packed into segments, each as
large as `segment_kib` says; what fills no segment stays for the next time. Order and durability are
those of `p2pfed.store.archive`. Everything runs in a worker thread, in steps that hold the database
for some milliseconds, so the daemon goes on meanwhile.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

import trio

from p2pfed.core.ids import FeedKey
from p2pfed.core.units import HlcTime, hlc_cut
from p2pfed.errors import StorageError
from p2pfed.node.effects import CheckpointCosigned
from p2pfed.shell.answers import RetentionView
from p2pfed.shell.bearings_file import keep_bearings
from p2pfed.shell.brain import wall_ms
from p2pfed.shell.sections import RetentionConfig
from p2pfed.store.database import Database
from p2pfed.store.segments import SegmentWriter

log = logging.getLogger("p2pfed.archivist")


class Archivist:
    """Keeps the database small.

    Args:
        database: the open store.
        charter: the founding document, as it was received; every segment begins with it.
        federation: its id.
        config: what this centre's people want.
        bearings: the file that the newest cosigned checkpoint is kept in, for newcomers.
    """

    def __init__(
        self,
        database: Database,
        charter: bytes,
        federation: bytes,
        config: RetentionConfig,
        bearings: Path,
    ) -> None:
        self.config = config
        self.error: StorageError | None = None
        self._database = database
        self._charter = charter
        self._federation = federation
        self._bearings = bearings
        self._under: CheckpointCosigned | None = None
        self._wake = trio.Event()

    def perform(self, effect: CheckpointCosigned) -> None:
        """Takes note of a cosigned checkpoint; what lies under it moves soon."""
        self._under = effect
        self._wake.set()

    def reload(self, config: RetentionConfig) -> None:
        """Keeps from now on what these settings say."""
        self.config = config
        self._wake.set()

    async def run(self) -> None:
        """Moves blocks whenever there is something to move, until cancelled."""
        await trio.to_thread.run_sync(self.clear)
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            under = self._under
            if under is None:
                continue
            try:
                if under.bearings:
                    await trio.to_thread.run_sync(keep_bearings, self._bearings, under.bearings)
                    if self._under is under:
                        self._under = dataclasses.replace(under, bearings=b"")
                if not self.config.archive:
                    continue
                await trio.to_thread.run_sync(self.move_all, under, wall_ms())
                self.error = None
            except StorageError as error:
                log.error("blocks stay in the ledger: %s", error)
                self.error = error

    def clear(self) -> None:
        """Takes away what a crash left in the archive; runs in a worker thread, before any move."""
        database = self._database
        known = {row.name for row in database.segments()}
        database.archive.clear(known, database.next_segment()[0], database.block_id)

    def move_all(self, under: CheckpointCosigned, now_ms: int) -> int:
        """Packs as many segments as can be filled; returns how many. Runs in a worker thread.

        Raises:
            StorageError: what was moved before stays moved, everything else where it was.
        """
        before = min(hlc_cut(under.cut_ms) + 1, hlc_cut(max(0, now_ms - 1000 * self.config.keep_s)))
        count = 0
        while self._move_one(self._covered(under), HlcTime(before), under):
            count += 1
        while count and self._database.give_back():
            pass
        return count

    def _covered(self, under: CheckpointCosigned) -> Mapping[FeedKey, int]:
        """How many blocks of each feed the checkpoint covers, where its branch is ours."""
        return {
            tree.feed: tree.size
            for tree in under.trees
            if self._database.block_id(tree.feed, tree.size - 1) == tree.block_id
        }

    def _move_one(
        self, covered: Mapping[FeedKey, int], before: HlcTime, under: CheckpointCosigned
    ) -> bool:
        database = self._database
        writer = SegmentWriter(self._charter, self._federation)
        admissions: list[int] = []
        for admission, row in database.movable(covered, before):
            writer.add(row)
            admissions.append(admission)
            if writer.raw_bytes >= self.config.segment_kib << 10:
                break
        else:
            return False
        number, previous = database.next_segment()
        segment = writer.finish(number, previous, under.cut_ms, under.state_hash)
        database.archive.write(segment)
        moved = database.move(segment, admissions)
        log.info("moved %d blocks to %s", moved.blocks, moved.name)
        return True

    def view(self) -> RetentionView:
        """What is where, for people."""
        segments = self._database.segments()
        return RetentionView(
            archive=self.config.archive,
            keep_s=self.config.keep_s,
            folder=str(self._database.archive.folder),
            segments=len(segments),
            archived_blocks=sum(row.blocks for row in segments),
            archive_bytes=sum(row.stored_bytes for row in segments),
            database_bytes=self._database.size_bytes(),
        )
