"""What still binds an author on a branch that does not count, and which branch a record speaks of.

Two branches hold different records at the same positions, so a position alone does not say what it
names. Whoever wrote it knew: the branch that it acked last (its own branch, if it is the author).
`Speech` follows that, and gives records on branches that don't count a *branch id*: the position
with a mark made from their block's id, which sorts, prints and compares like any position and which
no record on the wire can hold. So a lease on a lost branch is its own claim, and nobody's statement
about it is taken for one about the claim that counts at that place.

On a branch that does not count, only what obliges its author is taken: the lease, with the claim
and the job that it is of, and the author's statements about leases and usage. New offers, jobs and
claims, and whatever else it says, are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from p2pfed.core.blocks import Ack, Block
from p2pfed.core.branches import Mode
from p2pfed.core.governance import GOVERNANCE_RECORDS
from p2pfed.core.ids import BlockId, FeedKey, Head, Position, on_branch
from p2pfed.core.records import (
    Accept,
    Cancel,
    Claim,
    Close,
    Dispute,
    End,
    ForkProof,
    Handover,
    Inert,
    Job,
    Lost,
    OfferClose,
    OfferUpdate,
    Receipt,
    Record,
    Release,
    Settle,
    Start,
)
from p2pfed.core.units import HlcTime

Item = tuple[Position, HlcTime, Record | Inert]
"""A record with the id that it is folded under, and its block's time."""

_CLAIM_BINDING: Final = (Handover, Lost, Receipt, Dispute, Accept, Close, Start, End, Settle)
BINDING: Final = frozenset({*_CLAIM_BINDING, ForkProof, *GOVERNANCE_RECORDS})
"""Records that count on every branch: a lease, its end, what was consumed, what is owed.

Proofs and what the members decide by do too: they bring their own evidence, and so who is a member
depends on no branch.
"""

_NAMES: Final[Mapping[type[Any], tuple[str, ...]]] = {
    OfferUpdate: ("offer_id",),
    OfferClose: ("offer_id",),
    Cancel: ("job_id",),
    Claim: ("job_id", "offer_id"),
    **dict.fromkeys((*_CLAIM_BINDING, Release), ("claim_id",)),
}
"""The fields by which a record names another."""


@dataclass(slots=True)
class _Link:
    """A block of a watched feed, and what its author had acked of watched feeds by then."""

    seq_num: int
    block_id: BlockId
    before: _Link | None
    acked: dict[FeedKey, _Link]


class Speech:
    """Follows who acked which branch, block by block, and says what each record means.

    Args:
        watched: the feeds that may have branches.
        mode_of: what a block of a watched feed is worth.
    """

    def __init__(self, watched: Iterable[FeedKey], mode_of: Callable[[BlockId], Mode]) -> None:
        self._watched = frozenset(watched)
        self._mode_of = mode_of
        self._links: dict[BlockId, _Link] = {}
        self._acked: dict[FeedKey, dict[FeedKey, _Link]] = {}
        self._latent: dict[Position, Item] = {}

    def hear(self, block: Block) -> None:
        """Takes note of a block; what it names was heard before."""
        watched = block.feed in self._watched
        before = self._links.get(block.header.backlink) if block.header.backlink else None
        news = {f: self._links[h.block_id] for f, h in block.header.acks if f in self._watched}
        if not watched:
            self._acked.setdefault(block.feed, {}).update(news)
            return
        acked = before.acked if before else {}
        link = _Link(block.seq_num, block.block_id, before, {**acked, **news} if news else acked)
        self._links[block.block_id] = link

    def counted(self, block: Block) -> Block:
        """A heard block that counts, each record naming what its author meant."""
        records = [self._meant(block, record) for record in block.records]
        if all(a is b for a, b in zip(records, block.records, strict=True)):
            return block
        return replace(block, records=tuple(records))

    def counted_acks(self, block: Block) -> tuple[Ack, ...]:
        """A heard block's acks, brought down to what counts: so far it is a witness."""
        acks = (self._counted_ack(ack) for ack in block.header.acks)
        return tuple(ack for ack in acks if ack is not None)

    def _counted_ack(self, ack: Ack) -> Ack | None:
        if ack.feed not in self._watched:
            return ack
        link: _Link | None = self._links[ack.head.block_id]
        while link is not None and self._mode_of(link.block_id) is not Mode.COUNTS:
            link = link.before
        return None if link is None else Ack(ack.feed, Head(link.seq_num, link.block_id))

    def bound(self, block: Block) -> list[Item]:
        """What a heard block that only binds obliges its author to, in order.

        Blocks of one feed are asked for in the order of their chain.
        """
        found: list[Item] = []
        for position, record in zip(block.positions(), block.records, strict=True):
            if isinstance(record, Job | Claim):
                own = on_branch(position, block.block_id)
                self._latent[own] = own, block.time, self._meant(block, record)
            elif type(record) in BINDING:
                meant = self._meant(block, record)
                found += [*self._awakened(meant), (position, block.time, meant)]
        return found

    def _awakened(self, record: Record | Inert) -> list[Item]:
        """The claim and the job on this branch that a lease rests on, when it first does."""
        if not isinstance(record, Handover):
            return []
        claim = self._latent.pop(record.claim_id, None)
        if claim is None or not isinstance(claim[2], Claim):
            return []
        job = self._latent.pop(claim[2].job_id, None)
        return [claim] if job is None else [job, claim]

    def _meant(self, block: Block, record: Record | Inert) -> Record | Inert:
        changes = {}
        for name in _NAMES.get(type(record), ()):
            named: Position = getattr(record, name)
            meant = self._resolve(block, named)
            if meant is not named:
                changes[name] = meant
        return replace(record, **changes) if changes else record  # type: ignore[arg-type]

    def _resolve(self, block: Block, named: Position) -> Position:
        feed = FeedKey(named.centre, named.epoch)
        if feed not in self._watched:
            return named
        link = self._links.get(block.block_id)
        if feed != block.feed:
            acked = self._acked.get(block.feed, {}) if link is None else link.acked
            link = acked.get(feed)
        while link is not None and link.seq_num > named.seq_num:
            link = link.before
        if link is None or link.seq_num != named.seq_num:
            return named
        if self._mode_of(link.block_id) is Mode.COUNTS:
            return named
        return on_branch(named, link.block_id)
