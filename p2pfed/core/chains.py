"""The chain of one feed in memory: 40 bytes a block, however much the blocks hold."""

from __future__ import annotations

from array import array
from typing import Final

from p2pfed.core.ids import BlockId, Head
from p2pfed.core.units import HlcTime

_ID_BYTES: Final = 32


class Chain:
    """Ids and times of one feed's blocks, by `seq_num` from 0."""

    __slots__ = ("ids", "times")

    def __init__(self) -> None:
        self.ids = bytearray()
        self.times = array("Q")

    def __len__(self) -> int:
        return len(self.times)

    def block_id(self, seq_num: int) -> BlockId:
        """The id of the block at this place, which must be held."""
        at = seq_num * _ID_BYTES
        return BlockId(bytes(self.ids[at : at + _ID_BYTES]))

    def head(self) -> Head:
        """The newest block; there must be one."""
        seq_num = len(self.times) - 1
        return Head(seq_num, self.block_id(seq_num))

    def append(self, block_id: BlockId, time: HlcTime) -> None:
        """Adds the next block."""
        self.ids += block_id
        self.times.append(time)
