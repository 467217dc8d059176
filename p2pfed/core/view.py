"""The view of a round: which blocks count, and one digest that says so.

Admitted blocks are stored and forwarded at once, but they enter the matching state only when a
round's cut passes them. Until then they wait here, sorted by time. So the state at round r is
always exactly the known blocks with time up to the cut, nothing is rolled back, and a block that
comes late is simply part of the next round.

A start after a stop folds years of blocks that any round to come will count. They go into the
state at once (`catch_up`), which thereby stands at a cut that no later round may lie before.

Feeds that may have branches are *watched* (`p2pfed.core.branches`): what counts of them can change
with what comes later. As long as it only grows, it is folded as it comes; if a block that was
folded one way has to be folded another way, the state is made anew from the stored blocks, in the
order of their times. What binds an author beside what counts is folded after all of the feed that
counts and before its author's next epoch, in the order of its times; so the state is the same
whichever way it came about.

Making it anew reads the whole history, block by block, and costs what a start costs. A member that
forked and one that acks its branches bit by bit can bring it about again and again. So after it the
view *rests* for a time that grows with what was read: if it would have to be made anew meanwhile,
it stays where it is, and the node computes no round. That leaves at least three quarters of a core
for all else, whatever they do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from heapq import heappop, heappush
from operator import attrgetter
from typing import Final

from p2pfed.core.binding import Item, Speech
from p2pfed.core.blocks import Block
from p2pfed.core.branches import Branches, Mode, Prove, Verdict
from p2pfed.core.ids import BlockId, CentreName, FeedKey, Position
from p2pfed.core.state import State
from p2pfed.core.units import HlcTime, hlc_cut

History = Callable[[HlcTime], Iterable[Block]]
"""Reads every admitted block up to a time, in the order of their times; asked again and again."""
_Inert = list[tuple[Position, str]]
REST_US: Final = 40
"""How long a daemon's view rests for each block and record; reading one takes it some 10 us."""
ATTEMPTS_MAX: Final = 4
"""How often a state is made anew because other members than assumed came out of it."""
_in_time = attrgetter("time", "feed", "seq_num", "block_id")


