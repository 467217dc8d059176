"""Links carry ordered bytes between centres that proved their keys, and nobody can stop them."""

from __future__ import annotations

import socket
import ssl
from contextlib import AsyncExitStack

import pytest
import trio

from p2pfed.core.ids import BlockId, FeedKey
from p2pfed.errors import InputError, P2pfedError, StateError
from p2pfed.node.events import DialFailed, LinkBytes, LinkDown, LinkId, LinkUp
from p2pfed.shell.connections import connect, open_listeners
from p2pfed.shell.links import LINKS_PER_CENTRE_MAX, stored_reader
from p2pfed.shell.tls import LINK_PROTOCOL, Tls
from tests.unit.shell.peers import (
    ALPHA,
    BETA,
    DEADLINE_S,
    GAMMA,
    Peer,
    peer,
    private_key,
    public_key,
    tls_of,
)

FEED = FeedKey(ALPHA, 0)


async def linked(a: Peer, b: Peer) -> tuple[LinkId, LinkId]:
    """`a` dials `b`; both ends' link ids."""
    a.links.dial(b.name, b.address)
    up_a, up_b = await a.event(), await b.event()
    assert isinstance(up_a, LinkUp) and up_a.outbound and up_a.centre == b.name
    assert isinstance(up_b, LinkUp) and not up_b.outbound and up_b.centre == a.name
    return up_a.link, up_b.link


async def tcp(a: Peer) -> trio.SocketStream:
    """A bare TCP connection to `a`."""
    host, port = a.address.split(":")
    return await trio.open_tcp_stream(host, int(port))


async def test_bytes_arrive_in_order_in_both_directions() -> None:
    async with peer(ALPHA) as a, peer(BETA) as b:
        to_b, to_a = await linked(a, b)
        for word in (b"one ", b"two ", b"three"):
            a.links.send(to_b, word)
        assert await b.received(13) == b"one two three"
        b.links.send(to_a, b"four")
        assert await a.received(4) == b"four"


async def test_stored_blocks_keep_their_place_between_other_bytes() -> None:
    async with peer(ALPHA) as a, peer(BETA) as b:
        to_b, _ = await linked(a, b)
        a.stored[FEED] = [b"0", b"1", b"2", b"3"]
        a.links.send(to_b, b"<")
        a.links.send_stored(to_b, FEED, 1, 3)
        a.links.send(to_b, b">")
        assert await b.received(5) == b"<123>"


async def test_a_large_range_streams_though_it_exceeds_the_queue_limit() -> None:
    async with peer(ALPHA, queue_bytes_max=1000) as a, peer(BETA) as b:
        to_b, _ = await linked(a, b)
        a.stored[FEED] = [bytes([i]) * 500_000 for i in range(8)]
        a.links.send_stored(to_b, FEED, 0, 7)
        data = await b.received(4_000_000)
        assert data == b"".join(a.stored[FEED])


async def test_a_peer_that_does_not_read_is_cut_and_nobody_waits_for_it() -> None:
    async with peer(ALPHA, queue_bytes_max=1 << 20) as a, peer(BETA) as b:
        a.links.dial(BETA, b.address)
        up = await a.event()
        assert isinstance(up, LinkUp)
        # b's events are not taken, so its links stop reading; the kernel's buffers fill up.
        for _ in range(400):
            a.links.send(up.link, bytes(1 << 16))
            await trio.lowlevel.checkpoint()
        assert await a.event() == LinkDown(link=up.link)
        a.links.send(up.link, b"to a link that is gone")


async def test_closing_sends_what_is_pending_first() -> None:
    async with peer(ALPHA) as a, peer(BETA) as b:
        to_b, to_a = await linked(a, b)
        a.links.send(to_b, b"bye")
        a.links.close(to_b, InputError("protocol-example", "it said nonsense"))
        a.links.send(to_b, b"never sent")
        assert await b.received(3) == b"bye"
        assert await b.event() == LinkDown(link=to_a)
        assert await a.event() == LinkDown(link=to_b)


async def test_close_all_ends_every_link() -> None:
    async with peer(ALPHA) as a, peer(BETA) as b, peer(GAMMA) as c:
        await linked(a, b)
        await linked(c, a)
        a.links.close_all()
        assert {type(await a.event()), type(await a.event())} == {LinkDown}


async def test_a_failing_disk_costs_the_link_only() -> None:
    async with peer(ALPHA) as a, peer(BETA) as b:

        async def broken(
            feed: FeedKey, from_seq: int, to_seq: int, block_id: BlockId | None = None
        ) -> tuple[bytes, int]:
            raise StateError("block-not-stored", "not here")

        a.links._read_stored = broken
        to_b, to_a = await linked(a, b)
        a.links.send_stored(to_b, FEED, 0, 1)
        assert await a.event() == LinkDown(link=to_b)
        assert await b.event() == LinkDown(link=to_a)
        await linked(b, a)


async def test_a_peer_that_vanishes_after_half_a_frame_is_a_link_down() -> None:
    async with peer(ALPHA) as a:
        stream = await connect(tls_of(BETA), LINK_PROTOCOL, ALPHA, a.address)
        up = await a.event()
        assert isinstance(up, LinkUp) and up.centre == BETA
        await stream.send_all(b"half a fra")
        await trio.aclose_forcefully(stream)
        assert await a.event() == LinkBytes(link=up.link, data=b"half a fra")
        assert await a.event() == LinkDown(link=up.link)


