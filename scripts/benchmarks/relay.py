"""A relay in front of a daemon that counts what passes: bytes on the wire, TLS included."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_PIECE_BYTES = 1 << 16


class Relay:
    """Forwards connections from a port of its own to `target`, both on the loopback interface.

    Attributes:
        port: where it listens.
        connections: all that were ever forwarded, open or not.
    """

    def __init__(self, target: int) -> None:
        """Listens at once; the target need not."""
        self.connections: list[Connection] = []
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                outer, _ = self._listener.accept()
                try:
                    inner = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    outer.close()
                    continue
                self.connections.append(Connection(outer, inner))

    def close(self) -> None:
        """Takes no more connections; those that are open live on."""
        self._listener.close()


class Connection:
    """One forwarded connection.

    Attributes:
        bytes_in: towards the daemon that the relay stands before.
        bytes_out: from it.
    """

    def __init__(self, outer: socket.socket, inner: socket.socket) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        for sock in (outer, inner):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink, inwards in ((outer, inner, True), (inner, outer, False)):
            threading.Thread(target=self._pump, args=(source, sink, inwards), daemon=True).start()

    @property
    def bytes_both(self) -> int:
        """In both directions."""
        return self.bytes_in + self.bytes_out

    def _pump(self, source: socket.socket, sink: socket.socket, inwards: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                sink.sendall(piece)
                if inwards:
                    self.bytes_in += len(piece)
                else:
                    self.bytes_out += len(piece)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
