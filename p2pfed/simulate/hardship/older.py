"""A daemon of an older release, which does not know every type of record yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Final

from p2pfed.core.blocks import Block
from p2pfed.core.ids import Position
from p2pfed.core.records import Checkpoint, Inert, StateDigests
from p2pfed.core.registers import Registers
from p2pfed.node.ledger import Ledger
from p2pfed.node.node import Node

UNKNOWN: Final = (Checkpoint, StateDigests)
"""Types that change no state, so that centres of both releases agree in all that counts."""


def as_known(block: Block) -> Block:
    """The block as a decoder reads it that does not know these types."""
    if not any(isinstance(record, UNKNOWN) for record in block.records):
        return block
    records = tuple(
        Inert("record-type-unknown", "a type of a later release")
        if isinstance(record, UNKNOWN)
        else record
        for record in block.records
    )
    return dataclasses.replace(block, records=records)


class OlderLedger(Ledger):
    """Holds every block as it came, and understands a part of it."""

    def _note(self, block: Block) -> None:
        super()._note(as_known(block))

    def _fold_into(self, live: Registers, block: Block) -> list[Position | str]:
        return super()._fold_into(live, as_known(block))

    def _history(self) -> Iterator[Block]:
        return map(as_known, super()._history())


class OlderNode(Node):
    """A node of an older release."""

    ledger_type: ClassVar[type[Ledger]] = OlderLedger