class View:
    """A state, and the blocks that wait for the next cut.

    Args:
        start: makes the state before the first block.
        history: reads the admitted blocks again.
        prove: judges fork proofs.
        rest_us: rest for each block and record that was read to make the state anew.
    """

    def __init__(
        self,
        start: Callable[[], State],
        history: History,
        prove: Prove,
        *,
        rest_us: int = 0,
    ) -> None:
        self.state = start()
        self.cut_ms = 0
        self._start = start
        self._history = history
        self._prove = prove
        self._waiting: list[tuple[int, FeedKey, int, BlockId, Block]] = []
        self._watched: frozenset[FeedKey] = frozenset()
        self._revoked: Mapping[FeedKey, Collection[Position]] = {}
        self._stale = False
        self._rest_us = rest_us
        self._rest_until_ms = 0
        self._late: set[BlockId] = set()
        self._refolding = _Refold(self.state, (), prove, {})

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def verdict(self) -> Verdict:
        """What counted of the watched feeds at the last cut."""
        return self._refolding.verdict

    def add(self, block: Block) -> None:
        """Takes an admitted block; each after those that it names."""
        heappush(self._waiting, (block.time, block.feed, block.seq_num, block.block_id, block))

    def watch(
        self, feeds: Collection[FeedKey], revoked: Mapping[FeedKey, Collection[Position]]
    ) -> None:
        """From the next cut on these feeds are judged; see `Branches` for `revoked`."""
        if frozenset(feeds) != self._watched or revoked != self._revoked:
            self._watched, self._revoked = frozenset(feeds), dict(revoked)
            self._stale = True

    def resume(self, state: State) -> None:
        """Goes on from a state that was folded before, up to the cut that it was settled at.

        Only while no feed is watched, and before any block was added.
        """
        self.state, self.cut_ms = state, state.cut_ms
        self._refolding = _Refold(state, (), self._prove, {})

    @property
    def judged(self) -> bool:
        """Whether what counts of some feeds is judged from all their blocks."""
        return bool(self._watched) or self._stale

    def renew(self) -> None:
        """At the next cut the state is made anew: what it was made by has changed."""
        self._stale = True

    def advance(self, cut_ms: int) -> _Inert:
        """Folds every block up to the cut, which never goes back.

        Returns:
            The inert records among them, with the reason.
        """
        inert = self.catch_up(cut_ms)
        if self.resting:
            return inert
        self.state.settle(self.cut_ms)
        if self.state.stale:
            # A decision of the members was learnt after it had taken effect.
            self.renew()
            self.catch_up(cut_ms)
            if not self.resting:
                self.state.settle(self.cut_ms)
        return inert

    @property
    def resting(self) -> bool:
        """Whether the state is older than the cut, because it can't be made anew so soon."""
        return self._stale and self.cut_ms < self._rest_until_ms

    def catch_up(self, cut_ms: int) -> _Inert:
        """Folds as `advance` does, but settles nothing yet: a round has to follow."""
        self.cut_ms = max(cut_ms, self.cut_ms)
        limit = hlc_cut(self.cut_ms)
        if not self._watched and not self._stale:
            inert: _Inert = []
            while self._waiting and self._waiting[0][0] <= limit:
                inert += self.state.fold(heappop(self._waiting)[-1])
            return inert
        fresh: list[Block] = []
        while self._waiting and self._waiting[0][0] <= limit:
            fresh.append(heappop(self._waiting)[-1])
        if not self._stale:
            folded = self._refolding.extend(fresh, self.cut_ms)
            if folded is not None:
                return folded
            self._stale = True
        self._late.update(block.block_id for block in fresh)
        return [] if self.resting else self._anew(limit)

    def _anew(self, limit: HlcTime) -> _Inert:
        """Makes the state anew, from the founders on, until who is a member stands."""
        self._stale = False
        new, self._late = self._late, set()
        self.state.registers.leave()
        members: tuple[CentreName, ...] | None = None
        inert: _Inert = []
        for _ in range(ATTEMPTS_MAX):
            self.state = self._start()
            self._refolding = _Refold(
                self.state, self._watched, self._prove, self._revoked, members
            )
            inert = self._refolding.begin(lambda: self._history(limit), new)
            self._rest_until_ms = self.cut_ms + self._refolding.read * self._rest_us // 1000
            before, members = self._refolding.members, members_of(self.state, self.cut_ms)
            if members == before or not self._watched:
                break
        return inert

    def waiting(self) -> list[Block]:
        """The blocks beyond the cut, in the order of their times."""
        return [entry[-1] for entry in sorted(self._waiting, key=lambda entry: entry[:-1])]


