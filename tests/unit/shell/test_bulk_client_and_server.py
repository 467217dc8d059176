"""A payload leaves only for a host that knows its lease; what arrives is what was signed for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pfed.errors import StateError
from p2pfed.node.effects import (
    AnswerTransfer,
    FetchResult,
    NameHandover,
    SendResult,
)
from p2pfed.node.events import (
    HandoverNamed,
    PayloadAsked,
    PayloadFailed,
    PayloadFetched,
    ResultAsked,
    ResultFailed,
    ResultFetched,
)
from p2pfed.shell.archive import FILES, load_archive
from p2pfed.shell.bulk_wire import (
    AskPayload,
    Wire,
)
from p2pfed.shell.connections import connect
from p2pfed.shell.tls import BULK_PROTOCOL
from tests.unit.shell.peers import ALPHA, BETA, DEADLINE_S, tls_of
from tests.unit.shell.transfers import (
    BLOCK,
    CLAIM,
    FILES_IN,
    JOB,
    contents,
    giver,
    payload_in,
    result_in,
    taker,
)


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
        home.server.answer(AnswerTransfer(transfer=named.transfer, error=error, retry=True))
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
