"""Checkpoints that a majority signed, as proofs carry them: the blocks that hold them.

A *signed cut* is a checkpoint with one block of each centre that wrote it. It is found by reading a
ledger (`CutFinder`), and shown again from those blocks by whoever knows the members
(`check_signed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from p2pfed.core.authority import Authority
from p2pfed.core.blocks import Block
from p2pfed.core.charter import Charter
from p2pfed.core.checkpoint import TreeHead, decode_trees
from p2pfed.core.constitution import Member
from p2pfed.core.ids import CentreName, FeedKey
from p2pfed.core.records import Checkpoint
from p2pfed.core.units import HlcTime
from p2pfed.errors import InputError


class SignedCut(NamedTuple):
    """A checkpoint, and the blocks in which a majority of the members wrote it, by centre."""

    checkpoint: Checkpoint
    blocks: dict[CentreName, bytes]
    newest: HlcTime

    @property
    def signed(self) -> list[bytes]:
        """The blocks, in the order of the centres."""
        return [data for _, data in sorted(self.blocks.items())]

    @property
    def trees(self) -> dict[FeedKey, TreeHead]:
        """What it says of each feed."""
        return {tree.feed: tree for tree in decode_trees(self.checkpoint.trees)}


class CutFinder:
    """Reads the blocks of a ledger in its order, and finds the checkpoints that a majority signed.

    Attributes:
        authority: keys and members, as the blocks so far tell.
    """

    def __init__(self, charter: Charter) -> None:
        self.authority = Authority(charter)
        self._telling: list[Block] = []
        self._said: dict[Checkpoint, dict[FeedKey, Block]] = {}

    def read(self, block: Block) -> None:
        """Takes the next block; of a forked feed only the branch that comes first."""
        if self.authority.take(block):
            self._telling.append(block)
        for record in block.records:
            if isinstance(record, Checkpoint):
                self._said.setdefault(record, {}).setdefault(block.feed, block)

    def cuts(self) -> Iterator[SignedCut]:
        """The cosigned checkpoints, the oldest first."""
        for checkpoint, said in sorted(self._said.items(), key=lambda item: item[0].cut_ms):
            members = self.authority.members_at(checkpoint.cut_ms)
            by = {f.centre: b for f, b in said.items() if _signs(f, members)}
            if 2 * len(by) > len(members):
                newest = max(block.time for block in by.values())
                yield SignedCut(checkpoint, {c: b.data for c, b in by.items()}, newest)

    def newest(self) -> SignedCut | None:
        """The newest of them."""
        return next(reversed([*self.cuts()]), None)

    def telling(self, upto: HlcTime) -> list[bytes]:
        """The blocks that say who the members are and who signs with which key, up to a time."""
        return [block.data for block in self._telling if block.time <= upto]


def check_signed(
    signed: Sequence[bytes], authority: Authority
) -> tuple[Checkpoint, tuple[CentreName, ...]]:
    """The checkpoint that a majority of the members at its cut wrote in these blocks, and who.

    Raises:
        InputError: `proof-cosigned`, or as `Authority.open`.
    """
    said: dict[Checkpoint, set[FeedKey]] = {}
    for data in signed:
        block = authority.open(data)
        for record in block.records:
            if isinstance(record, Checkpoint):
                said.setdefault(record, set()).add(block.feed)
    for checkpoint, feeds in said.items():
        members = authority.members_at(checkpoint.cut_ms)
        signers = {feed.centre for feed in feeds if _signs(feed, members)}
        if 2 * len(signers) > len(members):
            return checkpoint, tuple(sorted(signers))
    raise InputError("proof-cosigned", "no majority of the members signed one checkpoint")


def _signs(feed: FeedKey, members: Mapping[CentreName, Member]) -> bool:
    member = members.get(feed.centre)
    return member is not None and member.feed == feed
