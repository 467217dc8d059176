"""What each author knew: the newest block of every other feed that it had acked.

A block's acks are the heads that its author had admitted, each told once. So what an author knew at
one of its blocks is the sum of its acks up to there. The last few steps can be taken back, to see
whether an author spoke from something that it had known before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, cast

from p2pfed.core.blocks import Block
from p2pfed.core.ids import FeedKey, Frontier, Head
from p2pfed.core.replica import Replica

STEPS_KEPT: Final = 8
"""Blocks of each author that can be taken back."""

Known = dict[FeedKey, int]
"""The newest `seq_num` that somebody knew, by feed."""


class Knowledge:
    """The acks of all authors, summed up along their feeds; blocks come in causal order."""

    def __init__(self) -> None:
        self._known: dict[FeedKey, Known] = {}
        self._steps: dict[FeedKey, deque[Known]] = {}

    def note(self, block: Block) -> None:
        """Adds what the author of the block tells that it knows."""
        feed = block.feed
        known = self._known.get(feed)
        if known is None:
            known = self._known[feed] = {}
            self._steps[feed] = deque(maxlen=STEPS_KEPT)
        step: Known = {feed: known.get(feed, -1)}
        known[feed] = block.seq_num
        for other, head in block.header.acks:
            step[other] = known.get(other, -1)
            known[other] = max(head.seq_num, step[other])
        self._steps[feed].append(step)

    def of(self, author: FeedKey) -> Mapping[tuple[str, int], int]:
        """What the author knew at its newest block, by (centre, epoch); goes on changing."""
        return cast(Mapping[tuple[str, int], int], self._known.get(author, {}))

    def at(self, author: FeedKey) -> Known:
        """What the author knew at its newest block, its own block included."""
        return dict(self._known.get(author, {}))

    def earlier(self, author: FeedKey) -> list[Known]:
        """What it knew at its blocks before, the newest first, as far as that is kept."""
        known = self.at(author)
        found = []
        for step in reversed(self._steps.get(author, ())):
            known.update(step)
            found.append(dict(known))
        return found


def frontier_of(replica: Replica, known: Known, common: Frontier) -> Frontier:
    """The view of somebody who knew this, at a cut whose frontier for all blocks is `common`."""
    found: Frontier = {}
    for feed, head in common.items():
        seq_num = known.get(feed, -1)
        if seq_num >= head.seq_num:
            found[feed] = head
        elif seq_num >= 0:
            block_id = replica.block_id(feed, seq_num)
            if block_id is not None:
                found[feed] = Head(seq_num, block_id)
    return found
