"""Authenticated connections, made and taken: what gossip links and bulk transfers stand on.

A connection counts only when both ends have proved their keys *and* the accepting end has said so:
in TLS 1.3 the connecting end is done before the other has looked at its certificate. So the
acceptor sends one byte, `WELCOME` or `NO_ROOM`, after it has judged; only then is the connection
handed on. Which of the two protocols is spoken is agreed in the handshake (ALPN, RFC 7301).

Strangers cost little. A handshake has `HANDSHAKE_S`; there are at most `HANDSHAKES_MAX` at a time,
and when one more comes the *oldest* is dropped. Somebody who opens connections and stays silent
would have to fill all places within the few milliseconds that an honest handshake takes.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError, P2pfedError, StateError
from p2pfed.shell.schema import split_address
from p2pfed.shell.tls import BULK_PROTOCOL, LINK_PROTOCOL, Tls

log = logging.getLogger("p2pfed.connections")

HANDSHAKES_MAX: Final = 128
"""Accepted connections whose peer has not proved who it is."""
HANDSHAKE_S: Final = 10.0
"""Time for TLS and the welcome, on both ends."""
DIAL_S: Final = 10.0
"""Time to establish a TCP connection, over all addresses of the name."""
CLOSE_S: Final = 5.0
"""Time that the other end has for an orderly close."""
BACKLOG: Final = 256
"""Connections that the system holds ready for us to accept."""
SILENT_PEER_MS: Final = 30_000
"""Sent data that nobody acknowledges for so long ends the connection (TCP_USER_TIMEOUT)."""

WELCOME: Final = b"\x01"
NO_ROOM: Final = b"\x00"

Stream = trio.SSLStream[trio.SocketStream]
TRANSPORT_ERRORS: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What a stream raises when the other end or the network is gone."""


class Handler:
    """What becomes of an accepted connection of one protocol."""

    def __init__(
        self, per_centre_max: int, serve: Callable[[CentreName, Stream], Awaitable[None]]
    ) -> None:
        """`serve` runs until the connection is over; a centre has `per_centre_max` at a time."""
        self.per_centre_max = per_centre_max
        self.serve = serve
        self.open: dict[CentreName, int] = {}


class Acceptor:
    """Takes connections from peers and hands the authenticated ones to their protocol."""

    def __init__(
        self,
        tls: Tls,
        *,
        links: Handler,
        transfers: Handler,
        handshake_s: float = HANDSHAKE_S,
        handshakes_max: int = HANDSHAKES_MAX,
    ) -> None:
        self._tls = tls
        self._handlers = {LINK_PROTOCOL: links, BULK_PROTOCOL: transfers}
        self._handshake_s = handshake_s
        self._handshakes_max = handshakes_max
        self._handshakes: dict[trio.CancelScope, None] = {}

    @property
    def handshakes(self) -> int:
        """How many connections are being judged now."""
        return len(self._handshakes)

    async def run(
        self,
        address: str,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listens on `address` until cancelled; reports the port when it listens.

        Raises:
            InputError: `config-address`, `listen-address` (not an address of this machine).
            StateError: `listen-in-use`, `listen-denied`.
        """
        await self.serve(await open_listeners(address), task_status=task_status)

    async def serve(
        self,
        listeners: list[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Takes connections from open listeners until cancelled."""
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._accepted, listeners)

    async def _accepted(self, transport: trio.SocketStream) -> None:
        remote = _name_of(transport)
        stream: Stream = trio.SSLStream(transport, self._tls.server, server_side=True)
        try:
            _set_options(transport)
            centre, handler = await self._judge(stream)
        except (P2pfedError, *TRANSPORT_ERRORS) as error:
            log.info("refused a connection from %s: %s", remote, _reason(error))
            await trio.aclose_forcefully(stream)
            return
        try:
            await handler.serve(centre, stream)
        finally:
            handler.open[centre] -= 1
            await trio.aclose_forcefully(stream)

    async def _judge(self, stream: Stream) -> tuple[CentreName, Handler]:
        """The peer and its protocol, counted and welcomed."""
        if len(self._handshakes) >= self._handshakes_max:
            oldest = next(iter(self._handshakes))
            oldest.cancel()
            del self._handshakes[oldest]
        with trio.move_on_after(self._handshake_s) as scope:
            self._handshakes[scope] = None
            try:
                await stream.do_handshake()
                centre = self._tls.peer_centre(stream)
                handler = self._handlers.get(stream.selected_alpn_protocol() or "")
                if handler is None:
                    raise InputError("peer-protocol", f"{centre} speaks no protocol that we know")
                used = handler.open.get(centre, 0)
                if used >= handler.per_centre_max:
                    await stream.send_all(NO_ROOM)
                    await stream.aclose()
                    raise StateError(
                        "peer-no-room", f"{centre} has {used} connections of this kind already"
                    )
                await stream.send_all(WELCOME)
                handler.open[centre] = handler.open.get(centre, 0) + 1
                return centre, handler
            finally:
                self._handshakes.pop(scope, None)
        raise StateError("peer-too-slow", "it did not prove who it is in time")


