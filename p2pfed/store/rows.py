"""Blocks as the store takes them and gives them back."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from p2pfed.core.ids import BlockId, FeedKey


class StoredBlock(Protocol):
    """A block as it is kept; any value with these attributes can be appended."""

    @property
    def feed(self) -> FeedKey:
        """The chain that it belongs to."""

    @property
    def seq_num(self) -> int:
        """Its place in the chain, from 0."""

    @property
    def block_id(self) -> BlockId:
        """The SHA-256 of its signed payload."""

    @property
    def time(self) -> int:
        """Its hybrid time, 0 to 2^64 - 1."""

    @property
    def data(self) -> bytes:
        """The bytes as they were received."""

    @property
    def side(self) -> bool:
        """Whether it stands beside its feed, on a branch that came second."""


class BlockRow(NamedTuple):
    """A stored block, as it is read back."""

    feed: FeedKey
    seq_num: int
    block_id: BlockId
    time: int
    data: bytes
    side: bool = False
