"""Ledgers of any size for real daemons, written with the keys of their centres.

Two centres of a federation write in turn: the first posts jobs, the second runs them. The blocks
lie in the past, a second apart, so that a daemon finds a history, not a future.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from p2pfed.core.blocks import Block, seal_block
from p2pfed.core.charter import decode_charter
from p2pfed.core.ids import CentreName, FeedKey, Frontier, Position
from p2pfed.core.keys import key_id
from p2pfed.core.records import (
    Accept,
    Claim,
    Done,
    End,
    Handover,
    Job,
    Offer,
    Receipt,
    Record,
    Start,
)
from p2pfed.core.units import hlc
from p2pfed.store.database import Database
from p2pfed.store.highwater import HighWater
from p2pfed.store.keyfile import CentreKey, load_key
from p2pfed.store.rows import BlockRow
from scripts.benchmarks.centres import Centre, Federation

RECORDS_A_JOB = 8
"""Job, Claim, Accept, Handover, Start, End, Receipt, Done."""
_STEP_MS = 1000
_BATCH = 500
"""Blocks stored in one commit."""

_JOB = Job(
    resource_class="cpu",
    nodes=1,
    cores_per_node=8,
    memory_mib_per_node=1024,
    walltime_s=600,
    work_class="normal",
    payload_digest=bytes(32),
    payload_bytes=1000,
)
_OFFER = Offer(
    resource_class="cpu",
    nodes=100,
    cores_per_node=8,
    memory_mib_per_node=16_384,
    walltime_max_s=3600,
)


class History:
    """Writes the blocks of two centres of a federation.

    Args:
        federation: its first centre posts the jobs, its second runs them.
        blocks: about how many there will be; the last is an hour old.
    """

    def __init__(self, federation: Federation, blocks: int) -> None:
        self._home, self._host = (_Author(centre) for centre in list(federation)[:2])
        first = next(iter(federation))
        charter = decode_charter((first.folder / "charter.cbor").read_bytes())
        self._federation = charter.federation_id
        self._now_ms = time.time_ns() // 1_000_000 - 3_600_000 - blocks * _STEP_MS
        self._heads: Frontier = {}

    def lifecycles(self, jobs: int, per_block: int) -> Iterator[Block]:
        """Jobs that ran and were receipted, `per_block` of them at a time, and one offer."""
        offered = self._write(self._host, [_OFFER])
        yield offered
        offer = offered.position(0)
        for first in range(0, jobs, per_block):
            yield from self._run(offer, min(per_block, jobs - first))

    def queued(self, jobs: int, per_block: int) -> Iterator[Block]:
        """Jobs that wait: there is no offer."""
        for first in range(0, jobs, per_block):
            yield self._write(self._home, [_JOB] * min(per_block, jobs - first))

    def _run(self, offer: Position, count: int) -> Iterator[Block]:
        home, host = self._home, self._host
        until_ms = self._now_ms + 10_000_000
        jobs = self._write(home, [_JOB] * count)
        claims = self._write(home, [self._claim(jobs.position(n), offer) for n in range(count)])
        ids = [claims.position(n) for n in range(count)]
        yield from (jobs, claims)
        yield self._write(host, [Accept(claim_id=i, accept_until_ms=until_ms) for i in ids])
        yield self._write(home, [Handover(claim_id=i, lease_until_ms=until_ms) for i in ids])
        yield self._write(host, [Start(claim_id=i, native_name="p2pfed-bench") for i in ids])
        yield self._write(host, [self._end(i) for i in ids])
        yield self._write(home, [Receipt(claim_id=i, core_s=80) for i in ids])
        yield self._write(home, [Done(job_id=jobs.position(n)) for n in range(count)])

    def _claim(self, job_id: Position, offer_id: Position) -> Claim:
        return Claim(
            job_id=job_id,
            offer_id=offer_id,
            attempt=1,
            round=self._now_ms // 10_000,
            rules_version=1,
            view_digest=bytes(32),
            claim_until_ms=self._now_ms + 30_000,
        )

    def _end(self, claim_id: Position) -> End:
        started_ms = self._now_ms - 10_000
        return End(
            claim_id=claim_id,
            outcome=1,
            started_ms=started_ms,
            ended_ms=self._now_ms,
            core_s=80,
        )

    def _write(self, author: _Author, records: Sequence[Record]) -> Block:
        before = self._heads.get(author.feed)
        self._now_ms += _STEP_MS
        block = seal_block(
            federation=self._federation,
            signer=author.key,
            kid=key_id(author.key.public_key),
            centre=author.feed.centre,
            epoch=0,
            seq_num=before.seq_num + 1 if before else 0,
            backlink=before.block_id if before else None,
            time=hlc(self._now_ms),
            acks={f: head for f, head in self._heads.items() if f != author.feed},
            records=records,
        )
        self._heads[author.feed] = block.head
        return block


class _Author:
    def __init__(self, centre: Centre) -> None:
        self.key: CentreKey = load_key(centre.folder / "key.pem")
        self.feed = FeedKey(CentreName(centre.name), 0)


def store(blocks: Iterable[Block], centres: Sequence[Centre]) -> tuple[int, int]:
    """Puts the blocks into the ledgers of these centres, high-water files included.

    Returns:
        How many records they have, and how many bytes.
    """
    charter = decode_charter((centres[0].folder / "charter.cbor").read_bytes())
    opened = [Database.open(c.database, federation=charter.federation_id) for c in centres]
    records = size = 0
    heads: Frontier = {}
    batch: list[BlockRow] = []
    try:
        for block in blocks:
            batch.append(
                BlockRow(block.feed, block.seq_num, block.block_id, block.time, block.data)
            )
            records += len(block.records)
            size += len(block.data)
            heads[block.feed] = block.head
            if len(batch) == _BATCH:
                for database in opened:
                    database.append(batch)
                batch = []
        for database in opened:
            database.append(batch)
    finally:
        for database in opened:
            database.close()
    for centre in centres:
        feed = FeedKey(CentreName(centre.name), 0)
        if feed in heads:
            HighWater(centre.folder / "highwater").write(feed, heads[feed])
    return records, size
