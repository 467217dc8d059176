"""Prints digests of a federation's blocks, matchings and accounts, all made from one seed.

Equal blocks must give equal state and equal matching on every machine, every supported Python and
every hash seed (invariant 4 of docs/explanation/invariants.md). This program plays a small
federation, whose every choice comes from SHA-256 and whose keys and signatures are deterministic,
through `core` alone; scripts/determinism runs it under several interpreters and compares the lines.

    fingerprint.py [ROUNDS]
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.blocks import Block, decode_block, seal_block
from p2pfed.core.clock import next_time
from p2pfed.core.codec import encode
from p2pfed.core.entries import ClaimEntry
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import CentreName, FederationId, FeedKey, Head, PublicKey
from p2pfed.core.keys import VerifyKeys, key_id
from p2pfed.core.lifecycle import ClaimState, accept_until, claim_until, lease_until
from p2pfed.core.matching import Matching, match
from p2pfed.core.records import (
    Accept,
    Claim,
    Close,
    Dispute,
    End,
    ForkProof,
    Handover,
    Job,
    Offer,
    OfferUpdate,
    Outcome,
    Receipt,
    Record,
    Start,
)
from p2pfed.core.replica import view_digest
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.units import HlcTime
from p2pfed.core.view import View, in_time

T = TypeVar("T")

FEDERATION = FederationId(hashlib.sha256(b"fingerprint").digest())
CENTRES = tuple(CentreName(name) for name in ("alpha", "beta", "delta", "epsilon", "gamma"))
RULES = Rules(round_ms=60_000, settle_ms=1_000, heartbeat_ms=60_000, offer_lease_ms=300_000)
START_ROUND = 30_000_000


def encoded(item: list[object]) -> bytes:
    """The deterministic encoding of nested lists of integers and texts."""
    return encode(cast(CborItem, item))


class Choices:
    """Choices that are the same everywhere: the n-th is taken by the SHA-256 of n."""

    def __init__(self) -> None:
        self._count = 0

    def below(self, limit: int) -> int:
        """An integer from 0 to `limit` - 1."""
        self._count += 1
        digest = hashlib.sha256(b"choice %d" % self._count).digest()
        return int.from_bytes(digest[:8], "big") % limit

    def one_of(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]


class Author:
    """A centre that writes one block per round."""

    def __init__(self, name: CentreName) -> None:
        self.name = name
        self.feed = FeedKey(name, 0)
        self.head: Head | None = None
        self.time = HlcTime(0)
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.public_key = PublicKey(self._key.public_key().public_bytes_raw())

    def write(self, now_ms: int, heads: dict[FeedKey, Head], records: list[Record]) -> Block:
        """The author's next block; `heads` are those of the others."""
        self.time = next_time(now_ms, self.time)
        block = seal_block(
            federation=FEDERATION,
            signer=self._key,
            kid=key_id(self.public_key),
            centre=self.name,
            epoch=0,
            seq_num=self.head.seq_num + 1 if self.head else 0,
            backlink=self.head.block_id if self.head else None,
            time=self.time,
            acks={feed: head for feed, head in heads.items() if feed != self.feed},
            records=records,
        )
        self.head = block.head
        return block


def draw_offer(choices: Choices) -> Offer:
    """Some capacity."""
    return Offer(
        resource_class="gpu" if choices.below(4) == 0 else "cpu",
        nodes=1 + choices.below(8),
        cores_per_node=8 << choices.below(3),
        gpus_per_node=4,
        memory_mib_per_node=65_536,
        walltime_max_s=3_600 * (1 + choices.below(12)),
        features=("apptainer",) if choices.below(2) else (),
        min_balance=-900_000,
    )


def draw_job(choices: Choices) -> Job:
    """Some work; what it is does not matter here."""
    resource_class = "gpu" if choices.below(5) == 0 else "cpu"
    return Job(
        resource_class=resource_class,
        nodes=1 + choices.below(3),
        cores_per_node=1 + choices.below(16),
        gpus_per_node=1 if resource_class == "gpu" else 0,
        memory_mib_per_node=1_024 * (1 + choices.below(16)),
        walltime_s=600 * (1 + choices.below(20)),
        features=("apptainer",) if choices.below(5) == 0 else (),
        work_class=choices.one_of([c.name for c in RULES.classes]),
        deny=(CENTRES[0],) if choices.below(6) == 0 else (),
        payload_digest=hashlib.sha256(b"%d" % choices.below(1 << 30)).digest(),
        payload_bytes=1_000,
    )


