"""The chain of one feed in memory: 40 bytes a block, however much the blocks hold.

A chain may begin in the middle: of a feed that is known from a checkpoint on, the newest block
under it is the first that is held. What came before is put in its place once it is known.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

from p2pfed.core.ids import BlockId, Head
from p2pfed.core.units import HlcTime

_ID_BYTES: Final = 32


class Chain:
    """Ids and times of one feed's blocks, by `seq_num` from `first` on.

    Attributes:
        first: the `seq_num` of the first block that is held; 0 where nothing is left out.
    """

    __slots__ = ("first", "ids", "times")

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.ids = bytearray()
        self.times = array("Q")

    def __len__(self) -> int:
        """The `seq_num` of the next block."""
        return self.first + len(self.times)

    def has(self, seq_num: int) -> bool:
        """Whether the block at this place is held."""
        return self.first <= seq_num < len(self)

    def block_id(self, seq_num: int) -> BlockId:
        """The id of the block at this place, which must be held."""
        at = (seq_num - self.first) * _ID_BYTES
        return BlockId(bytes(self.ids[at : at + _ID_BYTES]))

    def time(self, seq_num: int) -> HlcTime:
        """The time of the block at this place, which must be held."""
        return HlcTime(self.times[seq_num - self.first])

    def head(self) -> Head:
        """The newest block; there must be one."""
        seq_num = len(self) - 1
        return Head(seq_num, self.block_id(seq_num))

    def head_at(self, cut: HlcTime) -> Head | None:
        """The newest block that is held with a time up to `cut`."""
        count = bisect_right(self.times, cut)
        if not count:
            return None
        seq_num = self.first + count - 1
        return Head(seq_num, self.block_id(seq_num))

    def append(self, block_id: BlockId, time: HlcTime) -> None:
        """Adds the next block."""
        self.ids += block_id
        self.times.append(time)

    def prepend(self, earlier: Chain) -> None:
        """Puts what came before in its place; `earlier` begins at 0 and reaches `first`."""
        count = self.first
        self.ids = earlier.ids[: count * _ID_BYTES] + self.ids
        self.times = earlier.times[:count] + self.times
        self.first = 0
