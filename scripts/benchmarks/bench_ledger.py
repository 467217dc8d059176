"""What verifying, storing and replaying a ledger costs, beside the bare cost of the same calls.

A ledger of whole job lifecycles (job, claim, accept, handover, start, end, receipt) is made in
memory. The baseline makes the calls that no verifier can save: for every block one Ed25519
verification, SHA-256 of header and records, and CBOR read and written once. `decode` is
`decode_block` alone, `admit` adds the replica (together they verify a ledger), `fold` is the state
alone, `audit` the whole `verify_ledger` with the state folded and the balances computed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from p2pfed.core.audit import verify_ledger
from p2pfed.core.blocks import Block, decode_block, seal_block
from p2pfed.core.charter import Card, Charter, draft_charter, encode_charter, sign_charter
from p2pfed.core.ids import CentreName, FeedKey, Frontier, Position, PublicKey
from p2pfed.core.keys import key_id
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.records import (
    Accept,
    Claim,
    End,
    ForkProof,
    Handover,
    Job,
    Offer,
    Receipt,
    Record,
    Start,
)
from p2pfed.core.replica import Replica
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.units import hlc
from p2pfed.shell.collector import rarely_collecting
from p2pfed.store.database import Database
from p2pfed.store.rows import BlockRow

ALPHA, BETA = CentreName("alpha"), CentreName("beta")
START_MS = 1_800_000_000_000
COLUMNS = ("bare", "decode", "admit", "fold", "audit")


class Maker:
    """Two centres that write blocks in turn."""

    def __init__(self) -> None:
        self.keys = {
            name: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
            for name in (ALPHA, BETA)
        }
        cards = [
            Card(name=name, public_key=self.public(name), address="host:1", credit_line=1_000_000)
            for name in self.keys
        ]
        charter = draft_charter(cards, Rules(), "bench", START_MS)
        for name, key in self.keys.items():
            charter = sign_charter(charter, name, key)
        self.charter: Charter = charter
        self.blocks: list[Block] = []
        self.heads: Frontier = {}

    def public(self, name: CentreName) -> PublicKey:
        """The raw public key of a centre."""
        key = self.keys[name].public_key()
        return PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))

    def write(self, name: CentreName, records: Sequence[Record]) -> Block:
        """Appends a block that acks the other feed."""
        feed = FeedKey(name, 0)
        before = self.heads.get(feed)
        block = seal_block(
            federation=self.charter.federation_id,
            signer=self.keys[name],
            kid=key_id(self.public(name)),
            centre=name,
            epoch=0,
            seq_num=before.seq_num + 1 if before else 0,
            backlink=before.block_id if before else None,
            time=hlc(START_MS + len(self.blocks)),
            acks={f: head for f, head in self.heads.items() if f != feed},
            records=records,
        )
        self.heads[feed] = block.head
        self.blocks.append(block)
        return block

    def run_jobs(self, offer: Position, count: int) -> None:
        """`count` jobs from Job to Receipt, in seven blocks of `count` records."""
        jobs = self.write(ALPHA, [make_job()] * count)
        claims = self.write(ALPHA, [make_claim(jobs.position(n), offer) for n in range(count)])
        ids = [claims.position(n) for n in range(count)]
        until_ms = START_MS + 10_000_000
        self.write(BETA, [Accept(claim_id=i, accept_until_ms=until_ms) for i in ids])
        self.write(ALPHA, [Handover(claim_id=i, lease_until_ms=until_ms) for i in ids])
        self.write(BETA, [Start(claim_id=i, native_name="p2pfed-bench") for i in ids])
        self.write(BETA, [make_end(i) for i in ids])
        self.write(ALPHA, [Receipt(claim_id=i, core_s=100) for i in ids])


def make_job() -> Job:
    """A small job."""
    return Job(
        resource_class="cpu",
        nodes=1,
        cores_per_node=8,
        memory_mib_per_node=1024,
        walltime_s=600,
        work_class="normal",
        payload_digest=bytes(32),
        payload_bytes=1000,
    )


def make_claim(job_id: Position, offer_id: Position) -> Claim:
    """The claim of a job on the one offer."""
    return Claim(
        job_id=job_id,
        offer_id=offer_id,
        attempt=1,
        round=7,
        rules_version=1,
        view_digest=bytes(32),
        claim_until_ms=START_MS + 30_000,
    )


def make_end(claim_id: Position) -> End:
    """A job that completed after 100 core-seconds."""
    return End(
        claim_id=claim_id, outcome=1, started_ms=START_MS, ended_ms=START_MS + 100, core_s=100
    )


def make_ledger(records: int, per_block: int) -> Maker:
    """About `records` records in blocks of `per_block`."""
    maker = Maker()
    terms = Offer(
        resource_class="cpu",
        nodes=100,
        cores_per_node=8,
        memory_mib_per_node=16_384,
        walltime_max_s=3600,
    )
    offer = maker.write(BETA, [terms]).position(0)
    for _ in range(max(1, records // (7 * per_block))):
        maker.run_jobs(offer, per_block)
    return maker


def bare(blocks: Sequence[Block], public: dict[str, Ed25519PublicKey]) -> None:
    """The library calls alone."""
    for block in blocks:
        message, records = cbor2.loads(block.data)
        _, _, payload, signature = cbor2.loads(message)
        header = cbor2.loads(payload)
        with suppress(InvalidSignature):  # the same work: what is signed has some 60 bytes more
            public[header[1]].verify(signature, payload)
        hashlib.sha256(payload).digest()
        hashlib.sha256(records).digest()
        cbor2.dumps(header)
        cbor2.dumps(cbor2.loads(records))


def best_of(times: int, work: Callable[[], object]) -> float:
    """The least CPU time in seconds: what disturbs a run only ever adds."""
    found: list[float] = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def admit_all(maker: Maker) -> None:
    """Decodes and admits every block, as a daemon that receives them."""
    federation, keys = maker.charter.federation_id, maker.charter.keys()
    replica = Replica(federation, keys, max_skew_ms=0)
    for block in maker.blocks:
        replica.admit(decode_block(block.data, federation, keys), 1 << 48)


def fold_all(maker: Maker) -> None:
    """Folds every block, and settles once, as an audit does."""
    charter = maker.charter
    lines = {card.name: card.credit_line for card in charter.founders}

    def convict(_proof: ForkProof) -> tuple[FeedKey, int]:
        raise AssertionError("no centre forks here")

    state = State(charter.rules, lines, convict)
    for block in maker.blocks:
        state.fold(block)
    state.settle(START_MS + len(maker.blocks))


def store_all(maker: Maker, folder: Path) -> tuple[float, float]:
    """Seconds to append all blocks, a synced commit each, and to read them back."""
    rows = [BlockRow(b.feed, b.seq_num, b.block_id, b.time, b.data) for b in maker.blocks]
    path = folder / "ledger.sqlite"
    with Database.open(path, federation=maker.charter.federation_id) as database:
        start = time.perf_counter()
        for row in rows:
            database.append([row])
        stored_s = time.perf_counter() - start
        read_s = best_of(3, lambda: sum(1 for _ in database.blocks()))
    return stored_s, read_s


def report(records: int, per_block: int) -> None:
    """One line of the table."""
    maker = make_ledger(records, per_block)
    count = sum(len(block.records) for block in maker.blocks)
    federation, keys = maker.charter.federation_id, maker.charter.keys()
    data = b"".join(write_ledger(encode_charter(maker.charter), maker.blocks))
    public = {str(name): key.public_key() for name, key in maker.keys.items()}
    bare_s = best_of(3, lambda: bare(maker.blocks, public))
    decode_s = best_of(
        3, lambda: [decode_block(block.data, federation, keys) for block in maker.blocks]
    )
    admit_s = best_of(3, lambda: admit_all(maker))
    fold_s = best_of(3, lambda: fold_all(maker))
    with rarely_collecting():  # as `p2pfed ledger verify` does
        audit_s = best_of(3, lambda: verify_ledger(io.BytesIO(data)))
    with tempfile.TemporaryDirectory() as folder:
        stored_s, read_s = store_all(maker, Path(folder))
    figures = [
        f"{per_block:>9,} {count:>9,} {len(data) // count:>6}",
        *(
            f"{count / seconds:>10,.0f} {seconds / bare_s:>5.1f}x"
            for seconds in (bare_s, decode_s, admit_s, fold_s, audit_s)
        ),
        f"{len(maker.blocks) / stored_s:>10,.0f} {count / read_s:>12,.0f}",
    ]
    print(" ".join(figures))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=40_000)
    parser.add_argument("--per-block", type=int, nargs="*", default=[1, 10, 100, 1000])
    options = parser.parse_args()
    columns = chain.from_iterable((f"{name:>10}", f"{'':>6}") for name in COLUMNS)
    print(f"{'per block':>9} {'records':>9} {'bytes':>6}", *columns, " commits/s  read back/s")
    for per_block in options.per_block:
        report(min(options.records, 7_000 * per_block), per_block)
    print("bytes: of the file, a record. bare to audit: records/s, and time as a ratio to bare.")


if __name__ == "__main__":
    main()
