"""Ledgers of any size, as honest centres would have written them, without running any daemon.

Theory of operation. All centres share one state, since all hear everything before the next round:
so one fold and one matching stand for those of every daemon, and a million jobs take minutes. Time
goes from round to round. After a round's cut its homes post jobs and claim what the matching gave
them; then hosts answer, homes hand over and countersign, hosts start. A centre writes one block for
all of that in each of these phases, and acks what everybody wrote before.

Every claim is therefore justified and every record legal, so an audit must find nothing. A `tamper`
may change what a centre is about to write: then it must find just that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.blocks import Block, seal_block
from p2pfed.core.charter import Card, Charter, draft_charter, encode_charter, sign_charter
from p2pfed.core.ids import CentreName, ClaimId, FeedKey, Frontier, JobId, OfferId, PublicKey
from p2pfed.core.keys import key_id
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.lifecycle import accept_until, claim_until, lease_until
from p2pfed.core.limits import RECORDS_PER_BLOCK_MAX
from p2pfed.core.matching import match
from p2pfed.core.records import (
    Accept,
    Claim,
    Close,
    Dispute,
    Done,
    End,
    ForkProof,
    Handover,
    Job,
    Offer,
    Outcome,
    Receipt,
    Record,
    Start,
)
from p2pfed.core.replica import view_digest
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.units import hlc

START_MS: Final = 1_700_000_000_000
_CREDIT_LINE: Final = 50_000_000
_PHASE_MS: Final = 1_000
"""Between two phases of a round."""

Tamper = Callable[[CentreName, int, list[Record]], list[Record]]
"""Gets a centre, the time and what it is about to write; returns what it writes instead."""


@dataclass(slots=True)
class _Running:
    claim_id: ClaimId
    job: Job
    ends_ms: int
    started_ms: int


@dataclass(slots=True)
class Scribe:
    """One centre: its key, its feed, and what it has to answer."""

    name: CentreName
    key: Ed25519PrivateKey
    acked: Frontier = field(default_factory=dict)
    claimed: list[tuple[ClaimId, Claim, Job]] = field(default_factory=list)
    accepted: list[tuple[ClaimId, Job]] = field(default_factory=list)
    handed: list[tuple[ClaimId, Job]] = field(default_factory=list)
    running: list[_Running] = field(default_factory=list)
    ended: list[tuple[ClaimId, End]] = field(default_factory=list)
    seq_num: int = 0

    @property
    def feed(self) -> FeedKey:
        """The feed that it writes."""
        return FeedKey(self.name, 0)


class Scribes:
    """Centres that write a ledger together.

    Args:
        seed: decides jobs, run times, declines and disputes.
        centres: how many; each posts jobs and offers capacity.
        jobs: how many jobs are posted in all.
        rules: the federation's.
        per_round: jobs that each centre posts in a round.
        nodes: nodes of 32 cores that each offers.
        decline_per_mille: how often a host declines by policy.
        dispute_per_mille: how often a home disputes.
        walltimes_s: what jobs ask for.
        rounds_max: after so many it ends, whatever is still under way.
        tamper: see the module.
    """

    def __init__(
        self,
        seed: int,
        *,
        centres: int = 3,
        jobs: int = 30,
        rules: Rules | None = None,
        per_round: int = 5,
        nodes: int = 4,
        decline_per_mille: int = 0,
        dispute_per_mille: int = 0,
        walltimes_s: tuple[int, ...] = (60, 300, 900),
        rounds_max: int = 1_000_000,
        tamper: Tamper | None = None,
    ) -> None:
        self.rules = rules or Rules()
        self._dice = Random(seed)
        self._jobs_left = jobs
        self._per_round, self._nodes = per_round, nodes
        self._decline, self._dispute = decline_per_mille, dispute_per_mille
        self._walltimes_s = walltimes_s
        self._rounds_max = rounds_max
        self._tamper = tamper
        self.scribes = {
            name: Scribe(name, _key(name))
            for name in (CentreName(f"centre-{number:02d}") for number in range(centres))
        }
        self.charter = self._found()
        self._heads: Frontier = {}
        self._unfinished = 0
        lines = {card.name: card.credit_line for card in self.charter.founders}
        self._state = State(self.rules, lines, _nobody)
        self._now_ms = START_MS

    def _found(self) -> Charter:
        cards = [
            Card(
                name=scribe.name,
                public_key=PublicKey(scribe.key.public_key().public_bytes_raw()),
                address=f"{scribe.name}.example.org:7411",
                credit_line=_CREDIT_LINE,
            )
            for scribe in self.scribes.values()
        ]
        charter = draft_charter(cards, self.rules, "scribes", START_MS)
        for scribe in self.scribes.values():
            charter = sign_charter(charter, scribe.name, scribe.key)
        return charter

    def export(self) -> Iterator[bytes]:
        """The ledger file of all blocks, in pieces."""
        return write_ledger(encode_charter(self.charter), self.blocks())

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the order of their times, until every job is over."""
        yield from self._phase(START_MS, lambda scribe: [self._offer(), *self._posted(scribe)])
        # The first claim can be right only when others have acked what is in its view.
        first = START_MS // self.rules.round_ms + 1
        for number in range(first, first + self._rounds_max):
            if not self._jobs_left and not self._unfinished:
                break
            yield from self._round(number)
        yield from self._phase(self._now_ms + _PHASE_MS, lambda scribe: [], beat=True)

    # A round

    def _round(self, number: int) -> Iterator[Block]:
        cut_ms = number * self.rules.round_ms
        self._state.settle(cut_ms)
        self._state.forget()
        digest = view_digest(self._heads)
        matching = match(self._state.match_input(number, cut_ms))
        wanted: dict[CentreName, list[tuple[JobId, OfferId]]] = {}
        for placement in matching.placements:
            pair = placement.job_id, placement.offer_id
            wanted.setdefault(placement.job_id.centre, []).append(pair)
        now_ms = cut_ms + self.rules.settle_ms + 50

        def claims(scribe: Scribe) -> list[Record]:
            return [
                Claim(
                    job_id=job_id,
                    offer_id=offer_id,
                    attempt=self._state.registers.judge(self._state.registers.jobs[job_id]).attempts
                    + 1,
                    round=number,
                    rules_version=1,
                    view_digest=digest,
                    claim_until_ms=claim_until(now_ms, self.rules, may_ask=False),
                )
                for job_id, offer_id in wanted.get(scribe.name, ())
            ]

        yield from self._phase(
            now_ms, lambda scribe: claims(scribe) + self._posted(scribe), beat=True
        )
        now_ms += _PHASE_MS
        answered_ms = now_ms
        yield from self._phase(now_ms, lambda scribe: self._answers(scribe, answered_ms))
        now_ms += _PHASE_MS
        handed_ms = now_ms
        yield from self._phase(now_ms, lambda scribe: self._handovers(scribe, handed_ms))
        now_ms += _PHASE_MS
        started_ms = now_ms
        yield from self._phase(now_ms, lambda scribe: self._starts(scribe, started_ms))
        self._now_ms = now_ms

    def _phase(
        self, now_ms: int, said: Callable[[Scribe], list[Record]], *, beat: bool = False
    ) -> Iterator[Block]:
        """A block of every centre that has something to say; none has heard of another's yet.

        With `beat`, those that have nothing to say write an empty one.
        """
        known = dict(self._heads)
        for number, scribe in enumerate(self.scribes.values()):
            at_ms = now_ms + number
            records = said(scribe)
            if self._tamper is not None:
                records = self._tamper(scribe.name, at_ms, records)
            for first in range(0, max(beat, len(records)), RECORDS_PER_BLOCK_MAX):
                part = records[first : first + RECORDS_PER_BLOCK_MAX]
                yield self._write(scribe, at_ms, part, known, first // RECORDS_PER_BLOCK_MAX)

    def _write(
        self, scribe: Scribe, now_ms: int, records: list[Record], known: Frontier, part: int
    ) -> Block:
        before = self._heads.get(scribe.feed)
        acks = {
            feed: head
            for feed, head in known.items()
            if feed != scribe.feed and scribe.acked.get(feed) != head
        }
        scribe.acked.update(acks)
        block = seal_block(
            federation=self.charter.federation_id,
            signer=scribe.key,
            kid=key_id(PublicKey(scribe.key.public_key().public_bytes_raw())),
            centre=scribe.name,
            epoch=0,
            seq_num=0 if before is None else before.seq_num + 1,
            backlink=None if before is None else before.block_id,
            time=hlc(now_ms, part),
            acks=acks,
            records=records,
        )
        self._heads[scribe.feed] = block.head
        self._state.fold(block)
        self._route(block)
        return block

    def _route(self, block: Block) -> None:
        """Brings what a block says before those who have to answer."""
        for position, record in zip(block.positions(), block.records, strict=True):
            match record:
                case Claim():
                    parties = self._parties(ClaimId(position))
                    if parties is not None:
                        parties[1].claimed.append((ClaimId(position), record, parties[2]))
                case Accept() | Handover() | End():
                    self._hear(ClaimId(record.claim_id), record)
                case Job():
                    self._unfinished += 1
                case Receipt() | Dispute():
                    self._unfinished -= 1
                case _:
                    pass

    def _hear(self, claim_id: ClaimId, record: Accept | Handover | End) -> None:
        parties = self._parties(claim_id)
        if parties is None:
            return
        home, host, job = parties
        match record:
            case Accept():
                home.accepted.append((claim_id, job))
            case Handover():
                host.handed.append((claim_id, job))
            case End():
                home.ended.append((claim_id, record))

    def _parties(self, claim_id: ClaimId) -> tuple[Scribe, Scribe, Job] | None:
        """Home, host and job of a claim; None if there is no such claim."""
        entry, job = self._state.registers.claims.get(claim_id), None
        if entry is not None:
            job = self._state.registers.job_of(claim_id)
        if entry is None or entry.claim is None or job is None:
            return None
        return self.scribes[claim_id.centre], self.scribes[entry.claim.offer_id.centre], job.job

    # What each has to say

    def _offer(self) -> Offer:
        return Offer(
            resource_class="cpu",
            nodes=self._nodes,
            cores_per_node=32,
            memory_mib_per_node=131_072,
            walltime_max_s=86_400,
        )

    def _posted(self, scribe: Scribe) -> list[Record]:
        count = min(self._per_round, self._jobs_left)
        self._jobs_left -= count
        return [
            Job(
                resource_class="cpu",
                nodes=1,
                cores_per_node=self._dice.choice((1, 2, 4, 8)),
                memory_mib_per_node=1_024,
                walltime_s=self._dice.choice(self._walltimes_s),
                work_class=self._dice.choice(("normal", "normal", "low")),
                payload_digest=self._dice.randbytes(32),
                payload_bytes=self._dice.randint(100, 100_000),
            )
            for _ in range(count)
        ]

    def _answers(self, host: Scribe, now_ms: int) -> list[Record]:
        said: list[Record] = []
        for claim_id, claim, _ in host.claimed:
            if self._dice.randrange(1000) < self._decline:
                said.append(Close(claim_id=claim_id, reason="no-capacity"))
                continue
            until_ms = accept_until(claim.claim_until_ms, self.rules)
            said.append(Accept(claim_id=claim_id, accept_until_ms=until_ms))
        host.claimed = []
        over = [run for run in host.running if run.ends_ms <= now_ms]
        host.running = [run for run in host.running if run.ends_ms > now_ms]
        return said + [_end(run) for run in over]

    def _handovers(self, home: Scribe, now_ms: int) -> list[Record]:
        said: list[Record] = [
            Handover(
                claim_id=claim_id, lease_until_ms=lease_until(now_ms, job.walltime_s, self.rules)
            )
            for claim_id, job in home.accepted
        ]
        home.accepted = []
        for claim_id, end in home.ended:
            if self._dice.randrange(1000) < self._dispute:
                less = end.core_s // 2
                said.append(Dispute(claim_id=claim_id, core_s=less, reason="measured less"))
            else:
                said.append(Receipt(claim_id=claim_id, core_s=end.core_s, gpu_s=end.gpu_s))
                claim = self._state.registers.claims[claim_id].claim
                assert claim is not None
                said.append(Done(job_id=claim.job_id))
        home.ended = []
        return said

    def _starts(self, host: Scribe, now_ms: int) -> list[Record]:
        said: list[Record] = []
        for claim_id, job in host.handed:
            run_ms = self._dice.randint(1_000, job.walltime_s * 1_000)
            host.running.append(_Running(claim_id, job, now_ms + run_ms, now_ms))
            said.append(Start(claim_id=claim_id, native_name=f"p2pfed-{claim_id}"))
        host.handed = []
        return said


def _end(run: _Running) -> End:
    elapsed_s = -(-(run.ends_ms - run.started_ms) // 1000)
    return End(
        claim_id=run.claim_id,
        outcome=int(Outcome.COMPLETED),
        started_ms=run.started_ms,
        ended_ms=run.ends_ms,
        core_s=run.job.nodes * run.job.cores_per_node * elapsed_s,
    )


def _key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"scribe {name}".encode()).digest())


def _nobody(_proof: ForkProof) -> tuple[FeedKey, int]:
    raise AssertionError("no scribe proves a fork")
