"""The fetcher: which blocks we lack, who has them, and whom to ask, one peer at a time.

It is one for the whole node, because only a view over all links can ask for each block once.

- *Order.* Blocks of different feeds name each other, so feeds are fetched side by side: of each
  feed only a window beyond its admitted head is asked for or held back. The oldest block that we
  lack names only what we hold, and it is always first in its feed's window; hence fetching never
  stalls, and what waits unadmitted stays far below the replica's waiting room.
- *Once.* A block in flight or held back is not asked for again. A range that has not come in time
  is asked of others; the late peer keeps its debt and is asked nothing more until it has paid, and
  after the same time again with nothing coming its link is given up.
- *Grace.* The author of a new block pushes it to all its links. Who hears of the block from a third
  party first waits RELAY_MS for that push if it is linked to the author; as long as the author's
  blocks keep coming, the wait begins anew.
- *Named blocks.* A received block that lacks others names them, and whoever sent it has them. Of a
  forked feed only such blocks are fetched, by id, from whoever named them: on a fork, a `seq_num`
  alone does not say which block is meant. Likewise where another block waits at the place of a
  named one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from p2pfed.core.ids import BlockId, CentreName, FeedKey
from p2pfed.core.waiting import BlockRef, SeqRange
from p2pfed.protocol.limits import (
    FEED_WINDOW_BLOCKS_MAX,
    FETCH_BLOCKS_MAX,
    FETCH_BYTES_MAX,
    FETCH_TIMEOUT_MS,
    LINK_WINDOW_BLOCKS_MAX,
    LINK_WINDOW_BYTES_MAX,
    NAMED_BLOCKS_MAX,
    RELAY_MS,
    RUN_BLOCKS_MAX,
)

Place = tuple[FeedKey, int]
"""A feed and a `seq_num`: at most one block, unless the feed is forked."""

_FIRST_GUESS_BYTES: Final = 8 << 10
"""Size of a block before any has come."""


class _Link:
    """What one ready link offers and owes.

    Attributes:
        has: by feed, the `seq_num` up to which the peer has it.
        flying: asked for and still to come, with the time by which it should, oldest first.
        overdue: no longer expected; asked of others if they have it. With the time of the last
            straw.
        fresh: what came with the last call of `came`.
        named: blocks that the peer is asked for by id, each once.
        queue: those of them that are still to be asked for.
        floors: by feed, the place before which the peer has no blocks.
    """

    __slots__ = (
        "came_ms", "centre", "floors", "flying", "fresh", "has", "named", "overdue", "queue",
    )  # fmt: skip

    def __init__(self, centre: CentreName, now_ms: int) -> None:
        self.centre = centre
        self.has: dict[FeedKey, int] = {}
        self.flying: dict[Place, int] = {}
        self.overdue: dict[Place, int] = {}
        self.fresh: set[BlockId] = set()
        self.named: set[BlockRef] = set()
        self.queue: list[BlockRef] = []
        self.floors: dict[FeedKey, int] = {}
        self.came_ms = now_ms


class _Lag:
    """A feed of which somebody has more than we admitted.

    Attributes:
        target: the greatest `seq_num` that a ready link has.
        flying: what is asked for, and of which link.
        waiting: what came and is not admitted yet.
        grace_until_ms: until when blocks beyond what the author told are left to the author.
        grace_over: that time has passed.
    """

    __slots__ = ("flying", "grace_over", "grace_until_ms", "target", "waiting")

    def __init__(self) -> None:
        self.target = -1
        self.flying: dict[int, int] = {}
        self.waiting: dict[int, BlockId] = {}
        self.grace_until_ms: int | None = None
        self.grace_over = False

    def end_grace(self) -> None:
        """The author's blocks come: what is beyond them gets a new grace."""
        self.grace_until_ms = None
        self.grace_over = False


