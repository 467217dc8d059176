"""The view of a round: which blocks count, and one digest that says so.

Admitted blocks are stored and forwarded at once, but they enter the matching state only when a
round's cut passes them. Until then they wait here, sorted by time. So the state at round r is
always exactly the known blocks with time up to the cut, nothing is ever rolled back, and a block
that comes late is simply part of the next round.

A start after a stop folds years of blocks that any round to come will count. They go into the
state at once (`catch_up`), which thereby stands at a cut that no later round may lie before.
"""

from __future__ import annotations

from heapq import heappop, heappush

from p2pfed.core.blocks import Block
from p2pfed.core.ids import FeedKey, Position
from p2pfed.core.state import State
from p2pfed.core.units import hlc_cut


class View:
    """A state, and the blocks that wait for the next cut."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.cut_ms = 0
        self._waiting: list[tuple[int, FeedKey, int, Block]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, block: Block) -> None:
        """Takes an admitted block; blocks of one feed come in their order."""
        heappush(self._waiting, (block.time, block.feed, block.header.seq_num, block))

    def advance(self, cut_ms: int) -> list[tuple[Position, str]]:
        """Folds every block up to the cut, which never goes back.

        Returns:
            The inert records among them, with the reason.
        """
        inert = self.catch_up(cut_ms)
        self.state.settle(self.cut_ms)
        return inert

    def catch_up(self, cut_ms: int) -> list[tuple[Position, str]]:
        """Folds as `advance` does, but settles nothing yet: a round has to follow."""
        self.cut_ms = max(cut_ms, self.cut_ms)
        limit = hlc_cut(self.cut_ms)
        inert: list[tuple[Position, str]] = []
        while self._waiting and self._waiting[0][0] <= limit:
            inert += self.state.fold(heappop(self._waiting)[3])
        return inert

    def waiting(self) -> list[Block]:
        """The blocks beyond the cut, in the order of their times."""
        return [entry[3] for entry in sorted(self._waiting, key=lambda entry: entry[:3])]
