"""Checkpoints in the ledger: do the roots hold, and do the centres agree on the state?"""

from __future__ import annotations

from p2pfed.core.audit.findings import Findings
from p2pfed.core.blocks import Block
from p2pfed.core.checkpoint import Checkpoints, Disagreement, TreeHead, decode_trees
from p2pfed.core.ids import FeedKey
from p2pfed.core.merkle import Range, tree_root
from p2pfed.core.records import Checkpoint, StateDigests
from p2pfed.core.replica import Replica
from p2pfed.errors import InputError


class CheckpointWatch:
    """Looks at each checkpoint when its block is folded."""

    def __init__(self, replica: Replica, findings: Findings) -> None:
        self._replica = replica
        self._findings = findings
        self._checkpoints = Checkpoints()
        self._trees: dict[FeedKey, Range] = {}
        self._found: dict[tuple[int, tuple[str, str]], Disagreement] = {}

    def watch(self, block: Block) -> None:
        """Takes the next block, in the order of times."""
        for index, record in enumerate(block.records):
            if not isinstance(record, Checkpoint | StateDigests):
                continue
            position = block.position(index)
            if isinstance(record, Checkpoint):
                fault = self._fault(record)
                if fault:
                    where, centre = str(position), block.feed.centre
                    self._findings.warning("checkpoint-false", where, fault, centre)
            self._checkpoints.fold(position, record)
            for found in self._checkpoints.disagreements():
                key = found.cut_ms, found.centres
                if found.register or key not in self._found:
                    self._found[key] = found

    def finish(self) -> None:
        """Names who disagreed; call it after the last block."""
        for _, found in sorted(self._found.items()):
            where = found.register or "the first register is not told"
            text = f"of the same blocks at {found.cut_ms} they computed different states: {where}"
            pair = " and ".join(found.centres)
            self._findings.warning("checkpoint-disagreement", pair, text, found.centres[0])

    def _fault(self, record: Checkpoint) -> str:
        """What a checkpoint says of a feed that is not so; empty if all of it holds."""
        try:
            trees = decode_trees(record.trees)
        except InputError as error:
            return error.what
        for tree in trees:
            centre = tree.feed.centre
            if self._replica.block_id(tree.feed, tree.size - 1) != tree.block_id:
                return f"its block {tree.size - 1} of {centre} is not the one in the file"
            if self._replica.time_of(tree.feed, tree.size - 1) != tree.time:
                return f"block {tree.size - 1} of {centre} has another time in the file"
            if self._replica.keyring.key_at(tree.feed, tree.size) != tree.key:
                last = f"block {tree.size - 1} of {centre}"
                return f"another key than it says signs what follows {last}"
            if self._root(tree) != tree.root:
                return f"its root over {tree.size} blocks of {centre} is not that of the file"
        return ""

    def _root(self, tree: TreeHead) -> bytes:
        grown = self._trees.setdefault(tree.feed, Range())
        if tree.size < grown.size:
            ids = (self._replica.block_id(tree.feed, n) for n in range(tree.size))
            return tree_root(block_id for block_id in ids if block_id is not None)
        for seq_num in range(grown.size, tree.size):
            block_id = self._replica.block_id(tree.feed, seq_num)
            assert block_id is not None, "a feed has no gaps"
            grown.append(block_id)
        return grown.root()
