"""Two or more centres on the loopback interface: real sockets, real TLS, real keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from p2pfed.core.ids import BlockId, CentreName, FeedKey, PublicKey
from p2pfed.node.events import Event, LinkBytes
from p2pfed.shell.connections import Acceptor, Handler, Stream
from p2pfed.shell.links import Links
from p2pfed.shell.tls import Tls

ALPHA, BETA, GAMMA = CentreName("alpha"), CentreName("beta"), CentreName("gamma")
NAMES = (ALPHA, BETA, GAMMA)
DEADLINE_S = 20


def private_key(name: str) -> Ed25519PrivateKey:
    """The same key for the same name in every run."""
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def public_key(name: str) -> PublicKey:
    raw = private_key(name).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return PublicKey(raw)


def tls_of(name: str, knows: Sequence[str] = NAMES) -> Tls:
    return Tls(private_key(name), {CentreName(n): public_key(n) for n in knows if n != name})


async def refuse_transfers(centre: CentreName, stream: Stream) -> None:
    """For tests in which nobody opens a bulk connection."""
    raise AssertionError(f"{centre} opened a bulk connection")


@dataclass
class Peer:
    """A centre that listens; `events` is what its node would see."""

    name: CentreName
    tls: Tls
    links: Links
    acceptor: Acceptor
    events: trio.MemoryReceiveChannel[Event]
    stored: dict[FeedKey, list[bytes]] = field(default_factory=dict)
    address: str = ""

    async def event(self) -> Event:
        """The next event; fails the test if none comes."""
        with trio.fail_after(DEADLINE_S):
            return await self.events.receive()

    async def received(self, size: int) -> bytes:
        """The next `size` bytes that came on any link, events of other kinds not expected."""
        data = b""
        while len(data) < size:
            event = await self.event()
            assert isinstance(event, LinkBytes), event
            data += event.data
        return data


@asynccontextmanager
async def peer(
    name: CentreName,
    *,
    knows: Sequence[str] = NAMES,
    transfers: Handler | None = None,
    queue_bytes_max: int = 1 << 20,
    handshake_s: float = 10,
    handshakes_max: int = 128,
    events_max: int = 100,
) -> AsyncIterator[Peer]:
    sink, events = trio.open_memory_channel[Event](events_max)
    stored: dict[FeedKey, list[bytes]] = {}

    async def read_stored(
        feed: FeedKey, from_seq: int, to_seq: int, block_id: BlockId | None = None
    ) -> tuple[bytes, int]:
        return stored[feed][from_seq], from_seq + 1

    tls = tls_of(name, knows)
    links = Links(tls, sink, read_stored, queue_bytes_max=queue_bytes_max)
    acceptor = Acceptor(
        tls,
        links=links.handler,
        transfers=transfers or Handler(1, refuse_transfers),
        handshake_s=handshake_s,
        handshakes_max=handshakes_max,
    )
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    found = Peer(name, tls, links, acceptor, events, stored)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(acceptor.serve, listeners)
        await nursery.start(links.run)
        found.address = f"127.0.0.1:{port}"
        yield found
        nursery.cancel_scope.cancel()
