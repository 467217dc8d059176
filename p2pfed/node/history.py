"""The blocks under the checkpoint that we started from: fetched, verified and folded beside us.

Theory of operation. A node that stands on a checkpoint (`p2pfed.core.bearings`) works from the
state that a majority signed. Beside it a second ledger begins with the charter and takes the blocks
under the checkpoint like any other node: every signature, chain and key is verified, everything is
folded. Once each feed has reached the place that the checkpoint names, roots and state are computed
again and compared. If they agree, the node has the whole ledger and nothing was taken on trust. If
not, a majority of the members signed what does not follow from their own blocks: an alarm for
people. Like everybody else the node then goes on with what the majority signed.

The second ledger writes nothing, and forgets what is closed as it goes, so it needs little memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pfed.core.admission import Admission
from p2pfed.core.bearings import Bearings
from p2pfed.core.checkpoint import first_difference, named_difference, section_digests
from p2pfed.core.ids import FeedKey
from p2pfed.core.merkle import Range
from p2pfed.core.statecodec import dump_state, state_hash
from p2pfed.node.effects import StoreBlocks
from p2pfed.node.ledger import Ledger

_FOLD_EVERY = 256
"""Blocks after which the newest are folded, and what is closed is let go of."""


class History:
    """Takes the blocks under a checkpoint, in any order that their names allow.

    Args:
        ledger: empty, of this node and federation; its shelf knows only these blocks.
        bearings: of the checkpoint.

    Attributes:
        contradiction: what does not follow from the blocks, for people; empty while nothing is
            known to be wrong.
    """

    def __init__(self, ledger: Ledger, bearings: Bearings) -> None:
        self.ledger = ledger
        self.contradiction = ""
        self._bearings = bearings
        self._sizes = {tree.feed: tree.size for tree in bearings.trees}
        self._taken = 0
        self._closed = False

    @property
    def sizes(self) -> Mapping[FeedKey, int]:
        """How many blocks of each feed lie under the checkpoint."""
        return self._sizes

    def wants(self, feed: FeedKey, seq_num: int) -> bool:
        """Whether the block at this place lies under the checkpoint."""
        return seq_num < self._sizes.get(feed, 0)

    def lacking_blocks(self) -> int:
        """How many of the blocks have not come."""
        return sum(self._sizes.values()) - sum(self.held().values())

    def held(self) -> dict[FeedKey, int]:
        """How many blocks of each feed are here, from the first on."""
        heads = self.ledger.replica.frontier()
        return {feed: heads[feed].seq_num + 1 if feed in heads else 0 for feed in self._sizes}

    def replay(self, data: bytes, *, side: bool) -> None:
        """Takes a block back from our own disk, at a start; raises as `Ledger.replay`."""
        self.ledger.replay(data, side=side)

    def receive(self, data: bytes, now_ms: int) -> Admission:
        """Takes a stranger's block; raises as `Ledger.receive`."""
        admission = self.ledger.receive(data, now_ms)
        self._taken += len(admission.admitted)
        if self._taken >= _FOLD_EVERY:
            self._taken = 0
            self.ledger.fold_behind()
            self.ledger.forget()
        return admission

    def drain(self) -> list[StoreBlocks]:
        """What is to be stored."""
        return self.ledger.drain()

    def agrees(self) -> bool | None:
        """Whether all of it agrees with the checkpoint, told once; None before and after that."""
        if self._closed or self.lacking_blocks():
            return None
        self._closed = True
        self.contradiction = self._contradiction()
        return not self.contradiction

    def _contradiction(self) -> str:
        replica = self.ledger.replica
        for tree in self._bearings.trees:
            ids = Range()
            for seq_num in range(tree.size):
                block_id = replica.block_id(tree.feed, seq_num)
                assert block_id is not None, "a feed has no gaps"
                ids.append(block_id)
            if ids.root() != tree.root:
                return f"the blocks of {tree.feed.centre} are not those that the members signed"
        self.ledger.live  # noqa: B018 - ends the replay
        self.ledger.view.advance(self._bearings.cut_ms)
        sections = dump_state(self.ledger.view.state)
        if state_hash(sections) == self._bearings.state_hash:
            return ""
        where = first_difference(
            section_digests(self._bearings.sections), section_digests(sections)
        )
        named = named_difference(where, sections)
        return f"the state that the members signed does not follow from their blocks: {named}"
