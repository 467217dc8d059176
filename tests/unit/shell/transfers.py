"""A home and a host with real spools and real connections, for the tests of transfers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
import trio.testing

from p2pfed.core.ids import BlockId, ClaimId, JobId, Position
from p2pfed.core.limits import CHUNK_BYTES
from p2pfed.node.effects import (
    AnswerTransfer,
    FetchPayload,
    NameHandover,
    SendPayload,
)
from p2pfed.node.events import (
    Event,
    HandoverNamed,
    PayloadAsked,
)
from p2pfed.shell.archive import Sealed, collect_result, pack_payload
from p2pfed.shell.bulk_client import BulkClient
from p2pfed.shell.bulk_server import BulkServer
from p2pfed.shell.manifest import RunSpec
from p2pfed.store.spool import Spool
from tests.unit.shell.peers import ALPHA, BETA, DEADLINE_S, Peer, peer, tls_of

CLAIM = ClaimId(Position(ALPHA, 0, 7, 0))
JOB = JobId(Position(ALPHA, 0, 5, 0))
BLOCK = BlockId(b"b" * 32)
FILES_IN = {
    "a/big.bin": bytes(range(256)) * (5 * CHUNK_BYTES // 256) + b"tail",
    "empty": b"",
    "job.sh": b"#!/bin/sh\necho hello\n",
}


def payload_in(spool: Spool, files: dict[str, bytes] = FILES_IN) -> Sealed:
    """A payload published in the home's spool."""
    staged = spool.staging("upload")
    source = spool.root / "source"
    for name, content in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    sealed = pack_payload(source, staged, RunSpec(script="job.sh"))
    spool.publish(staged, spool.payload(sealed.digest))
    return sealed


def result_in(spool: Spool) -> Sealed:
    """A collected result in the host's spool."""
    work = spool.claim(CLAIM) / "work"
    work.mkdir(parents=True)
    (work / "stdout.txt").write_bytes(b"hello\n")
    folder = spool.claim(CLAIM) / "result"
    folder.mkdir()
    return collect_result(work, folder, stdout="stdout.txt", stderr="stderr.txt")


def contents(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@dataclass
class Giver:
    """The home (alpha): its bulk server, and what its node would see and do."""

    peer: Peer
    spool: Spool
    server: BulkServer
    events: trio.MemoryReceiveChannel[Event]

    async def event(self) -> Event:
        with trio.fail_after(DEADLINE_S):
            return await self.events.receive()

    async def hand_over(self, sealed: Sealed) -> None:
        """What a home's node does with a host that behaves."""
        asked = await self.event()
        assert isinstance(asked, PayloadAsked)
        assert (asked.centre, asked.claim_id) == (BETA, CLAIM)
        self.server.answer(AnswerTransfer(transfer=asked.transfer, block_id=BLOCK))
        named = await self.event()
        assert isinstance(named, HandoverNamed)
        assert (named.transfer, named.block_id) == (asked.transfer, BLOCK)
        self.server.answer(
            SendPayload(transfer=asked.transfer, job_id=JOB, payload_digest=sealed.digest)
        )


@dataclass
class Taker:
    """The host (beta): its bulk client and its node's events."""

    spool: Spool
    client: BulkClient
    events: trio.MemoryReceiveChannel[Event]

    async def event(self) -> Event:
        with trio.fail_after(DEADLINE_S):
            return await self.events.receive()

    def ask(self, giver: Peer, sealed: Sealed, *, named: bool = True) -> None:
        self.client.fetch_payload(
            FetchPayload(
                claim_id=CLAIM,
                home=ALPHA,
                address=giver.address,
                job_id=JOB,
                payload_digest=sealed.digest,
                payload_bytes=sealed.manifest.total_bytes,
            )
        )
        if named:
            self.client.name_handover(NameHandover(claim_id=CLAIM, block_id=BLOCK))


@asynccontextmanager
async def giver(tmp_path: Path) -> AsyncIterator[Giver]:
    sink, events = trio.open_memory_channel[Event](100)
    spool = Spool(tmp_path / "home")
    server = BulkServer(spool, sink, spool.root / "bearings")
    async with peer(ALPHA, transfers=server.handler) as alpha:
        yield Giver(alpha, spool, server, events)


@asynccontextmanager
async def taker(tmp_path: Path, *, effort_s: float = 10) -> AsyncIterator[Taker]:
    sink, events = trio.open_memory_channel[Event](100)
    spool = Spool(tmp_path / "host")
    client = BulkClient(tls_of(BETA), spool, sink, effort_s=effort_s, retry_first_s=0.01)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        yield Taker(spool, client, events)
        nursery.cancel_scope.cancel()
