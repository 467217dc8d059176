"""The keys of centres that joined after the founding, taught to a replica as its blocks come.

A newcomer's blocks are signed with a key that no charter names: an adopted decision grants it, and
every block of the newcomer rests on that decision. So whoever takes blocks in causal order knows
the key by then, from the ledger alone.
"""

from __future__ import annotations

from typing import Final

from p2pfed.core.blocks import Block
from p2pfed.core.governance import GOVERNANCE_RECORDS, Governance
from p2pfed.core.keyring import Keyring
from p2pfed.core.records import Adopt

_DECIDING: Final = frozenset(GOVERNANCE_RECORDS)


class Newcomers:
    """Follows the decisions in admitted blocks.

    Args:
        governance: empty, of the federation; only its grants are asked for.
        keyring: of the replica that admits the blocks.
    """

    def __init__(self, governance: Governance, keyring: Keyring) -> None:
        self._governance = governance
        self._keyring = keyring

    def take(self, block: Block) -> None:
        """Takes note of a block that was admitted."""
        if _DECIDING.isdisjoint(map(type, block.records)):
            return
        granted = False
        for position, record in zip(block.positions(), block.records, strict=True):
            if isinstance(record, GOVERNANCE_RECORDS):
                self._governance.fold(position, block.time, record)
                granted = granted or isinstance(record, Adopt)
        if granted:
            self._keyring.learn(self._governance.grants())
