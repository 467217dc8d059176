"""Our checkpoints: written at the cut that everybody comes to, and compared with the others'.

A node that only now may write, or whose feeds have branches, writes none: what it computed may
change. A checkpoint costs one pass over the live state and two hashes for each new block.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pfed.core.bearings import Bearings, encode_bearings
from p2pfed.core.checkpoint import (
    Cosigned,
    Disagreement,
    TreeHead,
    encode_digests,
    encode_trees,
    is_checkpoint_cut,
    named_difference,
)
from p2pfed.core.ids import CentreName, FeedKey
from p2pfed.core.merkle import Range
from p2pfed.core.records import Checkpoint, StateDigests
from p2pfed.core.statecodec import Section, dump_state, state_hash
from p2pfed.core.units import hlc_cut
from p2pfed.node.effects import ERROR, CheckpointCosigned
from p2pfed.node.ledger import Ledger
from p2pfed.node.shelf import position_feed
from p2pfed.node.telling import telling_places
from p2pfed.node.turn import Turn


class Cosigning:
    """Writes our checkpoints, and looks at those of others."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._trees: dict[FeedKey, Range] = {}
        self._sections: tuple[int, list[Section]] = (-1, [])
        self._written: tuple[int, tuple[TreeHead, ...]] = (-1, ())
        self._cosigned_ms = -1
        self._alarmed: set[tuple[int, tuple[CentreName, CentreName], str]] = set()

    def after_round(self, turn: Turn, *, may_write: bool) -> None:
        """Writes a checkpoint if it is time, and raises the alarm on what others say."""
        view = self._ledger.view
        cut_ms = view.cut_ms
        due = is_checkpoint_cut(cut_ms, self._ledger.rules)
        is_member = self._ledger.me.name in view.state.members
        if may_write and due and is_member and not view.judged:
            self._write(cut_ms, turn)
        self._tell_cosigned(turn)
        for found in self._ledger.checkpoints.disagreements():
            self._alarm(found, turn, may_write=may_write)

    def _write(self, cut_ms: int, turn: Turn) -> None:
        if self._ledger.checkpoints.of(self._ledger.me.name, cut_ms) is not None:
            return
        sections = dump_state(self._ledger.view.state)
        self._sections = cut_ms, sections
        heads = self._heads(cut_ms)
        record = Checkpoint(
            cut_ms=cut_ms,
            trees=encode_trees(heads),
            state_hash=state_hash(sections),
        )
        self._written = cut_ms, tuple(heads)
        self._ledger.write(record, turn.now_ms)

    def _heads(self, cut_ms: int) -> list[TreeHead]:
        replica = self._ledger.replica
        found = []
        for feed, head in sorted(replica.cut_frontier(hlc_cut(cut_ms)).items()):
            tree = self._trees.setdefault(feed, Range())
            for seq_num in range(tree.size, head.seq_num + 1):
                block_id = replica.block_id(feed, seq_num)
                assert block_id is not None, "a feed has no gaps"
                tree.append(block_id)
            time, key = replica.time_of(feed, head.seq_num), replica.keyring.key_at(feed, tree.size)
            assert time is not None, "the head is held"
            found.append(TreeHead(feed, tree.size, head.block_id, tree.root(), time, key))
        return found

    def _tell_cosigned(self, turn: Turn) -> None:
        """Once for each of our checkpoints: that a majority of the members signed the same."""
        cut_ms, trees = self._written
        if cut_ms <= self._cosigned_ms:
            return
        cosigned = self.cosigned()
        own = self._ledger.checkpoints.of(self._ledger.me.name, cut_ms)
        if cosigned is None or own is None or cosigned.said.statement != own.statement:
            return
        bearings = self._bearings(cosigned, trees)
        if bearings is None or self._ledger.base is not None:
            return
        self._cosigned_ms = cut_ms
        turn.do(
            CheckpointCosigned(
                cut_ms=cut_ms, state_hash=own.state_hash, trees=trees, bearings=bearings
            )
        )

    def _bearings(self, cosigned: Cosigned, trees: Iterable[TreeHead]) -> bytes | None:
        """What a newcomer needs to begin with it; None while a block of it is not stored yet."""
        ledger = self._ledger
        told = telling_places(ledger.view.state, ledger.replica)
        telling = [ledger.stored_block(feed, seq_num) for _, feed, seq_num in told]
        signed = [ledger.stored_block(position_feed(p), p.seq_num) for p in cosigned.by]
        if None in telling or None in signed or self._sections[0] != cosigned.said.cut_ms:
            return None
        return encode_bearings(
            ledger.federation.id,
            [block for block in telling if block is not None],
            [block for block in signed if block is not None],
            {tree.feed: self._trees[tree.feed].peaks for tree in trees},
            self._sections[1],
        )

    def stand_on(self, bearings: Bearings) -> None:
        """Goes on with the Merkle trees of a checkpoint."""
        for tree in bearings.trees:
            self._trees[tree.feed] = Range(tree.size, bearings.peaks[tree.feed])

    def _alarm(self, found: Disagreement, turn: Turn, *, may_write: bool) -> None:
        key = found.cut_ms, found.centres, found.register
        if key in self._alarmed:
            return
        self._alarmed.add(key)
        turn.note(ERROR, "checkpoint-disagreement", self.explain(found))
        cut_ms, sections = self._sections
        told_ms = self._ledger.checkpoints.digests_ms(self._ledger.me.name)
        if may_write and not told_ms and cut_ms == found.cut_ms:
            digests = encode_digests(sections)
            self._ledger.write(StateDigests(cut_ms=cut_ms, digests=digests), turn.now_ms)

    def explain(self, found: Disagreement) -> str:
        """A disagreement, for people."""
        one, other = found.centres
        text = f"{one} and {other} computed different states of the same blocks"
        if not found.register:
            return f"{text} at {found.cut_ms}"
        where = found.register
        if self._sections[0] == found.cut_ms:
            where = named_difference(where, self._sections[1])
        return f"{text} at {found.cut_ms}; the first difference is {where}"

    def cosigned(self) -> Cosigned | None:
        """The newest checkpoint on which a majority of the members agrees."""
        return self._ledger.checkpoints.cosigned(self._ledger.view.state.members)

    def warnings(self) -> list[str]:
        """What people should look at."""
        return [self.explain(found) for found in self._ledger.checkpoints.disagreements()]
