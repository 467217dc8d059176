"""Seeded ledgers of a few centres that write everything a centre may write, and much it may not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from p2pfed.core.blocks import Block
from p2pfed.core.ids import CentreName, FeedKey, Head, Position
from p2pfed.core.proposals import encode_rules
from p2pfed.core.records import (
    Accept,
    Adopt,
    Cancel,
    Claim,
    Close,
    Contact,
    Dispute,
    Done,
    End,
    Handover,
    Job,
    Lost,
    Offer,
    OfferClose,
    OfferUpdate,
    Outcome,
    ProposalKind,
    Propose,
    Receipt,
    Record,
    Release,
    Settle,
    Start,
    Vote,
    WithdrawProposal,
)
from p2pfed.core.rules import Rules
from p2pfed.core.units import hlc
from tests.writers import START_MS, Writer

NAMES = ("alpha", "beta", "gamma")
RULES = Rules(
    objection_ms=0,
    heartbeat_ms=3_000,
    receipt_deadline_ms=60_000,
    max_attempts=2,
)
CREDIT_LINES = {CentreName(name): 50_000 for name in NAMES}


class LedgerWorld:
    """`blocks` in the order of writing; ids are drawn with no care whose they are.

    Args:
        seed: decides everything.
        count: how many blocks.
    """

    def __init__(self, seed: int, count: int) -> None:
        self._dice = Random(seed)
        self._writers = {name: Writer(name) for name in NAMES}
        self._acked: dict[str, dict[FeedKey, Head]] = {name: {} for name in NAMES}
        self._ms = START_MS
        self._ids: dict[str, list[Position]] = {"job": [], "offer": [], "claim": [], "propose": []}
        self.blocks: list[Block] = []
        for _ in range(count):
            self._write()

    def _write(self) -> None:
        self._ms += self._dice.choice((0, 10, 1_000, 4_000, 20_000))
        writer = self._writers[self._dice.choice(NAMES)]
        acked = self._acked[writer.name]
        acks = {
            other.feed: other.head
            for other in self._writers.values()
            if other is not writer
            and other.head is not None
            and acked.get(other.feed) != other.head
            and self._dice.random() < 0.7
        }
        acked.update(acks)
        named = [b for b in self.blocks if acks.get(b.feed) == b.head]
        # Up to two seconds behind: cuts then fall between a block and what came before it.
        own_ms = self._ms - self._dice.choice((0, 0, 500, 2_000))
        time = max([hlc(own_ms), writer.time + 1, *(b.time + 1 for b in named)])
        records = [self._record(writer.name) for _ in range(self._dice.randint(0, 8))]
        block = writer.write(records=records, time=time, acks=acks)  # type: ignore[arg-type]
        for position, record in zip(block.positions(), block.records, strict=True):
            kind = type(record).__name__.lower()
            if kind in self._ids:
                self._ids[kind].append(position)
        self.blocks.append(block)

    def _id(self, kind: str) -> Position:
        known = self._ids[kind]
        if not known or self._dice.random() < 0.05:
            seq_num = self._dice.randint(0, 9)
            return Position(CentreName(self._dice.choice(NAMES)), 0, seq_num, 0)
        return self._dice.choice(known[-12:])

    def _own(self, kind: str, name: str) -> Position:
        mine = [p for p in self._ids[kind][-40:] if p.centre == name]
        if mine and self._dice.random() < 0.9:
            return self._dice.choice(mine)
        return self._id(kind)

    def _hosted(self, name: str) -> Position:
        others = [p for p in self._ids["claim"][-40:] if p.centre != name]
        if others and self._dice.random() < 0.9:
            return self._dice.choice(others)
        return self._id("claim")

    def _record(self, name: str) -> Record:
        dice = self._dice
        roll = dice.randint(0, 19)
        if roll < 4:
            return self._job()
        if roll < 7:
            return self._claim(name)
        if roll < 12:
            return self._host_record(name)
        if roll < 17:
            return self._home_record(name)
        return self._offer_record(name) if roll < 19 else self._member_record(name)

    def _member_record(self, name: str) -> Record:
        """Decisions of members, of which few are in order, and offers to settle."""
        dice = self._dice
        proposal = self._id("propose")
        match dice.randint(0, 5):
            case 0:
                later_ms = self._ms + 86_400_000
                rules = encode_rules(replace(RULES, heartbeat_ms=dice.choice((2_000, 4_000))))
                return Propose(kind=int(ProposalKind.RULES), deadline_ms=later_ms, rules=rules)
            case 1:
                return Vote(proposal_id=proposal, in_favour=dice.random() < 0.7)
            case 2:
                return WithdrawProposal(proposal_id=self._own("propose", name))
            case 3:
                round_number = (self._ms + 3_600_000) // RULES.round_ms
                return Adopt(
                    proposal_id=proposal,
                    base_version=1,
                    effective_round=round_number,
                    votes=(proposal,),
                )
        return Settle(claim_id=self._hosted(name), core_s=dice.choice((100, 200)))

    def _job(self) -> Job:
        dice = self._dice
        return Job(
            resource_class=dice.choice(("cpu", "cpu", "gpu", "qpu")),
            nodes=dice.choice((1, 1, 2)),
            cores_per_node=dice.choice((1, 4)),
            memory_mib_per_node=1_024,
            walltime_s=dice.choice((60, 3_600)),
            work_class=dice.choice(("urgent", "normal", "low", "unheard-of")),
            payload_digest=bytes(32),
            payload_bytes=10,
        )

    def _claim(self, name: str) -> Claim:
        others = [p for p in self._ids["offer"][-12:] if p.centre != name]
        return Claim(
            job_id=self._own("job", name),
            offer_id=self._dice.choice(others) if others else self._id("offer"),
            attempt=1,
            round=self._ms // RULES.round_ms,
            rules_version=1,
            view_digest=bytes(32),
            claim_until_ms=self._ms + 30_000,
        )

    def _host_record(self, name: str) -> Record:
        claim_id = self._hosted(name)
        match self._dice.randint(0, 4):
            case 0 | 1:
                return Accept(claim_id=claim_id, accept_until_ms=self._ms + 60_000)
            case 2:
                reason = self._dice.choice(("policy", "no-capacity"))
                return Close(claim_id=claim_id, reason=reason)
            case 3:
                return Start(claim_id=claim_id, native_name="native")
        return End(
            claim_id=claim_id,
            outcome=self._dice.choice(tuple(Outcome)).value,
            started_ms=self._ms - 1_000,
            ended_ms=self._ms,
            core_s=self._dice.randint(0, 10_000),
        )

    def _home_record(self, name: str) -> Record:
        claim_id = self._own("claim", name)
        core_s = self._dice.randint(0, 10_000)
        match self._dice.randint(0, 9):
            case 9:
                return Done(job_id=self._own("job", name))
            case 0:
                return Release(claim_id=claim_id, reason="expired")
            case 1 | 2 | 3 | 4:
                return Handover(claim_id=claim_id, lease_until_ms=self._ms + 90_000)
            case 5:
                return Lost(claim_id=claim_id)
            case 6:
                return Receipt(claim_id=claim_id, core_s=core_s)
            case 7:
                return Dispute(claim_id=claim_id, core_s=core_s, reason="less")
        return Cancel(job_id=self._own("job", name))

    def _offer_record(self, name: str) -> Record:
        match self._dice.randint(0, 5):
            case 0:
                return OfferClose(offer_id=self._own("offer", name))
            case 1:
                size = self._dice.randint(0, 5)
                offer_id = self._own("offer", name)
                return OfferUpdate(offer_id=offer_id, nodes=size, walltime_max_s=3_600)
            case 2:
                return Contact(address=f"{name}.example.org:{self._ms % 1000}")
        return Offer(
            resource_class=self._dice.choice(("cpu", "gpu")),
            nodes=self._dice.randint(1, 50),
            cores_per_node=4,
            memory_mib_per_node=8_192,
            walltime_max_s=7_200,
        )


def causal_order(blocks: Sequence[Block], seed: int) -> Iterator[Block]:
    """The blocks in a random order in which each follows what it names."""
    dice = Random(seed)
    done: dict[FeedKey, int] = {}
    left = list(blocks)
    while left:
        ready = [
            block
            for block in left
            if block.seq_num == done.get(block.feed, -1) + 1
            and all(head.seq_num <= done.get(feed, -1) for feed, head in block.header.acks)
        ]
        block = dice.choice(ready)
        done[block.feed] = block.seq_num
        left.remove(block)
        yield block
