"""What came of offering a block to a replica."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from p2pfed.core.blocks import Block
from p2pfed.core.ids import BlockId, FeedKey
from p2pfed.core.records import ForkProof
from p2pfed.core.waiting import BlockRef, SeqRange
from p2pfed.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """The author of `feed` signed two blocks at `seq_num`.

    Attributes:
        held: id of the block that came first and stays.
        other: the block that came second; not admitted.
        proof: both headers; None if the first block could not be read back (ask again later).
    """

    feed: FeedKey
    seq_num: int
    held: BlockId
    other: Block
    proof: ForkProof | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A block that waited and turned out to break a rule."""

    block: Block
    error: InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What came of offering a block to the replica.

    Attributes:
        admitted: blocks that joined, in an order in which each follows what it names: the block
            itself and those that had waited for it, side blocks among them.
        duplicate: the block was admitted, or waits, already.
        waits: the block is kept until what it lacks has come, or its time.
        lacks: what to ask for, so that the block can be admitted: nothing held, nothing waiting.
        unmet: the blocks that it names and that neither are held nor wait, each exactly.
        forks: proofs of forks that came to light.
        refused: waiting blocks that broke a rule when their turn came.
        dropped: ids of waiting blocks that were dropped because the waiting room was full.
    """

    admitted: tuple[Block, ...] = ()
    duplicate: bool = False
    waits: bool = False
    lacks: tuple[SeqRange, ...] = ()
    unmet: tuple[BlockRef, ...] = field(default=(), compare=False)
    forks: tuple[Fork, ...] = ()
    refused: tuple[Refusal, ...] = ()
    dropped: tuple[BlockId, ...] = ()


class Outcome:
    """An `Admission` while it is being found."""

    __slots__ = ("admitted", "dropped", "forks", "refused")

    def __init__(self) -> None:
        self.admitted: list[Block] = []
        self.forks: list[Fork] = []
        self.refused: list[Refusal] = []
        self.dropped: list[BlockId] = []

    def freeze(
        self,
        *,
        waits: bool = False,
        lacks: tuple[SeqRange, ...] = (),
        unmet: Iterable[BlockRef] = (),
    ) -> Admission:
        """What was found, with what the block itself lacks."""
        return Admission(
            admitted=tuple(self.admitted),
            waits=waits,
            lacks=lacks,
            unmet=tuple(unmet),
            forks=tuple(self.forks),
            refused=tuple(self.refused),
            dropped=tuple(self.dropped),
        )
