"""The only way between the namespaces: relays that lose, delay and hold back what they carry.

A relay carries TCP connections, so it can't drop a packet of theirs. What a program sees of a lost
packet is what the relay does: the piece and all behind it come one retransmission timeout later,
twice that if it is lost again (RFC 6298). Where a way is cut, nothing passes in that direction and
nobody is told; what was on its way passes when the way is whole again. A link that died silently
swallows everything for good and stays open.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Queue
from typing import Final

import trio

from scripts.networks.spaces import Space

PORT: Final = 7000
"""The relay to centre N listens on this port plus N; so does the daemon of centre N."""
PIECE_BYTES: Final = 1448
"""The payload of a TCP packet on Ethernet."""
PIECES_WAITING: Final = 256
RTO_S: Final = 0.2
RTO_MAX_S: Final = 5.0
_LOOK_S: Final = 0.05
_LOST: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(frozen=True, slots=True)
class Weather:
    """What befalls each piece: `loss` of 100 are lost, all take `delay_ms` ± `jitter_ms`."""

    loss: int = 0
    delay_ms: int = 0
    jitter_ms: int = 0


@dataclass(slots=True)
class _Connection:
    dead: bool = False


class Hub:
    """All relays, in a thread of their own.

    Attributes:
        weather: on all ways.
        cut: directed ways, as (from, to), that nothing passes.
    """

    def __init__(self, spaces: Mapping[str, Space], seed: int) -> None:
        """Listens when it returns."""
        self.weather = Weather()
        self.cut: frozenset[tuple[str, str]] = frozenset()
        self._spaces = spaces
        self._rng = random.Random(seed)
        self._connections: list[_Connection] = []
        self._started: Queue[trio.lowlevel.TrioToken] = Queue()
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)
        self._thread.start()
        self._token = self._started.get(timeout=30)

    def close(self) -> None:
        """Ends all connections."""
        trio.from_thread.run_sync(self._scope.cancel, trio_token=self._token)
        self._thread.join(30)

    def kill_silently(self) -> int:
        """All links that are open now carry nothing any more; returns how many."""
        alive = [connection for connection in self._connections if not connection.dead]
        for connection in alive:
            connection.dead = True
        return len(alive)

    async def _main(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                for here, space in self._spaces.items():
                    for there, other in self._spaces.items():
                        if here != there:
                            await nursery.start(self._listen, (here, space), (there, other))
                self._started.put(trio.lowlevel.current_trio_token())

    async def _listen(
        self,
        here: tuple[str, Space],
        there: tuple[str, Space],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        port = PORT + there[1].number
        way = here[0], there[0]

        async def carry(caller: trio.SocketStream) -> None:
            with suppress(*_LOST):
                await self._until_whole(way)
                called = await trio.open_tcp_stream(there[1].inside, port)
                await self._carry(caller, called, way)

        listeners = await trio.open_tcp_listeners(port, host=here[1].outside)
        task_status.started()
        await trio.serve_listeners(carry, listeners)

    async def _carry(
        self, caller: trio.SocketStream, called: trio.SocketStream, way: tuple[str, str]
    ) -> None:
        connection = _Connection()
        self._connections.append(connection)
        try:
            async with caller, called, trio.open_nursery() as nursery:
                scope = nursery.cancel_scope
                nursery.start_soon(self._pump, caller, called, way, connection, scope)
                nursery.start_soon(self._pump, called, caller, way[::-1], connection, scope)
        finally:
            self._connections.remove(connection)

    async def _pump(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        way: tuple[str, ...],
        connection: _Connection,
        scope: trio.CancelScope,
    ) -> None:
        into, out = trio.open_memory_channel[tuple[float, bytes]](PIECES_WAITING)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, source, into)
                async with out:
                    async for due_s, piece in out:
                        await trio.sleep_until(due_s)
                        await self._until_whole((way[0], way[1]))
                        if not connection.dead:
                            await sink.send_all(piece)
        except* _LOST:
            pass
        if connection.dead:
            await trio.sleep_forever()
        scope.cancel()

    async def _read(
        self, source: trio.SocketStream, into: trio.MemorySendChannel[tuple[float, bytes]]
    ) -> None:
        due_s = -math.inf
        async with into:
            while piece := await source.receive_some(PIECE_BYTES):
                due_s = max(due_s, trio.current_time() + self._delay_s())
                await into.send((due_s, piece))

    def _delay_s(self) -> float:
        weather, rng = self.weather, self._rng
        delay_s = (weather.delay_ms + rng.uniform(-1, 1) * weather.jitter_ms) / 1000
        timeout_s = RTO_S
        while rng.random() * 100 < weather.loss:
            delay_s += timeout_s
            timeout_s = min(2 * timeout_s, RTO_MAX_S)
        return max(0.0, delay_s)

    async def _until_whole(self, way: tuple[str, str]) -> None:
        while way in self.cut:  # noqa: ASYNC110 - another thread says what is cut
            await trio.sleep(_LOOK_S)
