"""What a node does about the blocks under the checkpoint that it began with.

Until it has them, it asks peers for them behind everything newer and tells them which blocks it
can't give. When the last has come, the history is held against the checkpoint (`node.history`):
if it agrees, the node has the whole ledger and knows forks and former keys like any other; if not,
people are told at once and in `p2pfed status`, and the node goes on with what the majority signed.
"""

from __future__ import annotations

from dataclasses import replace

from p2pfed.core.blocks import peek_header
from p2pfed.core.ids import BlockId
from p2pfed.core.waiting import BlockRef
from p2pfed.node.effects import ERROR, INFO, WARNING, HistoryConfirmed, StoreBlocks
from p2pfed.node.events import LinkId
from p2pfed.node.gossip import Gossip
from p2pfed.node.history import History
from p2pfed.node.ledger import Ledger
from p2pfed.node.turn import Turn


class Past:
    """Looks after the history of a node that began with a checkpoint; idle in any other.

    Attributes:
        history: while it is not here and confirmed.
    """

    def __init__(self, ledger: Ledger, gossip: Gossip) -> None:
        self._ledger = ledger
        self._gossip = gossip
        self.history: History | None = None
        self._strange: list[BlockRef] = []
        self._stores: list[StoreBlocks] = []

    def begin(self, history: History) -> None:
        """Goes for what is lacking; called before the node starts."""
        self.history = history
        self._gossip.fetcher.begin_backfill(history.sizes, history.held())
        self._gossip.tell_floors(history.sizes)  # there is no link yet

    def takes(self, data: bytes, link: LinkId, turn: Turn) -> bool:
        """Takes a received block if it lies under the checkpoint; True if it does.

        Raises:
            InputError: as `Ledger.receive`.
        """
        history, fetcher = self.history, self._gossip.fetcher.old
        if history is None or fetcher is None:
            return False
        header = peek_header(data)
        if not history.wants(header.feed, header.seq_num):
            return False
        admission = history.receive(data, turn.now_ms)
        replica = history.ledger.replica
        for block in admission.admitted:
            if not replica.is_side(block):
                fetcher.admitted(block.feed, block.seq_num)
        fetcher.lacks(admission.unmet, link)
        dropped: list[BlockId] = [*admission.dropped]
        dropped += [refusal.block.block_id for refusal in admission.refused]
        if dropped:
            fetcher.dropped(dropped)
        return True

    def drain(self) -> list[StoreBlocks]:
        """The old blocks that are to be stored."""
        if self.history is not None:
            self._stores += self.history.drain()
        found, self._stores = self._stores, []
        return [replace(effect, history=True) for effect in found]

    def step(self, turn: Turn) -> None:
        """Looks whether all has come; call it when blocks have come, and at the start."""
        history = self.history
        agrees = None if history is None else history.agrees()
        if history is None or agrees is None:
            return
        if agrees:
            self._stores += history.drain()
            self._strange = self._ledger.complete(history.ledger)
            self.history = None
            self._gossip.fetcher.end_backfill()
            turn.effects += self._gossip.tell_floors({})
            turn.do(HistoryConfirmed())
            turn.note(INFO, "history-confirmed", "the whole history is here, and agrees")
            if self._strange:
                turn.note(WARNING, "history-names", self._explain_strange())
        else:
            turn.note(ERROR, "history-contradicts", self._explain(history))

    def _explain(self, history: History) -> str:
        return (
            f"the history contradicts the checkpoint that this centre began with: "
            f"{history.contradiction}; compare ledger exports with the other members' people"
        )

    def _explain_strange(self) -> str:
        feed, seq_num, _ = self._strange[0]
        return (
            f"a block that was taken before the history was here names block {seq_num} of "
            f"{feed.centre} on a branch that the history does not hold; see p2pfed audit"
        )

    @property
    def lacking_blocks(self) -> int:
        """How many old blocks have not come yet."""
        return 0 if self.history is None else self.history.lacking_blocks()

    @property
    def complete(self) -> bool:
        """Whether the whole ledger is here."""
        return self.history is None

    def warnings(self) -> list[str]:
        """What people should look at."""
        found = []
        if self.history is not None and self.history.contradiction:
            found.append(self._explain(self.history))
        elif self.history is not None:
            found.append(
                f"this centre began with a checkpoint: {self.lacking_blocks} older blocks are "
                "still to come and to be checked"
            )
        if self._strange:
            found.append(self._explain_strange())
        return found
