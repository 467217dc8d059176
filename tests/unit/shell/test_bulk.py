"""A payload leaves only for a host that knows its lease; what arrives is what was signed for."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pfed.core.codec import encode
from p2pfed.core.ids import BlockId, CentreName, ClaimId, JobId, Position
from p2pfed.core.limits import CHUNK_BYTES
from p2pfed.errors import InputError, StateError
from p2pfed.node.effects import (
    AnswerTransfer,
    FetchPayload,
    FetchResult,
    NameHandover,
    SendPayload,
    SendResult,
)
from p2pfed.node.events import (
    Event,
    HandoverNamed,
    PayloadAsked,
    PayloadFailed,
    PayloadFetched,
    ResultAsked,
    ResultFailed,
    ResultFetched,
)
from p2pfed.shell.archive import FILES, Sealed, collect_result, load_archive, pack_payload
from p2pfed.shell.bulk_client import CORRUPT_MAX, BulkClient
from p2pfed.shell.bulk_server import BulkServer
from p2pfed.shell.bulk_wire import (
    AskPayload,
    AskResult,
    Contents,
    Done,
    HandedOver,
    Message,
    Named,
    Refused,
    Want,
    Wire,
    decode_message,
    encode_message,
    expected,
)
from p2pfed.shell.connections import Handler, Stream, connect
from p2pfed.shell.manifest import RunSpec
from p2pfed.shell.tls import BULK_PROTOCOL
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
    server = BulkServer(spool, sink)
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


async def test_a_payload_goes_from_home_to_host(tmp_path: Path) -> None:
    async with giver(tmp_path) as home, taker(tmp_path) as host:
        sealed = payload_in(home.spool)
        host.ask(home.peer, sealed)
        await home.hand_over(sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)
        folder = host.spool.claim(CLAIM)
        assert contents(folder / FILES) == FILES_IN
        assert load_archive(folder) == sealed
        assert os.access(folder / FILES / "job.sh", os.X_OK)
        assert not os.access(folder / FILES / "empty", os.X_OK)


async def test_no_byte_leaves_before_the_host_named_the_block_of_its_lease(tmp_path: Path) -> None:
    async with giver(tmp_path) as home, taker(tmp_path) as host:
        sealed = payload_in(home.spool)
        host.ask(home.peer, sealed, named=False)
        asked = await home.event()
        assert isinstance(asked, PayloadAsked)
        home.server.answer(AnswerTransfer(transfer=asked.transfer, block_id=BLOCK))
        await trio.testing.wait_all_tasks_blocked(0.05)
        with pytest.raises(trio.WouldBlock):
            home.events.receive_nowait()
        host.client.name_handover(NameHandover(claim_id=CLAIM, block_id=BLOCK))
        named = await home.event()
        assert isinstance(named, HandoverNamed)
        error = StateError("transfer-handover", "that block does not hand the claim over")
        home.server.answer(AnswerTransfer(transfer=named.transfer, error=error))
        # The refusal is no verdict for ever, so the host asks again.
        await home.hand_over(sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)


async def test_a_result_goes_from_host_to_home(tmp_path: Path) -> None:
    # The roles of the two fixtures are exchanged: alpha gives, beta takes.
    async with giver(tmp_path) as host, taker(tmp_path) as home:
        sealed = result_in(host.spool)
        home.client.fetch_result(
            FetchResult(
                claim_id=CLAIM,
                host=ALPHA,
                address=host.peer.address,
                job_id=JOB,
                result_digest=sealed.digest,
                result_bytes=sealed.manifest.total_bytes,
            )
        )
        asked = await host.event()
        assert isinstance(asked, ResultAsked) and asked.centre == BETA
        host.server.answer(SendResult(transfer=asked.transfer, claim_id=CLAIM))
        assert await home.event() == ResultFetched(claim_id=CLAIM)
        assert contents(home.spool.result(CLAIM) / FILES) == {"stdout.txt": b"hello\n"}


async def test_asking_twice_is_one_fetch_and_a_finished_one_needs_no_peer(tmp_path: Path) -> None:
    async with giver(tmp_path) as home, taker(tmp_path) as host:
        sealed = payload_in(home.spool)
        host.ask(home.peer, sealed)
        host.ask(home.peer, sealed)
        await home.hand_over(sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)
        host.ask(home.peer, sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)
        with pytest.raises(trio.WouldBlock):
            home.events.receive_nowait()


async def test_a_forgotten_fetch_reports_nothing_and_can_begin_anew(tmp_path: Path) -> None:
    async with giver(tmp_path) as home, taker(tmp_path) as host:
        sealed = payload_in(home.spool)
        host.ask(home.peer, sealed, named=False)
        assert isinstance(await home.event(), PayloadAsked)
        host.client.forget(CLAIM)
        host.ask(home.peer, sealed)
        await home.hand_over(sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)


async def test_an_error_that_asking_again_cant_help_is_final(tmp_path: Path) -> None:
    async with giver(tmp_path) as home, taker(tmp_path) as host:
        sealed = payload_in(home.spool)
        host.ask(home.peer, sealed)
        asked = await home.event()
        assert isinstance(asked, PayloadAsked)
        error = StateError("transfer-cancelled", "the job is cancelled")
        home.server.answer(AnswerTransfer(transfer=asked.transfer, error=error))
        failed = await host.event()
        assert isinstance(failed, PayloadFailed) and failed.final
        assert "transfer-cancelled" in failed.why


async def test_a_result_that_the_host_has_not_is_final(tmp_path: Path) -> None:
    async with giver(tmp_path) as host, taker(tmp_path) as home:
        home.client.fetch_result(
            FetchResult(
                claim_id=CLAIM,
                host=ALPHA,
                address=host.peer.address,
                job_id=JOB,
                result_digest=bytes(range(32)),
                result_bytes=1,
            )
        )
        asked = await host.event()
        assert isinstance(asked, ResultAsked)
        host.spool.claim(CLAIM).mkdir()
        (host.spool.claim(CLAIM) / "result").mkdir()
        host.server.answer(SendResult(transfer=asked.transfer, claim_id=CLAIM))
        failed = await home.event()
        assert isinstance(failed, ResultFailed) and failed.final


async def test_an_unreachable_home_is_a_failure_for_now(tmp_path: Path) -> None:
    async with giver(tmp_path) as home, taker(tmp_path, effort_s=0.1) as host:
        sealed = payload_in(home.spool)
        home.peer.address = "127.0.0.1:1"
        host.ask(home.peer, sealed)
        failed = await host.event()
        assert isinstance(failed, PayloadFailed) and not failed.final
        assert "peer-unreachable" in failed.why


async def test_a_host_that_leaves_frees_the_transfer_at_once(tmp_path: Path) -> None:
    async with giver(tmp_path) as home:
        stream = await connect(tls_of(BETA), BULK_PROTOCOL, ALPHA, home.peer.address)
        await Wire(stream).send(AskPayload(CLAIM))
        asked = await home.event()
        assert isinstance(asked, PayloadAsked)
        await trio.aclose_forcefully(stream)
        with trio.fail_after(DEADLINE_S):
            while home.server._waiting:
                await trio.testing.wait_all_tasks_blocked(0.001)
        home.server.answer(AnswerTransfer(transfer=asked.transfer, block_id=BLOCK))


# A home that misbehaves


Script = Callable[[int, Wire, Stream], Awaitable[None]]


@asynccontextmanager
async def acting(script: Script) -> AsyncIterator[Peer]:
    """A peer with alpha's key that plays `script` (number of the connection, wire, stream)."""
    played = 0

    async def serve(centre: CentreName, stream: Stream) -> None:
        nonlocal played
        played += 1
        try:
            await script(played, Wire(stream), stream)
        except trio.BrokenResourceError:
            return

    async with peer(ALPHA, transfers=Handler(100, serve)) as alpha:
        yield alpha


