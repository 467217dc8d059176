"""The daemon's own node, told one thing at a time; what it is spared decides nothing here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from p2pfed.core.blocks import Block
from p2pfed.core.clock import next_time
from p2pfed.core.ids import (
    CentreName,
    FeedKey,
    Head,
    JobId,
    OfferId,
    ViewDigest,
)
from p2pfed.core.units import HlcTime
from p2pfed.node.effects import (
    Effect,
)
from p2pfed.node.events import Event
from p2pfed.node.gossip import Gossip
from p2pfed.node.ledger import Ledger
from p2pfed.node.node import Node
from p2pfed.node.turn import Turn

_VIEW = ViewDigest(bytes(32))


@dataclass(frozen=True, slots=True)
class Learn:
    """Blocks of others (or own ones, taken back) arrive."""

    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A peer says what it holds of our own feed: the first word on a new connection."""

    peer: CentreName
    head: Head | None


@dataclass(frozen=True, slots=True)
class Look:
    """The daemon looks at everything that it is part of, as it does when times run out."""


@dataclass(frozen=True, slots=True)
class ClaimIt:
    """A round gave the job this offer."""

    job_id: JobId
    offer_id: OfferId


@dataclass(frozen=True, slots=True)
class Boot:
    """The daemon starts from its disk."""


@dataclass(frozen=True, slots=True)
class Mend:
    """The clock is right again, and peers have confirmed it."""


Input = Event | Learn | Answer | Look | ClaimIt | Boot | Mend


class ModelLedger(Ledger):
    """A ledger whose blocks ack nothing and whose times follow only its own feed."""

    def _new_acks(self) -> dict[FeedKey, Head]:
        return {}

    def next_time(self, now_ms: int) -> HlcTime:
        """Later than our own last block."""
        head = self.head
        last = None if head is None else self.replica.time_of(self.me.feed, head.seq_num)
        return next_time(now_ms, HlcTime(0) if last is None else last)

    def take(self, block: Block, now_ms: int) -> None:
        """Admits a block that another centre holds."""
        self._take_all(self.replica.admit(block, now_ms))

    def take_back(self, block: Block) -> None:
        """As `replay`, without decoding."""
        self.replica.restore_block(block)
        self._note(block)


class ModelGossip(Gossip):
    """Gossip of a node that hears of others only what the search tells it."""

    told: dict[CentreName, Head | None]

    def answered(self) -> frozenset[CentreName]:
        """The peers that have said what they hold."""
        return frozenset(self.told)

    def best_head(self, feed: FeedKey) -> Head | None:
        """The newest head of our feed that a peer named."""
        heads = [head for head in self.told.values() if head is not None]
        return max(heads, default=None)


class ModelNode(Node):
    """The daemon's node, with the ledger and gossip above."""

    ledger_type: ClassVar[type[Ledger]] = ModelLedger
    gossip_type: ClassVar[type[Gossip]] = ModelGossip

    @property
    def heard(self) -> ModelGossip:
        """What peers said."""
        assert isinstance(self.gossip, ModelGossip)
        return self.gossip

    def do(self, given: Input, now_ms: int, blocks: Sequence[Block]) -> list[Effect]:
        """Handles one input of the search."""
        ledger = self.ledger
        assert isinstance(ledger, ModelLedger)
        turn = Turn(now_ms)
        match given:
            case Learn():
                for number in given.blocks:
                    ledger.take(blocks[number], now_ms)
                self.recovery.step(turn)
            case Answer():
                self.heard.told[given.peer] = given.head
                self.recovery.step(turn)
            case Look():
                self.recovery.step(turn)
                ledger.touched.extend(sorted(ledger.live.claims))
            case ClaimIt():
                self.rounds._claim(given.job_id, given.offer_id, _VIEW, turn)  # noqa: SLF001
            case Mend():
                self.trust.watch.measured(
                    CentreName("witness"), offset_ms=0, round_trip_ms=0, now_ms=now_ms
                )
                self.trust.watch.forget(CentreName("witness"))
            case Boot():
                raise AssertionError("a node that runs is not booted")
            case _:
                return self.handle((given,), now_ms)
        return self._finish(turn)
