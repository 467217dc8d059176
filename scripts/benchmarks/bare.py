"""The baseline of a block's way: the library and system calls that no daemon can save, alone.

One process plays the author, one for each other centre a reader, joined by TLS 1.3 over loopback
TCP with blocking sockets. For each block the author signs, commits to its own SQLite file (one
sync) and replaces its high-water file (two syncs); then it sends the block to every reader. A
reader verifies the signature, hashes header and records, reads and writes both as CBOR, commits
(one sync), and answers with the time. No state is kept and nothing is decided.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
import sqlite3
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.cose import cut
from p2pfed.core.ids import CentreName, PublicKey
from p2pfed.shell.tls import LINK_PROTOCOL, Tls

_FORK: Final = multiprocessing.get_context("fork")
_AUTHOR, _READER = CentreName("author"), CentreName("reader")


@dataclass(frozen=True, slots=True)
class BareRun:
    """What the bare calls took.

    Attributes:
        ways_ms: for each block and reader, from the beginning until the reader's commit was done.
        author_cpu_s: of the author, for one block sent to all.
        reader_cpu_s: of one reader, for one block.
    """

    ways_ms: list[float]
    author_cpu_s: float
    reader_cpu_s: float


def run_bare(block: bytes, readers: int, times: int, pause_s: float) -> BareRun:
    """Sends `block` `times` times to `readers` processes, with a pause after each."""
    keys = {name: Ed25519PrivateKey.generate() for name in (_AUTHOR, _READER)}
    pins = {name: PublicKey(key.public_key().public_bytes_raw()) for name, key in keys.items()}
    with tempfile.TemporaryDirectory(prefix="p2pfed-bench-") as folder, ExitStack() as stack:
        root = Path(folder)
        links, ends = [], []
        for number in range(readers):
            listener = socket.create_server(("127.0.0.1", 0))
            mine, theirs = _FORK.Pipe(duplex=False)
            server = Tls(keys[_READER], pins).server
            process = _FORK.Process(
                target=_read, args=(listener, server, keys[_AUTHOR], block, root, number, theirs)
            )
            process.start()
            stack.callback(process.join)
            address = listener.getsockname()
            listener.close()
            client = Tls(keys[_AUTHOR], pins).client(LINK_PROTOCOL)
            plain = socket.create_connection(address)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            links.append(stack.enter_context(client.wrap_socket(plain)))
            ends.append(mine)
        ways_ms, cpu_s = _write(links, keys[_AUTHOR], block, root, times, pause_s)
        for link in links:
            link.close()
        reader_cpu_s = sum(end.recv() for end in ends) / (readers * times)
    return BareRun(ways_ms, cpu_s / times, reader_cpu_s)


def _write(
    links: list[ssl.SSLSocket],
    key: Ed25519PrivateKey,
    block: bytes,
    root: Path,
    times: int,
    pause_s: float,
) -> tuple[list[float], float]:
    ways_ms: list[float] = []
    cpu_s = 0.0
    with _ledger(root / "author.sqlite") as ledger:
        for _ in range(times):
            start_ns, start_cpu_s = time.time_ns(), time.process_time()
            key.sign(block)
            _commit(ledger, block)
            _replace(root / "highwater", b"x" * 150)
            for link in links:
                link.sendall(block)
            for link in links:
                done_ns = int.from_bytes(_exactly(link, 8), "big")
                ways_ms.append((done_ns - start_ns) / 1e6)
            cpu_s += time.process_time() - start_cpu_s
            time.sleep(pause_s)
    return ways_ms, cpu_s


def _read(
    listener: socket.socket,
    context: ssl.SSLContext,
    author: Ed25519PrivateKey,
    block: bytes,
    root: Path,
    number: int,
    report: Connection,
) -> None:
    plain, _ = listener.accept()
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    public, signature = author.public_key(), author.sign(block)
    with (
        context.wrap_socket(plain, server_side=True) as link,
        _ledger(root / f"{number}.sqlite") as ledger,
    ):
        start_s = time.process_time()
        while data := _exactly(link, len(block)):
            public.verify(signature, data)
            message, records = cbor2.loads(data)
            _, header, _ = cut(message)
            for part in (header, records):
                hashlib.sha256(part).digest()
                cbor2.dumps(cbor2.loads(part))
            _commit(ledger, data)
            link.sendall(time.time_ns().to_bytes(8, "big"))
        report.send(time.process_time() - start_s)


@contextmanager
def _ledger(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE blocks (admission INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    try:
        yield connection
    finally:
        connection.close()


def _commit(ledger: sqlite3.Connection, data: bytes) -> None:
    ledger.execute("INSERT INTO blocks (data) VALUES (?)", (data,))


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _exactly(link: ssl.SSLSocket, size: int) -> bytes:
    """`size` bytes, or none if the other end has closed."""
    found = b""
    while len(found) < size:
        piece = link.recv(size - len(found))
        if not piece:
            return b""
        found += piece
    return found
