"""The asking side of bulk connections: a host fetches payloads, a home fetches results.

A fetch is a plan that survives connections: it is tried again, with growing pauses, as long as it
makes progress at least every `EFFORT_S`; what came is kept in the spool's staging folder, checked
against the manifest, and not asked for again, not even after a restart. A lost connection is never
the end of it. It ends with everything durable in its place, or with a reason: final if the other
end says that asking again can't help or keeps sending what was not signed for.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar

import trio

from p2pfed.core.ids import BlockId, CentreName, ClaimId
from p2pfed.errors import InputError, P2pfedError, StateError
from p2pfed.node.effects import FetchPayload, FetchResult, NameHandover
from p2pfed.node.events import Event, PayloadFailed, PayloadFetched, ResultFailed, ResultFetched
from p2pfed.shell.archive import Sealed, load_archive
from p2pfed.shell.bulk_wire import (
    AskPayload,
    AskResult,
    Contents,
    Done,
    HandedOver,
    Named,
    RefusedError,
    Want,
    Wire,
    expected,
)
from p2pfed.shell.connections import TRANSPORT_ERRORS, Stream, connect
from p2pfed.shell.manifest import decode_manifest
from p2pfed.shell.receiver import Receiver
from p2pfed.shell.tls import BULK_PROTOCOL, Tls
from p2pfed.store.files import disk_errors, disk_full
from p2pfed.store.spool import Spool

log = logging.getLogger("p2pfed.bulk")
M = TypeVar("M")

FETCHES_PER_CENTRE_MAX: Final = 8
"""Connections that we keep open to one centre at a time; further fetches wait."""
EFFORT_S: Final = 120.0
"""A fetch that made no progress for so long is reported as failed, for now."""
ANSWER_S: Final = 75.0
"""Time that the other end has to answer a question that its node must decide."""
NAME_S: Final = 60.0
"""Time that the block with the Handover has to reach us before the connection is given back."""
RETRY_FIRST_S: Final = 0.25
RETRY_MAX_S: Final = 15.0
CORRUPT_MAX: Final = 3
"""Attempts in which the other end may send what was not signed for."""
CHECKPOINT: Final = "checkpoint"
"""Where a claim's folder in the host's spool holds what an earlier attempt saved."""
Kind = Literal["payload", "result", "checkpoint"]
DISK_RESERVE_BYTES: Final = 64 << 20
"""Room that a transfer leaves for the ledger."""


@dataclass(slots=True, eq=False)
class _Fetch:
    """One payload or result on its way: what it is, where it goes, how it stands."""

    claim_id: ClaimId
    centre: CentreName
    address: str
    digest: bytes
    total_bytes: int
    kind: Kind
    final: Path
    checkpoint: _Fetch | None = None
    named: trio.Event = field(default_factory=trio.Event)
    block_id: BlockId | None = None
    progress_at: float = field(default_factory=trio.current_time)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def is_payload(self) -> bool:
        return self.kind == "payload"

    @property
    def staging(self) -> str:
        return f"fetch-{self.kind}-{self.claim_id}"

    def fetched(self) -> Event:
        made = PayloadFetched if self.is_payload else ResultFetched
        return made(claim_id=self.claim_id)

    def failed(self, error: BaseException, *, final: bool) -> Event:
        made = PayloadFailed if self.is_payload else ResultFailed
        why = str(error) or type(error).__name__
        return made(claim_id=self.claim_id, why=why, final=final)


class BulkClient:
    """All fetches of a daemon."""

    def __init__(
        self,
        tls: Tls,
        spool: Spool,
        events: trio.MemorySendChannel[Event],
        *,
        effort_s: float = EFFORT_S,
        retry_first_s: float = RETRY_FIRST_S,
    ) -> None:
        self._tls = tls
        self._spool = spool
        self._events = events
        self._effort_s = effort_s
        self._retry_first_s = retry_first_s
        self._fetches: dict[tuple[ClaimId, bool], _Fetch] = {}
        self._places: dict[CentreName, trio.CapacityLimiter] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carries the fetches until cancelled; effects are performed from `started` on."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # The node's effects

    def fetch_payload(self, effect: FetchPayload) -> None:
        """Goes for a payload; one that is under way goes on."""
        saved, folder = effect.checkpoint, self._spool.claim(effect.claim_id)
        checkpoint = None
        if saved is not None:
            checkpoint = _Fetch(
                claim_id=saved.claim_id,
                centre=effect.home,
                address=effect.address,
                digest=saved.digest,
                total_bytes=saved.size,
                kind="checkpoint",
                final=folder / CHECKPOINT,
            )
        self._begin(
            _Fetch(
                claim_id=effect.claim_id,
                centre=effect.home,
                address=effect.address,
                digest=effect.payload_digest,
                total_bytes=effect.payload_bytes,
                kind="payload",
                final=folder,
                checkpoint=checkpoint,
            )
        )

    def fetch_result(self, effect: FetchResult) -> None:
        """Goes for a result; one that is under way goes on."""
        self._begin(
            _Fetch(
                claim_id=effect.claim_id,
                centre=effect.host,
                address=effect.address,
                digest=effect.result_digest,
                total_bytes=effect.result_bytes,
                kind="result",
                final=self._spool.result(effect.claim_id),
            )
        )

    def name_handover(self, effect: NameHandover) -> None:
        """Lets the waiting fetch tell its home that we know our lease."""
        fetch = self._fetches.get((effect.claim_id, True))
        if fetch is not None:
            fetch.block_id = effect.block_id
            fetch.named.set()

    def forget(self, claim_id: ClaimId) -> None:
        """Stops the fetch of a claim's payload, if there is one; nothing more is reported."""
        fetch = self._fetches.pop((claim_id, True), None)
        if fetch is not None:
            fetch.scope.cancel()

    # Tasks

    def _begin(self, fetch: _Fetch) -> None:
        key = (fetch.claim_id, fetch.is_payload)
        if key not in self._fetches and self._nursery is not None:
            self._fetches[key] = fetch
            self._nursery.start_soon(self._carry, fetch)

    async def _carry(self, fetch: _Fetch) -> None:
        outcome: Event | None = None
        with fetch.scope:
            outcome = await self._outcome(fetch)
            if fetch.checkpoint is not None and isinstance(outcome, PayloadFetched):
                outcome = await self._with_checkpoint(fetch, fetch.checkpoint, outcome)
        key = (fetch.claim_id, fetch.is_payload)
        if self._fetches.get(key) is fetch:
            del self._fetches[key]
        if outcome is not None:
            await self._events.send(outcome)

    async def _with_checkpoint(self, fetch: _Fetch, saved: _Fetch, outcome: Event) -> Event:
        """Fetches what an earlier attempt saved; a job whose home has lost it begins afresh."""
        saved.progress_at = trio.current_time()
        found = await self._outcome(saved)
        if isinstance(found, ResultFailed) and not found.final:
            return PayloadFailed(claim_id=fetch.claim_id, why=found.why, final=False)
        if isinstance(found, ResultFailed):
            log.warning("%s begins afresh: %s", fetch.claim_id, found.why)
        return outcome

    async def _outcome(self, fetch: _Fetch) -> Event:
        pause_s = self._retry_first_s
        corrupt = 0
        while True:
            before = fetch.progress_at
            try:
                if not await trio.to_thread.run_sync(self._is_there, fetch):
                    await self._attempt(fetch)
                return fetch.fetched()
            except RefusedError as error:
                failure: Exception = error
                if error.final:
                    return fetch.failed(error, final=True)
            except InputError as error:
                failure = error
                corrupt += 1
                if corrupt >= CORRUPT_MAX:
                    return fetch.failed(error, final=True)
            except (P2pfedError, *TRANSPORT_ERRORS) as error:
                failure = error
            if fetch.progress_at > before:
                pause_s = self._retry_first_s
            log.info("fetching from %s for %s: %s", fetch.centre, fetch.claim_id, failure)
            if trio.current_time() + pause_s > fetch.progress_at + self._effort_s:
                return fetch.failed(failure, final=False)
            await trio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads retries
            pause_s = min(2 * pause_s, RETRY_MAX_S)

    def _is_there(self, fetch: _Fetch) -> bool:
        """Whether an earlier life of the daemon has finished this fetch."""
        with disk_errors(fetch.final):
            try:
                return load_archive(fetch.final).digest == fetch.digest
            except InputError:
                return False

    async def _attempt(self, fetch: _Fetch) -> None:
        places = self._places.setdefault(fetch.centre, trio.CapacityLimiter(FETCHES_PER_CENTRE_MAX))
        async with places:
            try:
                stream = await connect(self._tls, BULK_PROTOCOL, fetch.centre, fetch.address)
            except InputError as error:  # the address leads elsewhere: not what the peer sent
                raise StateError(error.code, error.what) from error
            try:
                await self._converse(fetch, stream)
            finally:
                await trio.aclose_forcefully(stream)

    async def _converse(self, fetch: _Fetch, stream: Stream) -> None:
        wire = Wire(stream)
        if fetch.is_payload:
            await wire.send(AskPayload(fetch.claim_id))
            expected(await wire.receive(within_s=ANSWER_S), HandedOver)
            with trio.move_on_after(NAME_S):
                await fetch.named.wait()
            if fetch.block_id is None:
                raise StateError("bulk-no-lease", "the Handover has not reached us yet")
            await wire.send(Named(fetch.block_id))
        else:
            await wire.send(AskResult(fetch.claim_id))
        contents = expected(await wire.receive(within_s=ANSWER_S), Contents)
        sealed = _checked(fetch, contents.manifest)
        receiver = await self._on_disk(fetch, self._receiver, fetch, sealed)
        await wire.send(Want(receiver.held_chunks))
        while size := receiver.next_bytes:
            data = await wire.receive_exactly(size)
            await self._on_disk(fetch, receiver.write, data)
            fetch.progress_at = trio.current_time()
        await self._on_disk(fetch, self._publish, fetch, receiver)
        try:
            await wire.send(Done())
            await stream.aclose()
        except TRANSPORT_ERRORS:
            log.debug("%s left before it heard that we have everything", fetch.centre)

    async def _on_disk(self, fetch: _Fetch, call: Callable[..., M], *arguments: object) -> M:
        """Runs `call` in a worker thread; raises `StorageError` for what the disk refuses."""

        def run() -> M:
            with disk_errors(fetch.final):
                return call(*arguments)

        return await trio.to_thread.run_sync(run)

    def _receiver(self, fetch: _Fetch, sealed: Sealed) -> Receiver:
        folder = self._spool.staging(fetch.staging)
        try:
            receiver = Receiver(folder, sealed)
            receiver.resume()
        except InputError:
            # What lies there is of another archive, or was meddled with: begin afresh.
            self._spool.remove(folder)
            receiver = Receiver(self._spool.staging(fetch.staging), sealed)
            receiver.resume()
        if self._spool.free_bytes() < receiver.missing_bytes + DISK_RESERVE_BYTES:
            raise disk_full(folder)
        return receiver

    def _publish(self, fetch: _Fetch, receiver: Receiver) -> None:
        folder = self._spool.staging(fetch.staging)
        receiver.complete()
        self._spool.publish(folder, fetch.final)


def _checked(fetch: _Fetch, data: bytes) -> Sealed:
    """The archive's list, if it is the one that was signed for.

    Raises:
        InputError: `bulk-digest`, `bulk-contents`, or as `decode_manifest`.
    """
    if hashlib.sha256(data).digest() != fetch.digest:
        raise InputError("bulk-digest", "the manifest is not the one that the ledger states")
    sealed = Sealed(decode_manifest(data), data)
    if sealed.manifest.total_bytes != fetch.total_bytes:
        raise InputError(
            "bulk-contents",
            f"the files have {sealed.manifest.total_bytes} bytes, "
            f"the ledger states {fetch.total_bytes}",
        )
    if (sealed.manifest.run is not None) != fetch.is_payload:
        raise InputError("bulk-contents", "a payload says what to run, a result does not")
    return sealed