def answer(me: CentreName, entry: ClaimEntry, now_ms: int, choices: Choices) -> Record | None:
    """What the centre says next about a claim of its own job or on its own offer."""
    claim = entry.claim
    if claim is None:
        return None
    claim_id, host = entry.claim_id, claim.offer_id.centre
    if entry.state is ClaimState.CLAIMED and me == host:
        if choices.below(8) == 0:
            return Close(claim_id=claim_id, reason=choices.one_of(["policy", "no-capacity"]))
        until_ms = accept_until(claim.claim_until_ms, RULES)
        return Accept(claim_id=claim_id, accept_until_ms=until_ms)
    if entry.state is ClaimState.ACCEPTED and me == entry.home:
        return Handover(claim_id=claim_id, lease_until_ms=lease_until(now_ms, 12_000, RULES))
    if entry.state is ClaimState.LEASED and me == host:
        return Start(claim_id=claim_id, native_name=f"p2pfed-{claim_id}")
    if entry.state is ClaimState.STARTED and me == host and choices.below(4) == 0:
        return End(
            claim_id=claim_id,
            outcome=choices.one_of([Outcome.COMPLETED, Outcome.FAILED, Outcome.PREEMPTED]),
            started_ms=now_ms - 60_000,
            ended_ms=now_ms,
            core_s=choices.below(100_000),
            gpu_s=choices.below(10_000),
        )
    if entry.state is ClaimState.ENDED and me == entry.home and entry.settlement is None:
        core_s = choices.below(100_000)
        if choices.below(5) == 0:
            return Dispute(claim_id=claim_id, core_s=core_s, reason="measured less")
        return Receipt(claim_id=claim_id, core_s=core_s, gpu_s=10_000)
    return None


def refuse_proof(proof: ForkProof) -> tuple[FeedKey, int]:
    """No fork happens here."""
    raise NotImplementedError(proof)


class Federation:
    """All centres and the view that every one of them would compute."""

    def __init__(self) -> None:
        self.choices = Choices()
        self.authors = [Author(name) for name in CENTRES]
        self.keys = VerifyKeys([(a.name, a.public_key) for a in self.authors])
        lines = {name: 100_000 * (1 + self.choices.below(9)) for name in CENTRES}
        self.view = View(lambda: State(RULES, lines, refuse_proof), in_time(tuple), refuse_proof)
        self.matching: Matching | None = None
        self.blocks = hashlib.sha256()
        self.matchings = hashlib.sha256()

    def step(self, number: int) -> None:
        """One round: everyone writes a block, then the cut is matched."""
        now_ms = number * RULES.round_ms - 30_000
        heads = {a.feed: a.head for a in self.authors if a.head is not None}
        digest = view_digest(heads)
        for author in self.authors:
            records = list(self._records(author, number, now_ms, digest))
            block = author.write(now_ms, heads, records)
            self.blocks.update(block.data)
            self.view.add(decode_block(block.data, FEDERATION, self.keys))
        cut_ms = number * RULES.round_ms
        self.view.advance(cut_ms)
        self.matching = match(self.view.state.match_input(number, cut_ms))
        placements = [
            [list(p.job_id), list(p.offer_id), *p.score] for p in self.matching.placements
        ]
        reserved = [
            [list(r.job_id), list(r.offer_id), r.starts_ms] for r in self.matching.reservations
        ]
        self.matchings.update(encoded([number, placements, reserved]))

    def _records(self, author: Author, number: int, now_ms: int, digest: bytes) -> Iterator[Record]:
        registers = self.view.state.registers
        if author.head is None:
            yield from (draw_offer(self.choices) for _ in range(3))
        yield from (draw_job(self.choices) for _ in range(self.choices.below(12)))
        for offer_id in sorted(registers.offers):
            if offer_id.centre == author.name and self.choices.below(10) == 0:
                yield OfferUpdate(
                    offer_id=offer_id, nodes=self.choices.below(9), walltime_max_s=43_200
                )
        for claim_id in sorted(registers.claims):
            said = answer(author.name, registers.claims[claim_id], now_ms, self.choices)
            if said is not None:
                yield said
        for placement in self.matching.placements if self.matching else ():
            if placement.job_id.centre == author.name:
                yield Claim(
                    job_id=placement.job_id,
                    offer_id=placement.offer_id,
                    attempt=1,
                    round=number - 1,
                    rules_version=1,
                    view_digest=digest,
                    claim_until_ms=claim_until(now_ms, RULES, may_ask=False),
                )

    def accounts_digest(self, number: int) -> str:
        """The digest of counters, standings and the queue."""
        state = self.view.state
        counters = [[list(key), list(value)] for key, value in state.accounts.counters().items()]
        standings = [[name, *state.standing(name, number * RULES.round_ms)] for name in CENTRES]
        queue = [[list(job.job_id) for job in state.queue.in_order(name)] for name in CENTRES]
        return hashlib.sha256(encoded([counters, standings, queue])).hexdigest()


def main() -> None:
    """Plays the federation and prints one line per ten rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    federation = Federation()
    placed = 0
    for number in range(START_ROUND, START_ROUND + rounds):
        federation.step(number)
        placed += len(federation.matching.placements) if federation.matching else 0
        if (number + 1) % 10 == 0:
            print(
                f"round {number + 1 - START_ROUND}: placed {placed},"
                f" queued {len(federation.view.state.queue)},"
                f" inert {federation.view.state.inert_count},"
                f" blocks {federation.blocks.hexdigest()[:16]},"
                f" matchings {federation.matchings.hexdigest()[:16]},"
                f" accounts {federation.accounts_digest(number)[:16]}"
            )


if __name__ == "__main__":
    main()
