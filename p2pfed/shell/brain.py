"""The loop at the heart of the daemon: events in, `Node.handle`, effects out, in order.

Everything that happens in the daemon arrives here as an event. Whatever is waiting when the loop
comes round is handled in one call, so the busier the daemon, the more records share one block and
one sync. Effects are performed strictly in order. `StoreBlocks` is a synced transaction in a worker
thread, followed by the high-water file when an own block is in it; everything after it waits, and
that is the whole of the durability rule. All other effects only hand something to a task that does
the waiting.

A disk that refuses a write stops the loop, not the daemon: the write is tried again until it
succeeds, nothing later is performed, and whoever asks for something is told why. The control API
goes on answering questions.

The wall clock is read here and nowhere else in the daemon's core. When it moves against the
monotonic clock by more than a fraction of ε between two looks, somebody set it; the node is told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, assert_never

import trio

from p2pfed.core.ids import Head
from p2pfed.errors import StorageError
from p2pfed.node.effects import (
    AnswerTransfer,
    CancelNative,
    CheckpointCosigned,
    CloseLink,
    Dial,
    Effect,
    FetchPayload,
    FetchResult,
    ForgetClaim,
    ForgetPayload,
    ForgetResult,
    FreeSibling,
    HistoryConfirmed,
    KeepSnapshot,
    NameHandover,
    Note,
    Reply,
    SecureSibling,
    Send,
    SendCheckpoint,
    SendNamed,
    SendPayload,
    SendResult,
    SendStored,
    StoreBlocks,
    SubmitNative,
    TrustKeys,
    WatchNative,
)
from p2pfed.node.events import ClockStepped, Event, RequestId, Tick
from p2pfed.node.node import Node
from p2pfed.node.recovery import ROWS, Memory
from p2pfed.shell.links import Links
from p2pfed.store.database import Database
from p2pfed.store.files import write_durable
from p2pfed.store.highwater import HighWater

log = logging.getLogger("p2pfed.brain")

EVENTS_WAITING_MAX: Final = 1024
"""Events that may wait; whoever brings more waits until the loop comes round."""
EVENTS_AT_ONCE_MAX: Final = 512
"""Events handled in one call of the node."""
RETRY_S: Final = 1.0
"""How long a refused write rests before it is tried again."""
PATIENCE_S: Final = 30.0
"""How long a request waits for its reply while the disk refuses writes."""


class Hand(Protocol):
    """Somebody who performs one family of effects; returns at once and does the waiting itself."""

    def perform(self, effect: Effect) -> None:
        """Begins to do what the effect says."""


def wall_ms() -> int:
    """Milliseconds since 1970-01-01 UTC by this machine's clock."""
    return time.time_ns() // 1_000_000


