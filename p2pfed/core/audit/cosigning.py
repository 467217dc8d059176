"""Checkpoints in the ledger: do the roots hold, and do the centres agree on the state?"""

from __future__ import annotations

from collections.abc import Callable

from p2pfed.core.audit.findings import Findings
from p2pfed.core.blocks import Block
from p2pfed.core.checkpoint import Checkpoints, Disagreement, TreeHead, decode_trees
from p2pfed.core.ids import BlockId, FeedKey
from p2pfed.core.merkle import Range, tree_root
from p2pfed.core.records import Checkpoint, StateDigests
from p2pfed.core.replica import Replica
from p2pfed.core.waiting import BlockRef, backlink_ref
from p2pfed.errors import InputError


class CheckpointWatch:
    """Looks at each checkpoint when its block is folded.

    Args:
        replica: the admitted blocks.
        fetch: reads an admitted block again, on whichever branch it is.
        findings: where to name what is wrong.
    """

    def __init__(
        self, replica: Replica, fetch: Callable[[BlockRef], Block | None], findings: Findings
    ) -> None:
        self._replica = replica
        self._fetch = fetch
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
            tip = BlockRef(tree.feed, tree.size - 1, tree.block_id)
            if self._replica.holds(tip) and self._replica.branched():
                block = self._fetch(tip)
                if block is not None and self._replica.is_side(block):
                    # Its author had another branch of a forked feed than the one that came first.
                    if self._branch_root(block) != tree.root or block.time != tree.time:
                        return f"its root over a branch of {centre} is not that of the file"
                    continue
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

    def _branch_root(self, block: Block) -> bytes:
        """The root over the ids up to a block beside its feed."""
        above: list[BlockId] = []
        left: Block | None = block
        while left is not None and self._replica.is_side(left):
            above.append(left.block_id)
            below = backlink_ref(left)
            left = None if below is None else self._fetch(below)
        common = 0 if left is None else left.seq_num + 1
        ids = (self._replica.block_id(block.feed, number) for number in range(common))
        return tree_root([*(block_id for block_id in ids if block_id), *reversed(above)])

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