async def test_a_stranger_is_refused_before_it_is_seen_by_the_node() -> None:
    async with peer(ALPHA, knows=[BETA]) as a:
        stranger = Tls(private_key("mallory"), {ALPHA: public_key(ALPHA)})
        with pytest.raises(StateError) as caught:
            await connect(stranger, LINK_PROTOCOL, ALPHA, a.address)
        assert caught.value.code == "peer-refused"
        with pytest.raises(trio.WouldBlock):
            a.events.receive_nowait()


async def test_dialling_somebody_who_holds_no_known_key_fails() -> None:
    async with peer(ALPHA, knows=[BETA]) as a, peer(GAMMA) as c:
        a.links.dial(BETA, c.address)
        failed = await a.event()
        assert isinstance(failed, DialFailed) and "peer-key-wrong" in failed.why


async def test_dialling_one_centre_and_reaching_another_fails() -> None:
    async with peer(ALPHA) as a, peer(GAMMA) as c:
        a.links.dial(BETA, c.address)
        failed = await a.event()
        assert isinstance(failed, DialFailed) and "peer-wrong-centre" in failed.why
        assert "gamma" in failed.why


async def test_dialling_a_closed_port_or_a_nonsense_address_fails() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with peer(ALPHA) as a:
            a.links.dial(BETA, f"127.0.0.1:{port}")
            failed = await a.event()
            assert isinstance(failed, DialFailed) and "peer-unreachable" in failed.why
            a.links.dial(BETA, "nonsense")
            failed = await a.event()
            assert isinstance(failed, DialFailed) and "config-address" in failed.why


async def test_who_speaks_no_tls_is_dropped() -> None:
    async with peer(ALPHA) as a, await tcp(a) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        with trio.fail_after(DEADLINE_S):
            assert await stream.receive_some() == b""


async def test_who_speaks_an_unknown_protocol_is_dropped() -> None:
    async with peer(ALPHA) as a:
        context = tls_of(BETA).client(LINK_PROTOCOL)
        context.set_alpn_protocols(["h2"])
        async with await tcp(a) as transport:
            stream = trio.SSLStream(transport, context)
            with trio.fail_after(DEADLINE_S):
                await stream.do_handshake()
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()


async def test_tls_1_2_is_refused() -> None:
    async with peer(ALPHA) as a:
        context = tls_of(BETA).client(LINK_PROTOCOL)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with await tcp(a) as transport:
            stream = trio.SSLStream(transport, context)
            with trio.fail_after(DEADLINE_S), pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()


async def test_a_silent_connection_is_dropped_when_its_time_is_over() -> None:
    async with peer(ALPHA, handshake_s=0.05) as a, await tcp(a) as stream:
        with trio.fail_after(DEADLINE_S):
            assert await stream.receive_some() == b""


async def test_silent_connections_do_not_keep_an_honest_peer_out() -> None:
    async with peer(ALPHA, handshakes_max=4) as a, peer(BETA) as b, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(await tcp(a)) for _ in range(20)]
        await linked(b, a)
        assert a.acceptor.handshakes <= 4
        with trio.fail_after(DEADLINE_S):
            assert await silent[0].receive_some() == b"", "the oldest goes first"


async def test_a_member_has_a_bounded_number_of_links() -> None:
    async with peer(ALPHA) as a:
        beta = tls_of(BETA)
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(
                    await connect(beta, LINK_PROTOCOL, ALPHA, a.address)
                )
                for _ in range(LINKS_PER_CENTRE_MAX)
            ]
            with pytest.raises(StateError) as caught:
                await connect(beta, LINK_PROTOCOL, ALPHA, a.address)
            assert caught.value.code == "peer-no-room"
            for _ in streams:
                assert isinstance(await a.event(), LinkUp)
            await streams[0].aclose()
            assert isinstance(await a.event(), LinkDown)
            again = await connect(beta, LINK_PROTOCOL, ALPHA, a.address)
            await again.aclose()


LISTEN = {
    "an address of another machine": ("192.0.2.1:7300", "listen-address"),
    "a name that leads nowhere": ("no-such-host.invalid:7300", "listen-address"),
    "no port": ("127.0.0.1", "config-address"),
}


@pytest.mark.parametrize("case", LISTEN)
async def test_a_bad_listening_address_is_told_clearly(case: str) -> None:
    address, code = LISTEN[case]
    with pytest.raises(P2pfedError) as caught:
        await open_listeners(address)
    assert caught.value.code == code


async def test_a_port_in_use_is_told_clearly() -> None:
    async with peer(ALPHA) as a:
        with pytest.raises(StateError) as caught:
            await open_listeners(a.address)
        assert caught.value.code == "listen-in-use"


async def test_the_reader_of_stored_blocks_fills_a_frame_and_says_where_to_go_on() -> None:
    blocks = [b"x" * 600_000, b"y" * 600_000, b"z", b"huge" * 500_000]
    read = stored_reader(lambda feed, a, b, block_id: iter(blocks[a : b + 1]), b"|".join)
    assert await read(FEED, 0, 3) == (blocks[0], 1)
    assert await read(FEED, 1, 3) == (blocks[1] + b"|z", 3)
    assert await read(FEED, 3, 3) == (blocks[3], 4)