class Brain:
    """Runs one node.

    Args:
        node: replayed, not yet started.
        database: the open store.
        snapshot: the file that a snapshot is kept in.
        base: the file with the checkpoint that the ledger began with, if it did.
        highwater: where own heads are marked.
        watcher: is told of every batch of effects after they were performed, for the live feed.
        tidy: called once, in a worker thread, when the node's ledger is complete and before
            `ready`; nothing else is handled meanwhile.
    """

    def __init__(
        self,
        node: Node,
        database: Database,
        highwater: HighWater,
        snapshot: Path,
        base: Path,
        watcher: Callable[[list[Event], list[Effect]], None],
        *,
        tidy: Callable[[], None],
    ) -> None:
        self.node = node
        self.events, self._inbox = trio.open_memory_channel[Event](EVENTS_WAITING_MAX)
        self.storage_error: StorageError | None = None
        self.started_ms = wall_ms()
        self.ready = trio.Event()
        self._database = database
        self._highwater = highwater
        self._snapshot = snapshot
        self._base = base
        self._watcher = watcher
        self._tidy = tidy
        self._links: Links | None = None
        self._bulk: Hand | None = None
        self._natives: Hand | None = None
        self._exports: Hand | None = None
        self._archive: Callable[[CheckpointCosigned], None] | None = None
        self._requests: dict[RequestId, trio.Event] = {}
        self._replies: dict[RequestId, Reply] = {}
        self._request_number = 0
        self._drift_ms = self._drift()

    def connect(
        self,
        links: Links,
        bulk: Hand,
        natives: Hand,
        archive: Callable[[CheckpointCosigned], None],
        exports: Hand | None = None,
    ) -> None:
        """Gives the brain its hands; called once, before `run`. Few centres export local jobs."""
        self._links, self._bulk, self._natives, self._exports = links, bulk, natives, exports
        self._archive = archive

    # Asking

    async def ask(self, make: Callable[[RequestId], Event]) -> str:
        """Hands an event that has a reply to the node; returns the result when it is durable.

        Raises:
            P2pfedError: what the node answered.
            StorageError: the disk refuses writes; the request may still take effect later.
        """
        if self.storage_error is not None:
            raise self.storage_error
        self._request_number += 1
        request = RequestId(self._request_number)
        done = self._requests[request] = trio.Event()
        try:
            await self.events.send(make(request))
            while not done.is_set():
                with trio.move_on_after(PATIENCE_S):
                    await done.wait()
                if not done.is_set() and self.storage_error is not None:
                    raise self.storage_error
            reply = self._replies.pop(request)
        finally:
            del self._requests[request]
        if reply.error is not None:
            raise reply.error
        return reply.result

    # The loop

    async def run(self, memory: Memory, target: Head | None) -> None:
        """Starts the node and runs it until cancelled."""
        rows = dict(self._database.local_items(ROWS))
        effects = self.node.start(memory, target, wall_ms(), rows)
        await self._perform(effects)
        self._watcher([], effects)
        while True:
            if self.node.recovery.ready and not self.ready.is_set():
                await self._become_ready()
            events = await self._gather()
            effects = self.node.handle(events, wall_ms())
            await self._perform(effects)
            self._watcher(events, effects)

    async def _become_ready(self) -> None:
        try:
            await trio.to_thread.run_sync(self._tidy)
        except (StorageError, OSError) as error:
            log.warning("can't tidy up: %s", error)
        self.ready.set()

    async def finish(self) -> None:
        """Handles what is waiting and takes leave of the peers; call it when `run` has ended."""
        while events := self._waiting():
            await self._perform(self.node.handle(events, wall_ms()))
        await self._perform(self.node.gossip.shut_down(wall_ms()))

    async def _gather(self) -> list[Event]:
        """Waits until something happens or the node wants a tick; takes all that is there."""
        wait_ms = self.node.wake_ms() - wall_ms()
        first: Event | None = None
        if wait_ms > 0:
            with trio.move_on_after(wait_ms / 1000):
                first = await self._inbox.receive()
        else:
            await trio.lowlevel.checkpoint()
        events = ([] if first is None else [first]) + self._waiting()
        stepped_ms = self._step()
        if stepped_ms:
            events.insert(0, ClockStepped(by_ms=stepped_ms))
        if self.node.wake_ms() <= wall_ms():
            events.append(Tick())
        return events

    def _waiting(self) -> list[Event]:
        events: list[Event] = []
        while len(events) < EVENTS_AT_ONCE_MAX:
            try:
                events.append(self._inbox.receive_nowait())
            except trio.WouldBlock:
                break
        return events

    def _drift(self) -> int:
        return wall_ms() - time.monotonic_ns() // 1_000_000

    def _step(self) -> int:
        """By how much the wall clock was moved since the last look; 0 if it was not."""
        drift_ms = self._drift()
        by_ms = drift_ms - self._drift_ms
        self._drift_ms = drift_ms
        limit_ms = max(50, self.node.ledger.rules.clock_error_ms // 4)
        return by_ms if abs(by_ms) > limit_ms else 0

    # Effects

    async def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, StoreBlocks):
                await self._store(effect)
            elif isinstance(effect, KeepSnapshot):
                await self._keep(effect)
            else:
                self._perform_one(effect)

    async def _store(self, effect: StoreBlocks) -> None:
        done: list[str] = []
        while True:
            try:
                await trio.to_thread.run_sync(self._write, effect, done)
            except StorageError as error:
                if self.storage_error is None:
                    log.error("%s", error)
                self.storage_error = error
                await trio.sleep(RETRY_S)
            else:
                if self.storage_error is not None:
                    log.info("the disk takes writes again")
                self.storage_error = None
                return

    async def _keep(self, effect: KeepSnapshot) -> None:
        try:
            await trio.to_thread.run_sync(write_durable, self._snapshot, effect.data)
        except StorageError as error:
            log.warning("no snapshot was kept, the next start takes longer: %s", error)

    def _write(self, effect: StoreBlocks, done: list[str]) -> None:
        """Runs in a worker thread; `done` names what need not be repeated after a failure."""
        if "blocks" not in done:
            self._database.append(effect.blocks, effect.local, history=effect.history)
            done.append("blocks")
        if effect.own_head is not None:
            self._highwater.write(*effect.own_head)

    def _perform_one(self, effect: Effect) -> None:
        assert self._links is not None
        assert self._bulk is not None
        assert self._natives is not None
        match effect:
            case Send():
                self._links.send(effect.link, effect.data)
            case SendStored():
                self._links.send_stored(effect.link, effect.feed, effect.from_seq, effect.to_seq)
            case SendNamed():
                self._links.send_named(effect.link, effect.feed, effect.seq_num, effect.block_id)
            case TrustKeys():
                self._links.trust(dict(effect.keys))
            case CloseLink():
                self._links.close(effect.link, effect.error)
            case Dial():
                self._links.dial(effect.centre, effect.address)
            case Reply():
                self._answer(effect)
            case (
                FetchPayload()
                | NameHandover()
                | AnswerTransfer()
                | SendPayload()
                | SendResult()
                | SendCheckpoint()
                | FetchResult()
            ):
                self._bulk.perform(effect)
            case ForgetClaim():
                self._bulk.perform(effect)
                self._natives.perform(effect)
            case SecureSibling() | FreeSibling():
                if self._exports is not None:
                    self._exports.perform(effect)
            case HistoryConfirmed():
                self._base.unlink(missing_ok=True)
            case CheckpointCosigned():
                assert self._archive is not None
                self._archive(effect)
            case SubmitNative() | WatchNative() | CancelNative() | ForgetPayload() | ForgetResult():
                self._natives.perform(effect)
            case Note():
                fields = "".join(f" {key}={value}" for key, value in effect.fields)
                log.log(effect.level, "%s%s [%s]", effect.text, fields, effect.code)
            case StoreBlocks() | KeepSnapshot():
                raise AssertionError("performed in their turn")
            case _:
                assert_never(effect)

    def _answer(self, reply: Reply) -> None:
        done = self._requests.get(reply.request)
        if done is not None:
            self._replies[reply.request] = reply
            done.set()
