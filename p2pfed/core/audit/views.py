"""The state at a view, whoever's it is.

Nearly always a home saw at a round what everybody saw, and the common state stands at that very
cut. A home that lacked blocks (late, or behind a partition) saw a lesser view; its state is folded
apart, from what it had. What one home knows only grows, so its state goes on from where it stood;
the first time it is a copy of the common state if that holds nothing that the home lacked, else it
is folded from the beginning, which costs one pass over the ledger.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Callable, Iterator
from heapq import merge

from p2pfed.core.audit.knowledge import Known
from p2pfed.core.blocks import Block, decode_stored
from p2pfed.core.ids import FeedKey, Frontier
from p2pfed.core.replica import Replica
from p2pfed.core.state import State
from p2pfed.core.units import HlcTime
from p2pfed.core.waiting import BlockRef, block_ref

Fetch = Callable[[int], bytes]


class Library:
    """Admitted blocks by feed and `seq_num`, read again from their source. 8 bytes a block."""

    def __init__(self, replica: Replica, fetch: Fetch) -> None:
        self._replica = replica
        self._fetch = fetch
        self._offsets: dict[FeedKey, array[int]] = {}
        self._sides: dict[BlockRef, int] = {}

    def add(self, block: Block, offset: int) -> None:
        """Notes where a block stands: the next of its feed, or one beside it."""
        if self._replica.is_side(block):
            self._sides[block_ref(block)] = offset
        else:
            self._offsets.setdefault(block.feed, array("Q")).append(offset)

    def get(self, ref: BlockRef) -> Block | None:
        """A block by its exact place, None if it was not admitted."""
        offset = self._sides.get(ref)
        if offset is None and self._replica.block_id(ref.feed, ref.seq_num) == ref.block_id:
            offset = self._offsets[ref.feed][ref.seq_num]
        return None if offset is None else decode_stored(self._fetch(offset))

    def tips(self) -> list[BlockRef]:
        """The heads of all feeds, and all blocks beside them."""
        heads = [BlockRef(feed, *head) for feed, head in self._replica.frontier().items()]
        return [*heads, *self._sides]

    def data(self, feed: FeedKey, seq_num: int) -> bytes | None:
        """The bytes of a block, None if there is none."""
        offsets = self._offsets.get(feed, ())
        return self._fetch(offsets[seq_num]) if seq_num < len(offsets) else None

    def between(self, before: Known, upto: Frontier) -> Iterator[Block]:
        """The blocks of a frontier that lie beyond what is known before, in order of time."""
        runs = [
            self._run(feed, before.get(feed, -1) + 1, head.seq_num) for feed, head in upto.items()
        ]
        for _, feed, seq_num in merge(*runs):
            yield decode_stored(self._fetch(self._offsets[feed][seq_num]))

    def _run(self, feed: FeedKey, first: int, last: int) -> Iterator[tuple[int, FeedKey, int]]:
        for seq_num in range(first, last + 1):
            yield self._replica.time_of(feed, seq_num) or HlcTime(0), feed, seq_num


class ViewState:
    """The state of one home's view, which goes forward as the home learns."""

    def __init__(self, state: State, folded: Known) -> None:
        self.state = state
        self._folded = folded

    def within(self, frontier: Frontier) -> bool:
        """Whether it holds nothing that the frontier lacks."""
        return _within(self._folded, frontier)

    def advance(self, frontier: Frontier, cut_ms: int, library: Library) -> State:
        """Folds the rest of the frontier and lets time pass to the cut."""
        for block in library.between(self._folded, frontier):
            self.state.fold(block)
        self._folded = {feed: head.seq_num for feed, head in frontier.items()}
        self.state.settle(cut_ms)
        return self.state


class Views:
    """The states of the homes that saw less than everybody.

    Args:
        library: reads blocks again.
        fresh: makes an empty state.
    """

    def __init__(self, library: Library, fresh: Callable[[], State]) -> None:
        self._library = library
        self._fresh = fresh
        self._apart: dict[FeedKey, ViewState] = {}

    def state_at(
        self, home: FeedKey, frontier: Frontier, cut_ms: int, common: State, folded: Known
    ) -> State:
        """The state of a home that had only this frontier at the cut.

        Args:
            common: the common state, not yet beyond the cut.
            folded: what the common state holds.
        """
        own = self._apart.get(home)
        if own is None or not own.within(frontier):
            if _within(folded, frontier):
                own = ViewState(copy.deepcopy(common), dict(folded))
            else:
                own = ViewState(self._fresh(), {})
            self._apart[home] = own
        return own.advance(frontier, cut_ms, self._library)

    def rejoin(self, home: FeedKey) -> None:
        """The home sees what everybody sees: its own state is needed no more."""
        self._apart.pop(home, None)


def _within(folded: Known, frontier: Frontier) -> bool:
    return all(
        seq_num < 0 or (feed in frontier and frontier[feed].seq_num >= seq_num)
        for feed, seq_num in folded.items()
    )
