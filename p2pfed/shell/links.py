"""Gossip links: ordered bytes to and from each peer, without ever waiting for a slow one.

The node's effects arrive here as plain calls that return at once. Each link has two tasks. One
receives and turns bytes into events; when the daemon is behind, it stops reading, and so does the
peer's kernel. The other takes from an ordered queue. A queue entry is bytes, or a range of stored
blocks, which is read from disk a batch at a time when the connection can take it: so a peer that
lacks a million blocks costs the memory of one batch. A peer that leaves more than `QUEUE_BYTES_MAX`
unread loses its connection, and with it nothing: it asks for what it lacks when it is back.

Every link that was announced (`LinkUp`) ends in exactly one `LinkDown`; every `dial` in `LinkUp` or
`DialFailed`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Final, Protocol

import trio

from p2pfed.core.ids import BlockId, CentreName, FeedKey, PublicKey
from p2pfed.core.limits import BLOCKS_PER_FRAME_BYTES
from p2pfed.errors import P2pfedError
from p2pfed.node.events import DialFailed, Event, LinkBytes, LinkDown, LinkId, LinkUp
from p2pfed.shell.connections import CLOSE_S, TRANSPORT_ERRORS, Handler, Stream, connect
from p2pfed.shell.tls import LINK_PROTOCOL, Tls

log = logging.getLogger("p2pfed.links")

QUEUE_BYTES_MAX: Final = 16 << 20
"""Bytes that wait to be sent on one link; more, and the link is cut."""
QUEUE_RANGES_MAX: Final = 4096
"""Ranges of stored blocks that wait on one link; more, and the link is cut."""
RECEIVE_BYTES: Final = 1 << 16
"""Bytes of one `LinkBytes` event at most."""
SEND_BYTES: Final = 1 << 18
"""Small entries of the queue are joined up to this size."""
LINKS_PER_CENTRE_MAX: Final = 4
"""Links that one centre may hold open towards us; the node keeps one of them."""


class StoredReader(Protocol):
    """Reads stored blocks in the form in which they are sent."""

    async def __call__(
        self, feed: FeedKey, from_seq: int, to_seq: int, block_id: BlockId | None = None
    ) -> tuple[bytes, int]:
        """Frames with the first blocks of the range, and the `seq_num` after the last of them.

        With a `block_id` the range is one place, and the block of that id is meant.
        """


def stored_reader(
    read_range: Callable[[FeedKey, int, int, BlockId | None], Iterator[bytes]],
    frame_blocks: Callable[[list[bytes]], bytes],
) -> StoredReader:
    """Reads and frames up to `BLOCKS_PER_FRAME_BYTES` at a time, in a worker thread.

    Args:
        read_range: the store's; yields the bytes of the blocks of a range in order.
        frame_blocks: the protocol's; one frame of these blocks.
    """

    def read(
        feed: FeedKey, from_seq: int, to_seq: int, block_id: BlockId | None = None
    ) -> tuple[bytes, int]:
        found: list[bytes] = []
        room = BLOCKS_PER_FRAME_BYTES
        blocks = read_range(feed, from_seq, to_seq, block_id)
        for data in islice(blocks, to_seq - from_seq + 1):
            room -= len(data)
            if room < 0 and found:
                break
            found.append(data)
        return frame_blocks(found), from_seq + len(found)

    async def in_thread(
        feed: FeedKey, from_seq: int, to_seq: int, block_id: BlockId | None = None
    ) -> tuple[bytes, int]:
        return await trio.to_thread.run_sync(read, feed, from_seq, to_seq, block_id)

    return in_thread


@dataclass(slots=True)
class _Range:
    feed: FeedKey
    next_seq: int
    to_seq: int
    block_id: BlockId | None = None


@dataclass(slots=True, eq=False)
class _Link:
    """One open link. Its queue is drained by `Links._send`; `wake` says that it has grown."""

    id: LinkId
    centre: CentreName
    stream: Stream
    queue: deque[bytes | _Range] = field(default_factory=deque)
    queued_bytes: int = 0
    queued_ranges: int = 0
    closing: bool = False
    wake: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Links:
    """All gossip links of a daemon."""

    def __init__(
        self,
        tls: Tls,
        events: trio.MemorySendChannel[Event],
        read_stored: StoredReader,
        *,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        """Events go to `events`, which may make the links wait.

        `handler` is what an `Acceptor` does with the links that peers open.
        """
        self.handler = Handler(LINKS_PER_CENTRE_MAX, self._serve_inbound)
        self._tls = tls
        self._events = events
        self._read_stored = read_stored
        self._queue_bytes_max = queue_bytes_max
        self._links: dict[LinkId, _Link] = {}
        self._numbers = count(1)
        self._one_less = trio.Event()
        self._dials: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carries the outbound links until cancelled; `dial` works from `started` on."""
        async with trio.open_nursery() as nursery:
            self._dials = nursery
            task_status.started()
            await trio.sleep_forever()

    async def wait_closed(self) -> None:
        """Returns when the last link is gone."""
        while self._links:
            self._one_less = trio.Event()
            await self._one_less.wait()

    # The node's effects

    def dial(self, centre: CentreName, address: str) -> None:
        """Tries once to connect; an event tells what came of it."""
        if self._dials is not None:
            self._dials.start_soon(self._dial, centre, address)

    def send(self, link: LinkId, data: bytes) -> None:
        """Queues bytes; nothing happens if the link is gone."""
        found = self._links.get(link)
        if found is not None and not found.closing and data:
            found.queue.append(data)
            found.queued_bytes += len(data)
            self._grown(found)

    def send_stored(self, link: LinkId, feed: FeedKey, from_seq: int, to_seq: int) -> None:
        """Queues the stored blocks `from_seq` to `to_seq`, both included."""
        found = self._links.get(link)
        if found is not None and not found.closing and from_seq <= to_seq:
            found.queue.append(_Range(feed, from_seq, to_seq))
            found.queued_ranges += 1
            self._grown(found)

    def send_named(self, link: LinkId, feed: FeedKey, seq_num: int, block_id: BlockId) -> None:
        """Queues one stored block, on whichever branch of its feed it stands."""
        found = self._links.get(link)
        if found is not None and not found.closing:
            found.queue.append(_Range(feed, seq_num, seq_num, block_id))
            found.queued_ranges += 1
            self._grown(found)

    def trust(self, keys: Mapping[CentreName, PublicKey]) -> None:
        """Recognises the other centres by these keys, from the next connection on."""
        self._tls.set_pins(keys)

    def close(self, link: LinkId, error: P2pfedError | None = None) -> None:
        """Closes the link after what is queued is sent; `error` is what the peer did wrong."""
        found = self._links.get(link)
        if found is None:
            return
        if error is not None:
            log.warning("closing the link to %s: %s", found.centre, error)
        found.closing = True
        found.scope.deadline = min(found.scope.deadline, trio.current_time() + CLOSE_S)
        found.wake.set()

    def close_all(self) -> None:
        """Closes every link in good order (at most `CLOSE_S`)."""
        for link in tuple(self._links):
            self.close(link)

    # Tasks

    def _grown(self, link: _Link) -> None:
        if link.queued_bytes > self._queue_bytes_max or link.queued_ranges > QUEUE_RANGES_MAX:
            log.warning(
                "cutting the link to %s: it leaves %d bytes and %d ranges unread",
                link.centre,
                link.queued_bytes,
                link.queued_ranges,
            )
            link.closing = True
            link.scope.cancel()
        link.wake.set()

    async def _dial(self, centre: CentreName, address: str) -> None:
        try:
            stream = await connect(self._tls, LINK_PROTOCOL, centre, address)
        except P2pfedError as error:
            await self._events.send(DialFailed(centre=centre, why=str(error)))
            return
        try:
            await self._serve(centre, stream, outbound=True)
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_inbound(self, centre: CentreName, stream: Stream) -> None:
        await self._serve(centre, stream, outbound=False)

    async def _serve(self, centre: CentreName, stream: Stream, *, outbound: bool) -> None:
        link = _Link(LinkId(next(self._numbers)), centre, stream)
        self._links[link.id] = link
        await self._events.send(LinkUp(link=link.id, centre=centre, outbound=outbound))
        with link.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive, link)
                nursery.start_soon(self._send, link)
        del self._links[link.id]
        self._one_less.set()
        await self._events.send(LinkDown(link=link.id))

    async def _receive(self, link: _Link) -> None:
        try:
            while data := await link.stream.receive_some(RECEIVE_BYTES):
                if not link.closing:
                    await self._events.send(LinkBytes(link=link.id, data=bytes(data)))
        except TRANSPORT_ERRORS as error:
            log.info("the link to %s broke: %s", link.centre, error.__cause__ or error)
        link.scope.cancel()

    async def _send(self, link: _Link) -> None:
        try:
            while True:
                while link.queue:
                    await link.stream.send_all(await self._next(link))
                if link.closing:
                    await link.stream.aclose()
                    break
                link.wake = trio.Event()
                await link.wake.wait()
        except TRANSPORT_ERRORS as error:
            log.info("the link to %s broke: %s", link.centre, error.__cause__ or error)
        except P2pfedError as error:
            log.error(
                "closing the link to %s: can't read what it asked for: %s", link.centre, error
            )
        link.scope.cancel()

    async def _next(self, link: _Link) -> bytes:
        """The next bytes to send, of at most `SEND_BYTES` or one entry."""
        entry = link.queue[0]
        if isinstance(entry, _Range):
            data, entry.next_seq = await self._read_stored(
                entry.feed, entry.next_seq, entry.to_seq, entry.block_id
            )
            if entry.next_seq > entry.to_seq:
                link.queue.popleft()
                link.queued_ranges -= 1
            return data
        parts: list[bytes] = []
        size = 0
        while link.queue and isinstance(entry := link.queue[0], bytes):
            if parts and size + len(entry) > SEND_BYTES:
                break
            parts.append(entry)
            size += len(entry)
            link.queue.popleft()
        link.queued_bytes -= size
        return b"".join(parts)