class _Refold:
    """One state made with these feeds watched, and what is known of how it was made."""

    def __init__(
        self,
        state: State,
        watched: Collection[FeedKey],
        prove: Prove,
        revoked: Mapping[FeedKey, Collection[Position]],
        members: tuple[CentreName, ...] | None = None,
    ) -> None:
        self.members = members_of(state, 0) if members is None else members
        self.verdict = Verdict()
        self._state = state
        self._watched = frozenset(watched)
        self._branches = Branches(watched, prove, revoked)
        self._speech = Speech(watched, self._mode)
        self._done: dict[BlockId, Mode] = {}
        self._ignored: list[Block] = []
        self._bound: dict[FeedKey, tuple[int, BlockId]] = {}
        self._epochs: dict[CentreName, int] = {}
        self.read = 0

    def _mode(self, block_id: BlockId) -> Mode:
        return self.verdict.modes.get(block_id, Mode.IGNORED)

    def _mode_of(self, block: Block) -> Mode:
        return self._mode(block.block_id) if block.feed in self._watched else Mode.COUNTS

    def begin(self, blocks: Callable[[], Iterable[Block]], new: Collection[BlockId]) -> _Inert:
        """Folds these, read in order of their times, into a state that holds nothing.

        Returns:
            The inert records of the blocks in `new`.
        """
        if self._watched:
            for block in blocks():
                self._branches.add(block)
        self._judge()
        inert: _Inert = []
        bound: dict[FeedKey, list[tuple[Block, list[Item]]]] = {}
        for block in blocks():
            self.read += 1 + len(block.records)
            self._speech.hear(block)
            mode = self._mode_of(block)
            if mode is Mode.IGNORED:
                self._ignored.append(block)
            elif mode is Mode.BINDS:
                items = self._speech.bound(block)
                bound.setdefault(block.feed, []).append((block, items))
            else:
                for feed in sorted(f for f in bound if _is_before(f, block.feed)):
                    self._bind(bound.pop(feed))
                found = self._count(block)
                inert += found if block.block_id in new else ()
        for feed in sorted(bound):
            self._bind(bound[feed])
        return inert

    def extend(self, fresh: list[Block], cut_ms: int) -> _Inert | None:
        """Folds these too, in order of their times; None if the state has to be made anew."""
        for block in fresh:
            self._branches.add(block)
        before = self.verdict
        self._judge()
        if self.verdict is not before:
            modes = self.verdict.modes
            if any(modes[block_id] is not mode for block_id, mode in self._done.items()):
                return None
        candidates = sorted([*self._ignored, *fresh], key=_in_time)
        new = {block.block_id for block in fresh}
        counting = [b for b in candidates if self._mode_of(b) is Mode.COUNTS]
        binding = [b for b in candidates if self._mode_of(b) is Mode.BINDS]
        if any(b.feed in self._bound for b in counting) or not self._in_order(counting, binding):
            return None
        self._ignored = [b for b in candidates if self._mode_of(b) is Mode.IGNORED]
        for block in candidates:
            if block.block_id in new:
                self._speech.hear(block)
        inert: _Inert = []
        for block in counting:
            inert += self._count(block)
        for block in binding:
            self._bind([(block, self._speech.bound(block))])
        return inert if members_of(self._state, cut_ms) == self.members else None

    def _in_order(self, counting: list[Block], binding: list[Block]) -> bool:
        """Whether these binding blocks would be folded last if all were made anew."""
        epochs = dict(self._epochs)
        for block in counting:
            epochs[block.feed.centre] = max(block.feed.epoch, epochs.get(block.feed.centre, 0))
        return all(
            epochs.get(block.feed.centre, 0) <= block.feed.epoch
            and (block.time, block.block_id) > self._bound.get(block.feed, (-1, b""))
            for block in binding
        )

    def _judge(self) -> None:
        self.verdict = self._branches.judge(self.members)
        self._state.forked = self.verdict.forked

    def _count(self, block: Block) -> _Inert:
        centre, epoch = block.feed
        self._epochs[centre] = max(epoch, self._epochs.get(centre, 0))
        if block.feed in self._watched:
            self._done[block.block_id] = Mode.COUNTS
        return self._state.fold(self._speech.counted(block), self._speech.counted_acks(block))

    def _bind(self, bound: list[tuple[Block, list[Item]]]) -> None:
        for block, items in sorted(bound, key=lambda entry: (entry[0].time, entry[0].block_id)):
            self._done[block.block_id] = Mode.BINDS
            self._bound[block.feed] = block.time, block.block_id
            self._state.fold_bound(block, items)


def in_time(blocks: Callable[[], Iterable[Block]]) -> History:
    """A history of blocks that are all in memory, told in any order."""
    return lambda limit: sorted((b for b in blocks() if b.time <= limit), key=_in_time)


def members_of(state: State, cut_ms: int) -> tuple[CentreName, ...]:
    """The members at a cut, as the folded blocks say."""
    return tuple(sorted(state.registers.governance.members_at(cut_ms)))


def _is_before(feed: FeedKey, other: FeedKey) -> bool:
    return feed.centre == other.centre and feed.epoch < other.epoch
