"""A federation on paper: members write blocks that hold votes, and several nodes fold them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from p2pfed.core.blocks import Block
from p2pfed.core.charter import Card, write_card
from p2pfed.core.constitution import Member
from p2pfed.core.governance import Governance
from p2pfed.core.ids import CentreName, FederationId, Position
from p2pfed.core.proposals import encode_rules
from p2pfed.core.records import Adopt, ProposalKind, Propose, Record, Vote
from p2pfed.core.rules import Rules
from p2pfed.core.units import hlc, hlc_ms
from tests.writers import FEDERATION, START_MS, Writer, private_key, public_key

RULES = Rules(
    round_ms=1_000,
    heartbeat_ms=1_000,
    notice_rounds=10,
    dispute_settle_ms=60_000,
    dispute_vote_ms=600_000,
)
DAY_MS = 86_400_000
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")


def card_of(name: str, key_of: str | None = None, credit_line: int = 1_000) -> Card:
    """A centre's card, perhaps with a key of another name."""
    return Card(
        name=CentreName(name),
        public_key=public_key(key_of or name),
        address=f"{name}.example.org:7411",
        credit_line=credit_line,
    )


def member_of(name: str) -> Member:
    """A founder."""
    card = card_of(name)
    return Member(
        name=card.name, public_key=card.public_key, address=card.address, credit_line=1_000
    )


def card_fields(card: Card, key_of: str | None = None) -> dict[str, object]:
    """The fields of a proposal that carries the card."""
    written = json.loads(write_card(card, private_key(key_of or card.name)))
    return {
        "subject": card.name,
        "public_key": card.public_key,
        "address": card.address,
        "credit_line": card.credit_line,
        "card_signature": bytes.fromhex(written["signature"]),
    }


class Council:
    """Members that write blocks one after another, each acking all the blocks before it.

    `blocks` holds everything that was written, in an order in which each follows what it names.
    """

    def __init__(
        self, *names: str, rules: Rules = RULES, federation: FederationId = FEDERATION
    ) -> None:
        self.names, self.rules = names, rules
        self.writers = {name: Writer(name, federation=federation) for name in names}
        self.blocks: list[Block] = []
        self.now_ms = START_MS

    def wait(self, seconds: int) -> None:
        """Lets time pass."""
        self.now_ms += seconds * 1_000

    def write(
        self, name: str, *records: Record, knows: Iterable[Block] | None = None, at_ms: int = 0
    ) -> Block:
        """The member's next block; it acks the newest block of every feed among `knows`."""
        self.now_ms += 1
        writer = self.writers[name]
        heads = {b.feed: b.head for b in (self.blocks if knows is None else knows)}
        heads.pop(writer.feed, None)
        time = max(hlc(at_ms or self.now_ms), writer.time + 1)
        block = writer.write(records=records, time=type(writer.time)(time), acks=heads)
        self.blocks.append(block)
        return block

    def propose(self, name: str, kind: ProposalKind, **fields: object) -> Position:
        """A proposal of the member; its deadline is a day away unless told."""
        fields.setdefault("deadline_ms", self.now_ms + DAY_MS)
        block = self.write(name, Propose(kind=int(kind), **fields))  # type: ignore[arg-type]
        return block.position(0)

    def propose_rules(self, name: str, **changes: object) -> Position:
        """A proposal of the council's rules with these changes."""
        rules = replace(self.rules, **changes)  # type: ignore[arg-type]
        return self.propose(name, ProposalKind.RULES, rules=encode_rules(rules))

    def vote(self, proposal_id: Position, *names: str, in_favour: bool = True) -> list[Position]:
        """The votes of these members."""
        vote = Vote(proposal_id=proposal_id, in_favour=in_favour)
        return [self.write(name, vote).position(0) for name in names]

    def adopt(
        self,
        name: str,
        proposal_id: Position,
        votes: Sequence[Position],
        *,
        base: int = 1,
        effective_round: int | None = None,
        acked_by: Sequence[str] | None = None,
    ) -> Position:
        """An adoption with the usual notice, which the others ack at once."""
        if effective_round is None:
            effective_round = self.fold().versions()[-1].start_after(self.now_ms)
        record = Adopt(
            proposal_id=proposal_id,
            base_version=base,
            effective_round=effective_round,
            votes=tuple(sorted(votes)),
        )
        block = self.write(name, record)
        for other in self.names if acked_by is None else acked_by:
            if other != name:
                self.write(other)
        return block.position(0)

    def decide(self, name: str, proposal_id: Position, *voters: str, base: int = 1) -> Position:
        """Votes and adoption in one, and time until it holds."""
        adopt = self.adopt(name, proposal_id, self.vote(proposal_id, *voters), base=base)
        self.wait(60)
        return adopt

    def fold(
        self, blocks: Iterable[Block] | None = None, *, into: Governance | None = None
    ) -> Governance:
        """What a node makes of these blocks."""
        governance = into or Governance(map(member_of, self.names), self.rules)
        for block in self.blocks if blocks is None else blocks:
            governance.witness(block)
            for position, record in zip(block.positions(), block.records, strict=True):
                if type(record) in governance.folders:
                    governance.fold(position, block.time, record)  # type: ignore[arg-type]
        return governance

    def last_ms(self) -> int:
        """The time of the newest block."""
        return max(hlc_ms(block.time) for block in self.blocks)
