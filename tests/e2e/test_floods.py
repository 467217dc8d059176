"""Peers that are slow, silent, greedy or many: a daemon holds little for them and serves the rest.

Each attack goes on while a job goes from one honest centre to another and back. What the attacked
daemons hold in memory and in open files stays bounded, and when the attack is over they let go.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from p2pfed.core.codec import encode
from p2pfed.core.limits import FRAME_BYTES_MAX
from p2pfed.core.units import hlc, hlc_ms
from p2pfed.protocol.messages import Ping, encode_message
from p2pfed.shell.bulk_server import TRANSFERS_PER_CENTRE_MAX
from p2pfed.shell.bulk_wire import ASK_BYTES_MAX
from p2pfed.shell.connections import HANDSHAKES_MAX
from p2pfed.shell.links import LINKS_PER_CENTRE_MAX
from p2pfed.shell.tls import BULK_PROTOCOL, LINK_PROTOCOL
from tests.e2e.federation import Centre, Federation
from tests.e2e.rogue import Rogue, now
from tests.waiting import wait_until

HONEST = ("alpha", "beta")
ROGUES = ("rogue-a", "rogue-b")
LARGE = encode([{0: 99, 1: bytes(1_000_000)}])
"""Records that mean nothing and are valid all the same, about as large as they may be."""
MEMORY_KIB_MAX = 112 << 10
"""What an attacked daemon may grow by: the blocks that wait (64 MiB), messages that are on their
way, and what the allocator keeps of both."""
FILES_MAX = HANDSHAKES_MAX + len(ROGUES) * (LINKS_PER_CENTRE_MAX + TRANSFERS_PER_CENTRE_MAX) + 64


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    with Federation.found(*HONEST, *ROGUES, opened=("beta",)) as made:
        for name in HONEST:
            made[name].begin()
        for name in HONEST:
            made[name].until_linked(1)
            made[name].until_writing()
        made.until_offers(1)
        yield made
        for name in HONEST:
            assert made[name].starts == 1
            assert "Traceback" not in made[name].log


def memory_kib(centre: Centre) -> int:
    assert centre.process is not None
    status = Path(f"/proc/{centre.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def files(centre: Centre) -> int:
    assert centre.process is not None
    return len(list(Path(f"/proc/{centre.process.pid}/fd").iterdir()))


def at_rest(centre: Centre) -> bool:
    return files(centre) < 40


def plain(target: Centre) -> socket.socket:
    return socket.create_connection(("127.0.0.1", target.port), timeout=30)


def send(sock: socket.socket, data: bytes) -> None:
    """Sends; the daemon may have hung up."""
    with suppress(OSError):
        sock.sendall(data)


# Strangers


def silence(made: Federation, target: Centre, held: ExitStack) -> None:
    """Hundreds of connections that say nothing."""
    for _ in range(3 * HANDSHAKES_MAX):
        held.enter_context(plain(target))


def half_a_greeting(made: Federation, target: Centre, held: ExitStack) -> None:
    """Connections that begin a TLS record of 16 KiB, and send one byte of it."""
    for _ in range(3 * HANDSHAKES_MAX):
        send(held.enter_context(plain(target)), b"\x16\x03\x01\x40\x00\x01")


def other_protocols(made: Federation, target: Centre, held: ExitStack) -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", bytes(1 << 16), b"\xff" * (1 << 20)):
        for _ in range(20):
            send(held.enter_context(plain(target)), data)


# Members


def welcomed(
    made: Federation, target: Centre, held: ExitStack, count: int, protocol: str = LINK_PROTOCOL
) -> list[Rogue]:
    """As many connections of the members as they can have; more are turned away."""
    found = []
    for name in ROGUES:
        for _ in range(count + 5):
            with suppress(OSError):
                peer = held.enter_context(Rogue(made[name], target, protocol=protocol))
                if peer.welcomed():
                    found.append(peer)
    assert len(found) <= len(ROGUES) * count
    return found


def links_that_drip(made: Federation, target: Centre, held: ExitStack) -> None:
    """All links, each with the largest frame that is accepted, all but its last byte."""
    body = len(encode_message(Ping(1)))
    for peer in welcomed(made, target, held, LINKS_PER_CENTRE_MAX):
        with suppress(AssertionError):  # a second link of one centre may replace the first
            peer.open()
            peer.send(FRAME_BYTES_MAX.to_bytes(4, "big") + bytes(FRAME_BYTES_MAX - body))


def transfers_that_drip(made: Federation, target: Centre, held: ExitStack) -> None:
    """All bulk connections, each with half of a question; and some with one that is too long."""
    for number, peer in enumerate(
        welcomed(made, target, held, TRANSFERS_PER_CENTRE_MAX, protocol=BULK_PROTOCOL)
    ):
        size = ASK_BYTES_MAX if number % 2 else 3 << 20
        peer.send(size.to_bytes(4, "big") + bytes(size - 1))


def blocks_of_tomorrow(made: Federation, target: Centre, held: ExitStack) -> None:
    """Valid blocks as large as they may be, which wait for their time, again and again."""
    for name in ROGUES:
        peer = held.enter_context(Rogue(made[name], target))
        peer.open()
        backlink, ahead_ms = None, hlc_ms(now()) + 3_600_000
        for number in range(50):
            header = encode(
                peer.header(
                    LARGE,
                    seq_num=number,
                    backlink=backlink,
                    time=hlc(ahead_ms + number),
                    digest=hashlib.sha256(LARGE).digest(),
                )
            )
            peer.push(peer.sign(header, LARGE))
            backlink = hashlib.sha256(header).digest()
    target.until(lambda client: client.status()["blocks_pending"] > 50, "blocks that wait")


ATTACKS: dict[str, Callable[[Federation, Centre, ExitStack], None]] = {
    "silent connections": silence,
    "half a greeting": half_a_greeting,
    "other protocols": other_protocols,
    "links that drip": links_that_drip,
    "transfers that drip": transfers_that_drip,
    "blocks of tomorrow": blocks_of_tomorrow,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_honest_peers_are_served_while(attack: str, federation: Federation) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    before = {centre.name: memory_kib(centre) for centre in (alpha, beta)}
    with ExitStack() as held:
        for target in (alpha, beta):
            ATTACKS[attack](federation, target, held)
        job_id = alpha.submit("#!/bin/sh\necho undisturbed\n")
        assert alpha.until_over([job_id])[job_id]["state"] == "completed"
        assert alpha.output(job_id) == "undisturbed\n"
        for centre in (alpha, beta):
            assert memory_kib(centre) - before[centre.name] < MEMORY_KIB_MAX
            assert files(centre) < FILES_MAX
    for centre in (alpha, beta):
        centre.until(lambda client: client.status()["peers_linked"] == 1, "the honest link alone")
        wait_until(partial(at_rest, centre), "the connections to be let go")