class Fetcher:
    """Decides of whom to ask for what; nothing is sent here.

    Links are plain integers. After any sequence of calls, `plan` says what to ask for now.

    Args:
        relay_ms: how long a block is left to its linked author.
    """

    def __init__(self, *, relay_ms: int = RELAY_MS) -> None:
        self._relay_ms = relay_ms
        self._held: dict[FeedKey, int] = {}
        self._links: dict[int, _Link] = {}
        self._author_link: dict[CentreName, int] = {}
        self._lags: dict[FeedKey, _Lag] = {}
        self._wanted: frozenset[CentreName] = frozenset()
        self._forked: set[FeedKey] = set()
        self._mean_bytes = _FIRST_GUESS_BYTES
        self._stirred = False

    # What we hold

    def admitted(self, feed: FeedKey, seq_num: int) -> None:
        """The feed is held up to `seq_num`; blocks of one feed are told in order."""
        if seq_num <= self._held.get(feed, -1):
            return
        self._held[feed] = seq_num
        self._stirred = True
        lag = self._lags.get(feed)
        if lag is not None:
            lag.waiting.pop(seq_num, None)
            lag.flying.pop(seq_num, None)
            if lag.target <= seq_num:
                del self._lags[feed]

    def hold(self, frontier: Mapping[FeedKey, int]) -> None:
        """We hold all of this; for what did not come block by block."""
        for feed, seq_num in frontier.items():
            if seq_num > self._held.get(feed, -1):
                lag = self._lags.get(feed)
                for known in (lag.waiting, lag.flying) if lag else ():
                    for stale in [s for s in known if s <= seq_num]:
                        del known[stale]
                self.admitted(feed, seq_num)

    def dropped(self, block_ids: Iterable[BlockId]) -> None:
        """These came but were not kept; they are fetched again."""
        gone = set(block_ids)
        for lag in self._lags.values():
            for seq_num in [s for s, block_id in lag.waiting.items() if block_id in gone]:
                del lag.waiting[seq_num]
        self._stirred = True

    def forked(self, feed: FeedKey) -> None:
        """A fork of the feed is proven: from now on only named blocks of it are fetched."""
        self._forked.add(feed)
        self._lags.pop(feed, None)

    def set_centres(self, centres: Iterable[CentreName]) -> None:
        """Whose feeds are fetched."""
        self._wanted = frozenset(centres)
        for feed in [feed for feed in self._lags if feed.centre not in self._wanted]:
            del self._lags[feed]
        self._stirred = True
        for link in self._links.values():
            for feed, seq_num in link.has.items():
                self._aim(feed, seq_num)

    # What others have

    def link_ready(self, link_id: int, centre: CentreName, now_ms: int) -> None:
        """A session is open; at most one for each centre."""
        self._links[link_id] = _Link(centre, now_ms)
        self._author_link[centre] = link_id

    def link_gone(self, link_id: int) -> None:
        """What was asked of this link will not come."""
        link = self._links.pop(link_id, None)
        if link is None:
            return
        self._stirred = True
        if self._author_link.get(link.centre) == link_id:
            del self._author_link[link.centre]
        for feed in link.has:
            lag = self._lags.get(feed)
            if lag is None:
                continue
            for seq_num in [s for s, asked in lag.flying.items() if asked == link_id]:
                del lag.flying[seq_num]
            others = (other.has.get(feed, -1) for other in self._links.values())
            lag.target = max((*others, *lag.waiting), default=-1)
            if lag.target <= self._held.get(feed, -1):
                del self._lags[feed]

    def heard(self, link_id: int, feed: FeedKey, seq_num: int) -> None:
        """The peer has the feed up to `seq_num`."""
        link = self._links.get(link_id)
        if link is None or seq_num <= link.has.get(feed, -1):
            return
        link.has[feed] = seq_num
        self._stirred = True
        self._aim(feed, seq_num)
        lag = self._lags.get(feed)
        if lag is not None and link.centre == feed.centre:
            lag.end_grace()

    def floors(self, link_id: int, floors: Iterable[tuple[FeedKey, int]]) -> None:
        """The peer has no blocks of these feeds before these places, and all of others."""
        link = self._links.get(link_id)
        if link is not None:
            link.floors = dict(floors)
            self._stirred = True

    def came(self, link_id: int, blocks: Iterable[tuple[BlockRef, int]], now_ms: int) -> None:
        """Blocks of these sizes in bytes came over the link; told before they are admitted."""
        link = self._links.get(link_id)
        if link is None:
            return
        self._stirred = True
        link.fresh.clear()
        link.came_ms = now_ms
        for ref, size in blocks:
            place = (ref.feed, ref.seq_num)
            link.fresh.add(ref.block_id)
            link.flying.pop(place, None)
            link.overdue.pop(place, None)
            self._mean_bytes = (self._mean_bytes * 15 + size) // 16 + 1
            if ref in link.named:
                continue
            self.heard(link_id, ref.feed, ref.seq_num)
            lag = self._lags.get(ref.feed)
            if lag is not None:
                lag.flying.pop(ref.seq_num, None)
                if ref.seq_num > self._held.get(ref.feed, -1):
                    lag.waiting[ref.seq_num] = ref.block_id

    def lacks(self, refs: Iterable[BlockRef], link_id: int) -> None:
        """A block that came over the link names these, and the replica has none of them.

        Told after what the same bytes brought was `admitted`.
        """
        link = self._links.get(link_id)
        if link is None:
            return
        for ref in refs:
            held = self._held.get(ref.feed, -1)
            forked = ref.feed in self._forked
            if ref.seq_num > held and not forked:
                self.heard(link_id, ref.feed, ref.seq_num)
            lag = self._lags.get(ref.feed)
            # What came for this place, if it still waits, is another block than the named one.
            rival = lag is not None and ref.seq_num in lag.waiting
            if (forked or ref.seq_num <= held or rival) and ref.block_id not in link.fresh:
                self.name(link_id, ref)

    def name(self, link_id: int, ref: BlockRef) -> None:
        """The peer has this very block: ask it for that, once."""
        link = self._links.get(link_id)
        if link is not None and ref not in link.named and len(link.named) < NAMED_BLOCKS_MAX:
            link.named.add(ref)
            link.queue.append(ref)
            self._stirred = True

    def name_again(self, refs: Iterable[BlockRef]) -> None:
        """These are still lacking on feeds with branches: asks one more link for each."""
        for ref in refs:
            if ref.feed in self._forked or ref.seq_num <= self._held.get(ref.feed, -1):
                for link_id in sorted(self._links):
                    if ref not in self._links[link_id].named:
                        self.name(link_id, ref)
                        break

    def _aim(self, feed: FeedKey, seq_num: int) -> None:
        if (
            seq_num > self._held.get(feed, -1)
            and feed.centre in self._wanted
            and feed not in self._forked
        ):
            lag = self._lags.get(feed)
            if lag is None:
                lag = self._lags[feed] = _Lag()
            lag.target = max(lag.target, seq_num)

    # What to ask for

    def plan_named(self) -> list[tuple[int, tuple[BlockRef, ...]]]:
        """Which exact blocks to ask of which link now; they count as asked."""
        asked: list[tuple[int, tuple[BlockRef, ...]]] = []
        for link_id, link in sorted(self._links.items()):
            if link.queue:
                asked.append((link_id, tuple(sorted(link.queue))))
                link.queue.clear()
        return asked

    def plan(self, now_ms: int) -> list[tuple[int, tuple[SeqRange, ...]]]:
        """What to ask of which link now; it counts as asked. By link, each list by feed."""
        grace_ms = self._grace_ms()
        if not self._stirred and (grace_ms is None or now_ms < grace_ms):
            return []
        self._stirred = False
        asked: dict[int, list[SeqRange]] = {}
        if self._lags:
            budget = min(FETCH_BLOCKS_MAX, FETCH_BYTES_MAX // self._mean_bytes)
            window = max(1, min(FEED_WINDOW_BLOCKS_MAX, budget // len(self._lags)))
            for feed in sorted(self._lags):
                self._plan_feed(feed, window, now_ms, asked)
        return [(link_id, tuple(sorted(asked[link_id]))) for link_id in sorted(asked)]

    def _plan_feed(
        self, feed: FeedKey, window: int, now_ms: int, asked: dict[int, list[SeqRange]]
    ) -> None:
        lag = self._lags[feed]
        held = self._held.get(feed, -1)
        last = min(held + window, self._leave_to_author(feed, lag, now_ms))
        seq_num = held + 1
        while seq_num <= last:
            if seq_num in lag.flying or seq_num in lag.waiting:
                seq_num += 1
                continue
            link_id, room = self._choose(feed, seq_num)
            if link_id is None:
                return  # who has a later block has this one too, so there is nobody for those
            link = self._links[link_id]
            first = seq_num
            end = min(last, link.has[feed], first + min(room, RUN_BLOCKS_MAX) - 1)
            while seq_num <= end and seq_num not in lag.flying and seq_num not in lag.waiting:
                lag.flying[seq_num] = link_id
                link.flying[feed, seq_num] = now_ms + FETCH_TIMEOUT_MS
                seq_num += 1
            asked.setdefault(link_id, []).append(SeqRange(feed, first, seq_num - 1))

    def _leave_to_author(self, feed: FeedKey, lag: _Lag, now_ms: int) -> int:
        """The last `seq_num` that may be asked for now."""
        author = self._author_link.get(feed.centre)
        told = lag.target if author is None else self._links[author].has.get(feed, -1)
        if told >= lag.target:
            lag.grace_until_ms = None  # nothing is left to the author: no reason to wake for it
            return lag.target
        if lag.grace_over:
            return lag.target
        if lag.grace_until_ms is None:
            lag.grace_until_ms = now_ms + self._relay_ms
        if now_ms >= lag.grace_until_ms:
            lag.grace_over = True
            return lag.target
        return told

    def _choose(self, feed: FeedKey, seq_num: int) -> tuple[int | None, int]:
        """The link to ask for this block, and for how many blocks it has room."""
        window = max(1, min(LINK_WINDOW_BLOCKS_MAX, LINK_WINDOW_BYTES_MAX // self._mean_bytes))
        best: int | None = None
        least = window
        for link_id, link in self._links.items():
            if link.has.get(feed, -1) < seq_num or link.overdue:
                continue
            if seq_num < link.floors.get(feed, 0):
                continue
            load = len(link.flying)
            if load < least or (load == least and best is not None and link_id < best):
                best, least = link_id, load
        return best, window - least

    # Time

    def expire(self, now_ms: int) -> list[int]:
        """Takes back what is late, and returns the links that are to be given up."""
        hopeless: list[int] = []
        for link_id, link in sorted(self._links.items()):
            late = [place for place, until_ms in link.flying.items() if until_ms <= now_ms]
            for feed, seq_num in late:
                del link.flying[feed, seq_num]
                link.overdue[feed, seq_num] = now_ms + FETCH_TIMEOUT_MS
                lag = self._lags.get(feed)
                if lag is not None and lag.flying.get(seq_num) == link_id:
                    del lag.flying[seq_num]
                self._stirred = True
            last_straw = any(until_ms <= now_ms for until_ms in link.overdue.values())
            if last_straw and now_ms - link.came_ms >= FETCH_TIMEOUT_MS:
                hopeless.append(link_id)
            elif last_straw:  # slow, but alive
                link.overdue = dict.fromkeys(link.overdue, now_ms + FETCH_TIMEOUT_MS)
        return hopeless

    def wake_ms(self) -> int | None:
        """When `expire` and `plan` should be called next; None if nothing is due."""
        grace_ms = self._grace_ms()
        times = [] if grace_ms is None else [grace_ms]
        for link in self._links.values():
            times += [
                next(iter(places.values())) for places in (link.flying, link.overdue) if places
            ]
        return min(times, default=None)

    def _grace_ms(self) -> int | None:
        graces = [
            lag.grace_until_ms
            for lag in self._lags.values()
            if lag.grace_until_ms is not None and not lag.grace_over
        ]
        return min(graces, default=None)

    # What people see

    def lacking_blocks(self) -> int:
        """How many blocks others have and we have not admitted."""
        return sum(lag.target - self._held.get(feed, -1) for feed, lag in self._lags.items())

    def lacking_from(self, link_id: int) -> int:
        """How many blocks this peer has and we have not admitted."""
        link = self._links.get(link_id)
        if link is None:
            return 0
        held = self._held
        return sum(max(0, link.has.get(feed, -1) - held.get(feed, -1)) for feed in self._lags)
