"""The giving side of bulk connections: payloads to hosts, results to homes.

What a peer asks for becomes an event, and the node's effect is the answer: this module decides
nothing about claims. Above all no byte of a payload leaves before the node said `SendPayload`,
which it says only after the host named the block of its lease. A connection on which the node's
answer is awaited is given up as soon as the peer is gone.
"""

from __future__ import annotations

import hashlib
import logging
from itertools import count
from pathlib import Path
from typing import Final

import trio

from p2pfed.core.ids import CentreName, ClaimId
from p2pfed.core.limits import CHUNK_BYTES
from p2pfed.errors import InputError, P2pfedError, StateError
from p2pfed.node.effects import AnswerTransfer, SendCheckpoint, SendPayload, SendResult
from p2pfed.node.events import (
    Event,
    HandoverNamed,
    PayloadAsked,
    ResultAsked,
    TransferId,
)
from p2pfed.shell.archive import FILES, load_archive, opened, read_all
from p2pfed.shell.bulk_wire import (
    ASK_BYTES_MAX,
    AskBearings,
    AskPayload,
    AskResult,
    BearingsCome,
    Contents,
    Done,
    HandedOver,
    Message,
    Named,
    Refused,
    Want,
    Wire,
    expected,
)
from p2pfed.shell.connections import TRANSPORT_ERRORS, Handler, Stream
from p2pfed.shell.manifest import Manifest, Member
from p2pfed.shell.members import Members
from p2pfed.store.spool import Spool

log = logging.getLogger("p2pfed.bulk")

TRANSFERS_PER_CENTRE_MAX: Final = 32
"""Bulk connections that one centre may have open to us."""
NODE_S: Final = 60.0
"""Time that our own node has to answer."""
NAME_S: Final = 90.0
"""Time that a host has to receive the block with the Handover and name it."""
FINISH_S: Final = 300.0
"""Time that the asker has to make the last chunk durable and say so."""

RESULT: Final = "result"
"""Where a claim's folder in the host's spool holds the collected result."""

Answer = AnswerTransfer | SendPayload | SendResult | SendCheckpoint