async def open_listeners(address: str) -> list[trio.SocketListener]:
    """Listening sockets for `host:port`, one per address of the host.

    Raises:
        InputError: `config-address`, `listen-address`.
        StateError: `listen-in-use`, `listen-denied`.
    """
    host, port = split_address(address)
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StateError(
                "listen-in-use",
                f"another program listens on {address} already",
                where="listen",
                remedy="stop it (is a daemon running?), or choose another port in centre.toml",
            ) from error
        if error.errno == errno.EACCES:
            raise StateError(
                "listen-denied",
                f"this account may not listen on {address}",
                where="listen",
                remedy="choose a port from 1024 on",
            ) from error
        raise InputError(
            "listen-address",
            f"can't listen on {address}: {error.strerror or error}",
            where="listen",
            remedy="use an address of this machine",
        ) from error


async def connect(tls: Tls, protocol: str, centre: CentreName, address: str) -> Stream:
    """A connection to `centre` that it has welcomed.

    Raises:
        InputError: `config-address`; `peer-key-wrong` (who answers at the address holds no key of
            the federation), `peer-wrong-centre` (it holds another centre's).
        StateError: `peer-unreachable`, `peer-refused`, `peer-no-room`: may succeed later.
    """
    host, port = split_address(address)
    try:
        with trio.fail_after(DIAL_S):
            transport = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError) as error:
        raise _unreachable(centre, address, error) from error
    stream: Stream = trio.SSLStream(
        transport, tls.client(protocol), server_hostname=tls.server_name(centre)
    )
    try:
        _set_options(transport)
        with trio.fail_after(HANDSHAKE_S):
            await _introduce(stream, tls, protocol, centre, address)
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, (trio.TooSlowError, *TRANSPORT_ERRORS)):
            raise _unreachable(centre, address, error) from error
        raise
    return stream


async def _introduce(
    stream: Stream, tls: Tls, protocol: str, centre: CentreName, address: str
) -> None:
    try:
        await stream.do_handshake()
        found = tls.peer_centre(stream)
    except (trio.BrokenResourceError, InputError) as error:
        if isinstance(error.__cause__, ssl.SSLCertVerificationError) or isinstance(
            error, InputError
        ):
            raise InputError(
                "peer-key-wrong",
                f"who answers at {address} holds no key of this federation",
                where=centre,
                remedy="check the address; if it is right, compare key fingerprints",
            ) from error
        raise
    if found != centre:
        raise InputError(
            "peer-wrong-centre",
            f"{found} answers at {address}",
            where=centre,
            remedy="correct the address of one of the two",
        )
    with suppress(*TRANSPORT_ERRORS):
        answer = await stream.receive_some(1)
        if answer == WELCOME and stream.selected_alpn_protocol() == protocol:
            return
        if answer == NO_ROOM:
            raise StateError("peer-no-room", "it has no room for another connection", where=centre)
    raise StateError(
        "peer-refused",
        "it closed the connection after our introduction",
        where=centre,
        remedy="its log says why; most likely it does not know our key",
    )


def _unreachable(centre: CentreName, address: str, error: BaseException) -> StateError:
    return StateError(
        "peer-unreachable", f"no connection to {address}: {_reason(error)}", where=centre
    )


def _reason(error: BaseException) -> str:
    """What happened, in a line; the cause if the error itself says nothing."""
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    return text or (_reason(error.__cause__) if error.__cause__ else type(error).__name__)


def _set_options(transport: trio.SocketStream) -> None:
    # The peer may be gone already, and then the next read says so.
    with suppress(OSError):
        transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_PEER_MS)
        transport.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _name_of(transport: trio.SocketStream) -> str:
    try:
        host, port = transport.socket.getpeername()[:2]
    except OSError:
        return "somebody who left"
    return f"{host}:{port}"
