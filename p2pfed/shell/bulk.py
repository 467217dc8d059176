"""Bulk transfers of one daemon, both sides: performs the node's effects, reports its events."""

from __future__ import annotations

import trio

from p2pfed.node.effects import (
    AnswerTransfer,
    Effect,
    FetchPayload,
    FetchResult,
    ForgetClaim,
    NameHandover,
    SendPayload,
    SendResult,
)
from p2pfed.node.events import Event
from p2pfed.shell.bulk_client import BulkClient
from p2pfed.shell.bulk_server import BulkServer
from p2pfed.shell.tls import Tls
from p2pfed.store.spool import Spool


class Bulk:
    """What a daemon gives (`handler`, for its `Acceptor`) and what it fetches."""

    def __init__(self, tls: Tls, spool: Spool, events: trio.MemorySendChannel[Event]) -> None:
        self._server = BulkServer(spool, events)
        self._client = BulkClient(tls, spool, events)
        self.handler = self._server.handler

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carries the fetches until cancelled; effects are performed from `started` on."""
        await self._client.run(task_status=task_status)

    def perform(self, effect: Effect) -> None:
        """Performs a bulk effect and returns at once; `ForgetClaim` stops the claim's fetch."""
        match effect:
            case FetchPayload():
                self._client.fetch_payload(effect)
            case FetchResult():
                self._client.fetch_result(effect)
            case NameHandover():
                self._client.name_handover(effect)
            case ForgetClaim():
                self._client.forget(effect.claim_id)
            case AnswerTransfer() | SendPayload() | SendResult():
                self._server.answer(effect)
            case _:
                pass