class _RefusedError(Exception):
    """Our node's no, and whether asking again can't help."""

    def __init__(self, error: P2pfedError, *, final: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.final = final


class BulkServer:
    """Serves the bulk connections that peers open."""

    def __init__(self, spool: Spool, events: trio.MemorySendChannel[Event], bearings: Path) -> None:
        """`handler` is what an `Acceptor` does with a bulk connection.

        `bearings` is the file with the newest cosigned checkpoint, once there is one.
        """
        self._spool = spool
        self._bearings = bearings
        self._events = events
        self._numbers = count(1)
        self._waiting: dict[TransferId, trio.MemorySendChannel[Answer]] = {}
        self.handler = Handler(TRANSFERS_PER_CENTRE_MAX, self._serve)

    def answer(self, effect: Answer) -> None:
        """Performs the node's answer to what a peer asked for; the peer may be gone."""
        waiting = self._waiting.get(effect.transfer)
        if waiting is not None:
            try:
                waiting.send_nowait(effect)
            except trio.WouldBlock:
                log.warning("transfer %d is answered twice", effect.transfer)

    async def _serve(self, centre: CentreName, stream: Stream) -> None:
        transfer = TransferId(next(self._numbers))
        sender, answers = trio.open_memory_channel[Answer](1)
        self._waiting[transfer] = sender
        wire = Wire(stream, message_bytes_max=ASK_BYTES_MAX)
        try:
            await self._converse(centre, transfer, wire, answers)
            await stream.aclose()
        except TRANSPORT_ERRORS as error:
            log.info("a transfer to %s broke off: %s", centre, error)
        except P2pfedError as error:
            log.warning("a transfer to %s failed: %s", centre, error)
        finally:
            del self._waiting[transfer]

    async def _converse(
        self,
        centre: CentreName,
        transfer: TransferId,
        wire: Wire,
        answers: trio.MemoryReceiveChannel[Answer],
    ) -> None:
        try:
            first = await wire.receive()
            if isinstance(first, AskBearings):
                await self._give_bearings(wire)
                return
            folder = await self._agreed(centre, transfer, first, wire, answers)
            sealed = await trio.to_thread.run_sync(load_archive, folder)
        except _RefusedError as refused:
            error = refused.error
            await wire.send(Refused(error.code, error.what, refused.final))
            raise error from None
        except (P2pfedError, OSError) as error:
            await wire.send(_refusal(error))
            raise
        await wire.send(Contents(sealed.data))
        want = expected(await wire.receive(), Want)
        await _send_chunks(wire, folder, sealed.manifest, want.from_chunk)
        expected(await wire.receive(within_s=FINISH_S), Done)

    async def _give_bearings(self, wire: Wire) -> None:
        """Sends the newest cosigned checkpoint, if there is one."""
        try:
            data = await trio.to_thread.run_sync(self._bearings.read_bytes)
        except FileNotFoundError:
            raise StateError(
                "bearings-none", "this centre has no cosigned checkpoint yet"
            ) from None
        await wire.send(BearingsCome(len(data), hashlib.sha256(data).digest()))
        for at in range(0, len(data), CHUNK_BYTES):
            await wire.send_bytes(data[at : at + CHUNK_BYTES])
        expected(await wire.receive(within_s=FINISH_S), Done)

    async def _agreed(
        self,
        centre: CentreName,
        transfer: TransferId,
        first: Message,
        wire: Wire,
        answers: trio.MemoryReceiveChannel[Answer],
    ) -> Path:
        """The folder to send, after the node agreed to it step by step."""
        match first:
            case AskPayload(claim_id):
                await self._events.send(
                    PayloadAsked(transfer=transfer, centre=centre, claim_id=claim_id)
                )
                answer = await _node_answer(wire, answers)
                if not isinstance(answer, AnswerTransfer) or answer.block_id is None:
                    raise _error_of(answer)
                await wire.send(HandedOver(answer.block_id))
                named = expected(await wire.receive(within_s=NAME_S), Named)
                await self._events.send(
                    HandoverNamed(
                        transfer=transfer,
                        centre=centre,
                        claim_id=claim_id,
                        block_id=named.block_id,
                    )
                )
                answer = await _node_answer(wire, answers)
                if not isinstance(answer, SendPayload):
                    raise _error_of(answer)
                return self._spool.payload(answer.payload_digest)
            case AskResult(claim_id):
                return await self._agreed_result(centre, transfer, claim_id, wire, answers)
            case other:
                raise InputError("bulk-message", f"{type(other).__name__} is no first message")

    async def _agreed_result(
        self,
        centre: CentreName,
        transfer: TransferId,
        claim_id: ClaimId,
        wire: Wire,
        answers: trio.MemoryReceiveChannel[Answer],
    ) -> Path:
        await self._events.send(ResultAsked(transfer=transfer, centre=centre, claim_id=claim_id))
        answer = await _node_answer(wire, answers)
        if isinstance(answer, SendCheckpoint):
            folder = self._spool.result(answer.claim_id)
            if not folder.is_dir():
                error = StateError("transfer-no-result", "what was saved did not come home")
                raise _RefusedError(error, final=True)
            return folder
        if not isinstance(answer, SendResult):
            raise _error_of(answer)
        return self._spool.claim(answer.claim_id) / RESULT


async def _node_answer(wire: Wire, answers: trio.MemoryReceiveChannel[Answer]) -> Answer:
    """The node's next effect for this transfer.

    Raises:
        StateError: `bulk-busy`: it did not come in time.
        trio.BrokenResourceError: the peer did not wait for it.
    """
    found: Answer | None = None
    lost = False
    with trio.move_on_after(NODE_S):
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal lost
                await wire.until_lost()
                lost = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            found = await answers.receive()
            nursery.cancel_scope.cancel()
    if found is not None:
        return found
    if lost:
        raise trio.BrokenResourceError("the other end left before the answer")
    raise StateError("bulk-busy", "this centre is busy; ask again later")


def _error_of(answer: Answer) -> _RefusedError:
    if isinstance(answer, AnswerTransfer) and answer.error is not None:
        return _RefusedError(answer.error, final=not answer.retry)
    busy = StateError("bulk-busy", "this centre is not ready; ask again later")
    return _RefusedError(busy, final=False)


def _refusal(error: P2pfedError | OSError) -> Refused:
    if isinstance(error, P2pfedError):
        return Refused(error.code, error.what, isinstance(error, InputError))
    return Refused("disk-error", error.strerror or "the disk refused", final=False)


async def _send_chunks(wire: Wire, folder: Path, manifest: Manifest, from_chunk: int) -> None:
    members = Members(folder / FILES)
    skip = from_chunk
    for member in manifest.members:
        if skip >= member.chunk_count:
            skip -= member.chunk_count
            continue
        with opened(members.open_read(member.path)) as descriptor:
            for index in range(skip, member.chunk_count):
                await wire.send_bytes(
                    await trio.to_thread.run_sync(_read_chunk, descriptor, member, index)
                )
        skip = 0


def _read_chunk(descriptor: int, member: Member, index: int) -> bytes:
    size = member.chunk_bytes(index)
    data = read_all(descriptor, size, index * CHUNK_BYTES)
    if len(data) != size:
        raise StateError("archive-damaged", f"{member.path!r} is shorter than its manifest says")
    return data
