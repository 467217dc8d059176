"""A small federation that writes real blocks, for tests that need a ledger."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from p2pfed.core.audit import Report, verify_ledger
from p2pfed.core.blocks import Block, seal_block
from p2pfed.core.charter import Card, Charter, draft_charter, encode_charter, sign_charter
from p2pfed.core.ids import BlockId, CentreName, FeedKey, Frontier, Position, PublicKey
from p2pfed.core.keys import key_id
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.records import (
    Accept,
    Cancel,
    Claim,
    Contact,
    End,
    Handover,
    Job,
    Offer,
    Outcome,
    Receipt,
    Record,
    Start,
)
from p2pfed.core.rules import Rules
from p2pfed.core.units import HlcTime, hlc

ALPHA, BETA, GAMMA = (CentreName(name) for name in ("alpha", "beta", "gamma"))
START_MS = 1_750_000_000_000


def private_key(name: str) -> Ed25519PrivateKey:
    """A key that is the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def public_key(name: str) -> PublicKey:
    key = private_key(name).public_key()
    return PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def founding(names: Sequence[CentreName] = (ALPHA, BETA, GAMMA)) -> Charter:
    cards = [
        Card(
            name=name,
            public_key=public_key(name),
            address=f"{name}.example:7411",
            credit_line=1_000_000,
        )
        for name in names
    ]
    charter = draft_charter(cards, Rules(), "testing", START_MS)
    for name in names:
        charter = sign_charter(charter, name, private_key(name))
    return charter


@dataclass
class World:
    """A federation and all blocks written in it, in causal order."""

    charter: Charter = field(default_factory=founding)
    blocks: list[Block] = field(default_factory=list)
    now_ms: int = START_MS
    acked: dict[FeedKey, Frontier] = field(default_factory=dict)

    def frontier(self) -> Frontier:
        return {block.feed: block.head for block in self.blocks}

    def seal(
        self,
        name: CentreName,
        *records: Record,
        signed_by: str = "",
        time: HlcTime | None = None,
        seq_num: int | None = None,
        backlink: BlockId | None = None,
        acks: Frontier | None = None,
    ) -> Block:
        """The next block of a centre, which acks all it has not acked yet; not added."""
        feed = FeedKey(name, 0)
        heads = self.frontier()
        before = heads.pop(feed, None)
        known = self.acked.get(feed, {})
        fresh = {other: head for other, head in heads.items() if known.get(other) != head}
        number = (before.seq_num + 1 if before else 0) if seq_num is None else seq_num
        signer = signed_by or name
        return seal_block(
            federation=self.charter.federation_id,
            signer=private_key(signer),
            kid=key_id(public_key(signer)),
            centre=name,
            epoch=0,
            seq_num=number,
            backlink=backlink or (before.block_id if before and number else None),
            time=hlc(self.now_ms) if time is None else time,
            acks=fresh if acks is None else acks,
            records=records,
        )

    def write(self, name: CentreName, *records: Record) -> Block:
        """Appends the next block of a centre, a second after the one before."""
        self.now_ms += 1000
        block = self.seal(name, *records)
        self.acked[block.feed] = {f: h for f, h in self.frontier().items() if f != block.feed}
        self.blocks.append(block)
        return block

    def export(self, blocks: Sequence[Block] | None = None) -> bytes:
        """The ledger file of these blocks, by default of all."""
        found = self.blocks if blocks is None else blocks
        return b"".join(write_ledger(encode_charter(self.charter), found))


def audit(data: bytes) -> Report:
    return verify_ledger(io.BytesIO(data))


def run_job(world: World, *, core_s: int = 800) -> Position:
    """Alpha's job runs at beta and is receipted: ten records in as many blocks; the claim."""
    offer = world.write(
        BETA,
        Offer(
            resource_class="cpu",
            nodes=4,
            cores_per_node=8,
            memory_mib_per_node=16_384,
            walltime_max_s=3600,
        ),
    ).position(0)
    job = world.write(
        ALPHA,
        Job(
            resource_class="cpu",
            nodes=1,
            cores_per_node=8,
            memory_mib_per_node=1024,
            walltime_s=600,
            work_class="normal",
            payload_digest=bytes(32),
            payload_bytes=100,
        ),
    ).position(0)
    claim = world.write(
        ALPHA,
        Claim(
            job_id=job,
            offer_id=offer,
            attempt=1,
            round=7,
            rules_version=1,
            view_digest=bytes(32),
            claim_until_ms=world.now_ms + 30_000,
        ),
    ).position(0)
    world.write(BETA, Accept(claim_id=claim, accept_until_ms=world.now_ms + 150_000))
    world.write(ALPHA, Handover(claim_id=claim, lease_until_ms=world.now_ms + 2_000_000))
    world.write(BETA, Start(claim_id=claim, native_name="p2pfed-alpha.1.0"))
    world.now_ms += 100_000
    world.write(
        BETA,
        End(
            claim_id=claim,
            outcome=Outcome.COMPLETED,
            started_ms=world.now_ms - 100_000,
            ended_ms=world.now_ms,
            core_s=core_s,
        ),
    )
    world.write(ALPHA, Receipt(claim_id=claim, core_s=core_s))
    return claim


def good_world() -> World:
    """Three centres, one job run and receipted, a heartbeat of each."""
    world = World()
    for name in (ALPHA, BETA, GAMMA):
        world.write(name, Contact(address=f"{name}.example:7411"))
    run_job(world)
    for name in (GAMMA, ALPHA, BETA):
        world.write(name)
    return world


def meddling() -> Cancel:
    """A record that is inert when gamma writes it: the job is alpha's."""
    return Cancel(job_id=Position(ALPHA, 0, 1, 0))
