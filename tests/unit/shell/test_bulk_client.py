"""Whatever the other end does, a fetch ends with what was signed for, or with a reason."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pfed.core.ids import CentreName
from p2pfed.core.limits import CHUNK_BYTES
from p2pfed.node.effects import (
    FetchPayload,
    NameHandover,
)
from p2pfed.node.events import (
    PayloadFailed,
    PayloadFetched,
)
from p2pfed.shell.archive import FILES, Sealed
from p2pfed.shell.bulk_client import CORRUPT_MAX
from p2pfed.shell.bulk_wire import (
    AskPayload,
    Contents,
    Done,
    HandedOver,
    Named,
    Want,
    Wire,
    expected,
)
from p2pfed.shell.connections import Handler, Stream
from p2pfed.store.spool import Spool
from tests.unit.shell.peers import ALPHA, Peer, peer
from tests.unit.shell.transfers import (
    BLOCK,
    CLAIM,
    FILES_IN,
    JOB,
    contents,
    giver,
    payload_in,
    taker,
)

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
