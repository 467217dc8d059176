"""Fetching what lies under the checkpoint that a node began with, behind everything newer.

The old blocks have a fetcher of their own, over the same links. It asks for nothing while newer
blocks are lacking, so that a newcomer works as soon as it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from p2pfed.core.ids import CentreName, FeedKey
from p2pfed.core.waiting import BlockRef, SeqRange
from p2pfed.protocol.fetch import Fetcher


class BackfillingFetcher(Fetcher):
    """A fetcher that also goes for old blocks once `begin_backfill` was called.

    Attributes:
        old: the fetcher of the old blocks; None if there is nothing to go for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.old: Fetcher | None = None
        self._sizes: Mapping[FeedKey, int] = {}

    def begin_backfill(self, sizes: Mapping[FeedKey, int], held: Mapping[FeedKey, int]) -> None:
        """Goes for the first `sizes` blocks of each feed, of which the first `held` are here.

        Called before any link is ready.
        """
        self.old, self._sizes = Fetcher(), sizes
        self.old.set_centres({feed.centre for feed in sizes})
        self.old.hold({feed: count - 1 for feed, count in held.items() if count})

    def end_backfill(self) -> None:
        """All of it is here."""
        self.old = None

    def _is_old(self, ref: BlockRef) -> bool:
        return self.old is not None and ref.seq_num < self._sizes.get(ref.feed, 0)

    # As `Fetcher`

    def link_ready(self, link_id: int, centre: CentreName, now_ms: int) -> None:
        """For both."""
        super().link_ready(link_id, centre, now_ms)
        if self.old is not None:
            self.old.link_ready(link_id, centre, now_ms)

    def link_gone(self, link_id: int) -> None:
        """For both."""
        super().link_gone(link_id)
        if self.old is not None:
            self.old.link_gone(link_id)

    def heard(self, link_id: int, feed: FeedKey, seq_num: int) -> None:
        """For both."""
        super().heard(link_id, feed, seq_num)
        size = self._sizes.get(feed, 0)
        if self.old is not None and size:
            self.old.heard(link_id, feed, min(seq_num, size - 1))

    def floors(self, link_id: int, floors: Iterable[tuple[FeedKey, int]]) -> None:
        """For both."""
        found = tuple(floors)
        super().floors(link_id, found)
        if self.old is not None:
            self.old.floors(link_id, found)

    def came(self, link_id: int, blocks: Iterable[tuple[BlockRef, int]], now_ms: int) -> None:
        """For both."""
        found = list(blocks)
        new = [(ref, size) for ref, size in found if not self._is_old(ref)]
        if new:
            super().came(link_id, new, now_ms)
        if self.old is not None and len(new) < len(found):
            self.old.came(link_id, (entry for entry in found if self._is_old(entry[0])), now_ms)

    def plan(self, now_ms: int) -> list[tuple[int, tuple[SeqRange, ...]]]:
        """For both."""
        asked = super().plan(now_ms)
        if self.old is not None and not self.lacking_blocks():
            asked += self.old.plan(now_ms)
        return asked

    def plan_named(self) -> list[tuple[int, tuple[BlockRef, ...]]]:
        """For both."""
        asked = super().plan_named()
        return asked if self.old is None else asked + self.old.plan_named()

    def expire(self, now_ms: int) -> list[int]:
        """For both."""
        hopeless = set(super().expire(now_ms))
        if self.old is not None:
            hopeless.update(self.old.expire(now_ms))
        return sorted(hopeless)

    def wake_ms(self) -> int | None:
        """For both."""
        times = [super().wake_ms(), None if self.old is None else self.old.wake_ms()]
        return min((time for time in times if time is not None), default=None)
