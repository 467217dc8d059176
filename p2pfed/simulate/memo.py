"""What a whole world computes once: signatures that many verify, blocks that all of them read.

A federation in one process would verify each block as often as it has centres, and each audit once
more. Both functions are pure, so their answers are remembered by everything that they depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from p2pfed.core.blocks import Block, decode_block, decode_stored
from p2pfed.core.ids import BlockId, CentreName, FederationId, PublicKey
from p2pfed.core.keys import VerifyKeys
from p2pfed.core.ledgerfile import Entry
from p2pfed.errors import InputError
from p2pfed.node.effects import StoredBlock

Opened = tuple[Entry, Block | InputError]


class RememberingKeys(VerifyKeys):
    """Keys that verify each signature once, whoever asks."""

    __slots__ = ("_known",)

    def __init__(self, entries: Iterable[tuple[CentreName, PublicKey]]) -> None:
        super().__init__(entries)
        self._known: dict[tuple[bytes, bytes, bytes], bool] = {}

    def verify(self, kid: bytes, signature: bytes, message: bytes) -> bool:
        """As `VerifyKeys.verify`."""
        asked = kid, signature, message
        known = self._known.get(asked)
        if known is None:
            known = self._known[asked] = super().verify(*asked)
        return known


class Library:
    """Every block of a world, decoded once."""

    def __init__(self) -> None:
        self._stored: dict[BlockId, Block] = {}
        self._opened: dict[bytes, Block] = {}

    def read(self, stored: StoredBlock) -> Block:
        """A block that some node admitted."""
        block = self._stored.get(stored.block_id)
        if block is None:
            block = self._stored[stored.block_id] = decode_stored(stored.data)
        return block

    def open(
        self, entries: Iterable[Entry], federation: FederationId, keys: Callable[[], VerifyKeys]
    ) -> Iterator[Opened]:
        """As `p2pfed.core.audit.intake.open_entry` for each: verifies what an audit reads."""
        for entry in entries:
            found: Block | InputError | None = self._opened.get(entry.data)
            if found is None:
                try:
                    found = self._opened[entry.data] = decode_block(entry.data, federation, keys())
                except InputError as error:
                    found = error  # its key may be known later
            yield entry, found