async def agree(wire: Wire) -> None:
    """The part of a home that goes right."""
    expected(await wire.receive(), AskPayload)
    await wire.send(HandedOver(BLOCK))
    expected(await wire.receive(), Named)


def chunks_of(sealed: Sealed, files: dict[str, bytes] = FILES_IN) -> list[bytes]:
    return [
        files[m.path][i * CHUNK_BYTES :][: m.chunk_bytes(i)]
        for m in sealed.manifest.members
        for i in range(m.chunk_count)
    ]


async def test_an_interrupted_transfer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    sealed = payload_in(Spool(tmp_path / "home"))
    chunks = chunks_of(sealed)
    wanted: list[int] = []
    sent = 0

    async def one_chunk_each(number: int, wire: Wire, stream: Stream) -> None:
        nonlocal sent
        await agree(wire)
        await wire.send(Contents(sealed.data))
        want = expected(await wire.receive(), Want)
        wanted.append(want.from_chunk)
        for chunk in chunks[want.from_chunk : want.from_chunk + 1]:
            await wire.send_bytes(chunk)
            sent += len(chunk)
        if want.from_chunk + 1 < len(chunks):
            half = chunks[want.from_chunk + 1]
            await wire.send_bytes(half[: len(half) // 2])
            await stream.aclose()
        else:
            expected(await wire.receive(), Done)

    async with acting(one_chunk_each) as home, taker(tmp_path) as host:
        host.ask(home, sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)
        assert contents(host.spool.claim(CLAIM) / FILES) == FILES_IN
    assert wanted == list(range(len(chunks)))
    assert sent == sealed.manifest.total_bytes, "each byte of a chunk is sent once"


async def test_what_an_earlier_daemon_received_is_checked_and_kept(tmp_path: Path) -> None:
    sealed = payload_in(Spool(tmp_path / "home"))
    chunks = chunks_of(sealed)
    staged = Spool(tmp_path / "host").staging(f"fetch-payload-{CLAIM}") / FILES / "a"
    staged.mkdir(parents=True)
    # Two good chunks, then one that was only half on the disk when the power went.
    (staged / "big.bin").write_bytes(chunks[0] + chunks[1] + chunks[2][:500] + bytes(10 << 20))
    wanted: list[int] = []

    async def rest(number: int, wire: Wire, stream: Stream) -> None:
        await agree(wire)
        await wire.send(Contents(sealed.data))
        wanted.append(expected(await wire.receive(), Want).from_chunk)
        for chunk in chunks[wanted[0] :]:
            await wire.send_bytes(chunk)
        expected(await wire.receive(), Done)

    async with acting(rest) as home, taker(tmp_path) as host:
        host.ask(home, sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)
        assert contents(host.spool.claim(CLAIM) / FILES) == FILES_IN
    assert wanted == [2]


async def test_links_planted_in_staging_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    staged = Spool(tmp_path / "host").staging(f"fetch-payload-{CLAIM}") / FILES
    staged.mkdir()
    (staged / "a").symlink_to(outside)
    async with giver(tmp_path) as home, taker(tmp_path) as host:
        sealed = payload_in(home.spool)
        host.ask(home.peer, sealed)
        await home.hand_over(sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)
        assert contents(host.spool.claim(CLAIM) / FILES) == FILES_IN
    assert list(outside.iterdir()) == []


async def test_one_corrupted_chunk_is_refused_and_fetched_again(tmp_path: Path) -> None:
    sealed = payload_in(Spool(tmp_path / "home"))
    chunks = chunks_of(sealed)

    async def corrupt_once(number: int, wire: Wire, stream: Stream) -> None:
        await agree(wire)
        await wire.send(Contents(sealed.data))
        want = expected(await wire.receive(), Want)
        assert want.from_chunk == (0 if number == 1 else 1)
        for index, chunk in enumerate(chunks[want.from_chunk :]):
            bad = number == 1 and index == 1
            await wire.send_bytes(bytes(len(chunk)) if bad else chunk)
        expected(await wire.receive(), Done)

    async with acting(corrupt_once) as home, taker(tmp_path) as host:
        host.ask(home, sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)
        assert contents(host.spool.claim(CLAIM) / FILES) == FILES_IN


async def _forged_manifest(number: int, wire: Wire, stream: Stream, sealed: Sealed) -> None:
    await agree(wire)
    await wire.send(Contents(sealed.data.replace(b"job.sh", b"jab.sh")))
    await wire.receive()


async def _always_corrupt(number: int, wire: Wire, stream: Stream, sealed: Sealed) -> None:
    await agree(wire)
    await wire.send(Contents(sealed.data))
    await wire.receive()
    await wire.send_bytes(bytes(CHUNK_BYTES))
    await wire.receive()


async def _nonsense(number: int, wire: Wire, stream: Stream, sealed: Sealed) -> None:
    await wire.receive()
    await stream.send_all(b"\x00\x00\x00\x05hello")
    await wire.receive()


async def _huge_message(number: int, wire: Wire, stream: Stream, sealed: Sealed) -> None:
    await wire.receive()
    await stream.send_all(b"\xff\xff\xff\xff")
    await wire.receive()


async def _out_of_turn(number: int, wire: Wire, stream: Stream, sealed: Sealed) -> None:
    await wire.receive()
    await wire.send(Done())
    await wire.receive()


ScriptFor = Callable[[int, Wire, Stream, Sealed], Awaitable[None]]
LIARS: dict[str, tuple[ScriptFor, str]] = {
    "a manifest of other files": (_forged_manifest, "bulk-digest"),
    "chunks that are always corrupt": (_always_corrupt, "bulk-digest"),
    "nonsense": (_nonsense, "cbor-"),
    "a huge message": (_huge_message, "bulk-message"),
    "a message out of turn": (_out_of_turn, "bulk-message"),
}


@pytest.mark.parametrize("case", LIARS)
async def test_a_home_that_keeps_sending_what_was_not_signed_for_is_given_up(
    tmp_path: Path, case: str
) -> None:
    script, code = LIARS[case]
    sealed = payload_in(Spool(tmp_path / "home"))
    connections = 0

    async def play(number: int, wire: Wire, stream: Stream) -> None:
        nonlocal connections
        connections = number
        await script(number, wire, stream, sealed)

    async with acting(play) as home, taker(tmp_path) as host:
        host.ask(home, sealed)
        failed = await host.event()
        assert isinstance(failed, PayloadFailed) and failed.final
        assert code in failed.why
        assert not host.spool.claim(CLAIM).exists()
    assert connections == CORRUPT_MAX


async def test_a_manifest_whose_size_is_not_the_jobs_is_refused(tmp_path: Path) -> None:
    async with giver(tmp_path) as home, taker(tmp_path) as host:
        sealed = payload_in(home.spool)
        host.client.fetch_payload(
            FetchPayload(
                claim_id=CLAIM,
                home=ALPHA,
                address=home.peer.address,
                job_id=JOB,
                payload_digest=sealed.digest,
                payload_bytes=sealed.manifest.total_bytes - 1,
            )
        )
        host.client.name_handover(NameHandover(claim_id=CLAIM, block_id=BLOCK))
        for _ in range(CORRUPT_MAX):
            await home.hand_over(sealed)
        failed = await host.event()
        assert isinstance(failed, PayloadFailed) and failed.final
        assert "bulk-contents" in failed.why


async def test_a_home_that_closes_again_and_again_is_a_failure_for_now(tmp_path: Path) -> None:
    sealed = payload_in(Spool(tmp_path / "home"))

    async def leave(number: int, wire: Wire, stream: Stream) -> None:
        await wire.receive()

    async with acting(leave) as home, taker(tmp_path, effort_s=0.1) as host:
        host.ask(home, sealed)
        failed = await host.event()
        assert isinstance(failed, PayloadFailed) and not failed.final


# A host that misbehaves


HOSTS: dict[str, bytes] = {
    "nonsense": b"\x00\x00\x00\x05hello",
    "a huge message": b"\xff\xff\xff\xff",
    "an empty message": bytes(4),
    "a message out of turn": encode_message(Want(0)),
}


@pytest.mark.parametrize("case", HOSTS)
async def test_a_host_that_speaks_nonsense_gets_a_refusal_and_the_home_goes_on(
    tmp_path: Path, case: str
) -> None:
    async with giver(tmp_path) as home, taker(tmp_path) as host:
        stream = await connect(tls_of(BETA), BULK_PROTOCOL, ALPHA, home.peer.address)
        await stream.send_all(HOSTS[case])
        answer = await Wire(stream).receive()
        assert isinstance(answer, Refused) and answer.final
        await trio.aclose_forcefully(stream)
        sealed = payload_in(home.spool)
        host.ask(home.peer, sealed)
        await home.hand_over(sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)


# Messages


MESSAGES: tuple[Message, ...] = (
    AskPayload(CLAIM),
    AskResult(CLAIM),
    HandedOver(BLOCK),
    Named(BLOCK),
    Contents(b"manifest"),
    Want(3),
    Done(),
    Refused("code", "text", final=True),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert decode_message(encode_message(message)[4:]) == message


BAD_MESSAGES = {
    "unknown number": {0: 99},
    "no number": {1: 1},
    "claim is no position": {0: 1, 1: "alpha"},
    "short block id": {0: 3, 1: bytes(31)},
    "negative chunk": {0: 6, 1: -1},
    "refusal without a text": {0: 8, 1: "code", 3: True},
}


@pytest.mark.parametrize("case", BAD_MESSAGES)
def test_a_bad_message_is_refused(case: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_message(encode(BAD_MESSAGES[case]))  # type: ignore[arg-type]  # a table of items
    assert caught.value.code == "bulk-message"


def test_a_strangers_text_can_not_write_to_the_terminal() -> None:
    message = decode_message(encode({0: 8, 1: "c", 2: "a\x1b[2Jb", 3: False}))
    assert message == Refused("c", "a?[2Jb", final=False)
