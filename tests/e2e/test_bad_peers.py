"""What a bad peer gets: its connection ends with a code, and the federation goes on.

Two daemons run, alpha and beta; all other members are played byte by byte (`Rogue`). A daemon
leaves a member that broke the protocol alone for a minute, so every case has a member of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.blocks import decode_block
from p2pfed.core.codec import encode
from p2pfed.core.ids import FederationId, parse_position
from p2pfed.core.records import Contact, OfferClose, Receipt
from p2pfed.core.units import hlc, hlc_ms
from p2pfed.protocol.framing import frame
from p2pfed.protocol.messages import Ping, encode_message
from p2pfed.shell.client import Client
from p2pfed.shell.tls import BULK_PROTOCOL
from tests.e2e.federation import Centre, Federation
from tests.e2e.rogue import Rogue, framed, now

ROGUES = tuple(f"rogue-{letter}" for letter in "abcdefghij")
FOOL, FORKER, HASTY, STRANGER = "fool", "forker", "hasty", "stranger"
NO_RECORDS = b"\x80"


@dataclass(slots=True)
class Stage:
    """The federation, and pairs of a played member and a daemon that have not met."""

    federation: Federation
    pairs: Iterator[tuple[str, str]]

    def next_pair(self) -> tuple[Centre, Centre]:
        """A member that is still in good standing with that daemon."""
        rogue, target = next(self.pairs)
        return self.federation[rogue], self.federation[target]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    names = ("alpha", "beta", FOOL, FORKER, HASTY, STRANGER, *ROGUES)
    with Federation.found(*names, opened=("beta",)) as made:
        for name in ("alpha", "beta"):
            made[name].begin()
        for name in ("alpha", "beta"):
            made[name].until_linked(1)
            made[name].until_writing()
        made.until_offers(1)
        yield Stage(made, product(ROGUES, ("alpha", "beta")))


@pytest.fixture(autouse=True)
def the_federation_goes_on(stage: Stage) -> Iterator[None]:
    before = {name: stage.federation[name].starts for name in ("alpha", "beta")}
    yield
    for name, starts in before.items():
        centre = stage.federation[name]
        assert centre.running and centre.starts == starts
        centre.until_linked(1)
        assert "Traceback" not in centre.log


def error_of(target: Centre, rogue: Centre) -> str:
    with target.client() as client:
        [found] = [peer["error"] for peer in client.peers() if peer["centre"] == rogue.name]
    return found or ""


def holds(client: Client, name: str) -> int:
    """The newest `seq_num` held of the member's feed, -1 for none."""
    heads = client.status()["frontier"]
    return max((head["seq_num"] for head in heads if head["centre"] == name), default=-1)


def member_state(name: str) -> Callable[[Client], str]:
    return lambda client: next(m["state"] for m in client.members() if m["centre"] == name)


# Before the Hello: who may speak at all


def test_a_stranger_with_a_key_of_its_own_is_not_welcomed(stage: Stage) -> None:
    rogue, target = stage.federation[STRANGER], stage.federation["alpha"]
    said = len(target.log)
    with Rogue(rogue, target, key=Ed25519PrivateKey.generate()) as stranger:
        assert not stranger.welcomed()
    target.until(lambda _: "refused a connection" in target.log[said:], "a line in the log")


def test_who_speaks_another_protocol_is_not_welcomed(stage: Stage) -> None:
    rogue, target = stage.federation[STRANGER], stage.federation["alpha"]
    try:
        stranger = Rogue(rogue, target, protocol="h2")
    except OSError:
        return  # the handshake itself failed
    with stranger:
        assert not stranger.welcomed()


def test_half_a_frame_costs_nobody_anything(stage: Stage) -> None:
    rogue, target = stage.federation[STRANGER], stage.federation["alpha"]
    with Rogue(rogue, target) as first:
        assert first.welcomed()
        first.send(encode_message(Ping(1))[:-1])
        first.hang_up()
        first.until_bye()
    with Rogue(rogue, target) as again:
        again.open()


def test_a_bulk_connection_that_talks_nonsense_is_closed(stage: Stage) -> None:
    rogue, target = stage.next_pair()
    with Rogue(rogue, target, protocol=BULK_PROTOCOL) as peer:
        assert peer.welcomed()
        peer.send(b"\x00\x00\x00\x01\xff" * 100)
        peer.until_closed()


# Messages


def not_minimal(rogue: Rogue) -> None:
    """A Ping whose type takes two bytes where one would do."""
    rogue.open().send(frame(b"\xa2\x00\x18\x06\x01\x01"))


def twice_the_same_key(rogue: Rogue) -> None:
    rogue.open().send(frame(b"\xa2\x00\x06\x00\x06"))


def early(rogue: Rogue) -> None:
    rogue.send(encode_message(Ping(1)))


def block_of_another(rogue: Rogue) -> None:
    header = encode(rogue.header(NO_RECORDS, centre="beta", seq_num=1 << 40, backlink=bytes(32)))
    rogue.open().push(rogue.sign(header, NO_RECORDS))


MESSAGES: dict[str, tuple[Callable[[Rogue], object], str]] = {
    "another federation": (
        lambda r: r.hello(federation=FederationId(bytes(32))),
        "protocol-federation",
    ),
    "another version of the protocol": (lambda r: r.hello(version=2), "protocol-version"),
    "another member's name": (lambda r: r.hello(centre="beta"), "protocol-centre"),
    "a huge frame": (lambda r: r.send(b"\x7f\xff\xff\xff"), "protocol-frame-too-long"),
    "a huge frame later": (lambda r: r.open().send(b"\x00\x40\x00\x01"), "protocol-frame-too-long"),
    "an empty frame": (lambda r: r.send(bytes(4)), "protocol-frame-empty"),
    "bytes that are no CBOR": (lambda r: r.send(frame(b"\xff")), "cbor-malformed"),
    "an integer longer than need be": (not_minimal, "cbor-not-deterministic"),
    "the same key twice": (twice_the_same_key, "cbor-not-deterministic"),
    "a ping before the Hello": (early, "protocol-order"),
    "a message of no known type": (
        lambda r: r.open().send(framed({0: 23})),
        ("protocol-message-unknown"),
    ),
    "a block that nobody asked for": (block_of_another, "protocol-block-unasked"),
}


@pytest.mark.parametrize("phrase", MESSAGES)
def test_a_message_that_breaks_the_protocol_ends_the_connection(stage: Stage, phrase: str) -> None:
    said, code = MESSAGES[phrase]
    rogue, target = stage.next_pair()
    with Rogue(rogue, target) as peer:
        assert peer.welcomed()
        said(peer)
        assert peer.until_bye() == code
    assert f"[{code}]" in error_of(target, rogue)
    with Rogue(rogue, target) as again:
        assert again.welcomed()
        assert again.until_bye() == "link-penalty"


# Blocks with a valid signature over nonsense


def nonsense_header(rogue: Rogue) -> bytes:
    return rogue.sign(encode([1, 2, 3]), NO_RECORDS)


def header_not_minimal(rogue: Rogue) -> bytes:
    header = encode(rogue.header(NO_RECORDS))
    assert header[:3] == b"\xa8\x00\x01"
    return rogue.sign(b"\xa8\x00\x18\x01" + header[3:], NO_RECORDS)


def of_a_stranger(rogue: Rogue) -> bytes:
    rogue.key = Ed25519PrivateKey.generate()
    return rogue.sign(encode(rogue.header(NO_RECORDS)), NO_RECORDS)


def flipped(rogue: Rogue) -> bytes:
    data = bytearray(rogue.sign(encode(rogue.header(NO_RECORDS)), NO_RECORDS))
    data[-3] ^= 1
    return bytes(data)


BLOCKS: dict[str, tuple[Callable[[Rogue], bytes], str]] = {
    "a header that is a list": (nonsense_header, "protocol-block"),
    "a header that is not in deterministic form": (header_not_minimal, "cbor-not-deterministic"),
    "another format version": (
        lambda r: r.sign(encode(r.header(NO_RECORDS, version=2)), NO_RECORDS),
        "block-version",
    ),
    "other records than those signed": (
        lambda r: r.sign(encode(r.header(b"\x81\xa0")), NO_RECORDS),
        "block-records-digest",
    ),
    "records that are no records": (
        lambda r: r.sign(encode(r.header(b"\x01")), b"\x01"),
        "block-records-form",
    ),
    "a key that nobody has": (of_a_stranger, "block-key-unknown"),
    "a signature with one bit changed": (flipped, "block-signature"),
}


@pytest.mark.parametrize("phrase", BLOCKS)
def test_a_block_that_is_invalid_ends_the_connection(stage: Stage, phrase: str) -> None:
    make, code = BLOCKS[phrase]
    rogue, target = stage.next_pair()
    with Rogue(rogue, target) as peer:
        peer.open().push(make(peer))
        assert peer.until_bye() == code
    assert f"[{code}]" in error_of(target, rogue)
    assert holds_of(target, rogue.name) == -1


def holds_of(target: Centre, name: str) -> int:
    with target.client() as client:
        return holds(client, name)


def test_records_of_nonsense_in_a_valid_block_are_kept_and_count_for_nothing(stage: Stage) -> None:
    rogue, target = stage.federation[FOOL], stage.federation["alpha"]
    beta = stage.federation["beta"]
    with beta.client() as client:
        [offer] = [o["offer_id"] for o in client.offers()]
    records = encode([{0: 99, 1: "what?"}, {0: 5, 1: -1}, {0: 7}])
    stolen = parse_position(offer)
    with Rogue(rogue, target) as peer:
        first = peer.sign(encode(peer.header(records, digest=digest(records))), records)
        head = decode_block(first, peer.federation, rogue.charter().keys()).head
        second, _ = peer.block(
            [OfferClose(offer_id=stolen, reason="mine now"), Receipt(claim_id=stolen, core_s=1)],
            after=head,
        )
        peer.open().push(first, second)
        for centre in (stage.federation["alpha"], beta):
            centre.until(lambda client: holds(client, rogue.name) == 1, "both blocks")
    for centre in (stage.federation["alpha"], beta):
        with centre.client() as client:
            assert [o["offer_id"] for o in client.offers() if o["open"]] == [offer]
            assert member_state(rogue.name)(client) == "member"
        report = centre.audit()
        assert report.ok and report.inert >= 4
        assert {finding.code for finding in report.findings} == {"record-inert"}
        assert any("record-type-unknown" in finding.text for finding in report.findings)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_a_member_that_forks_its_feed_is_suspended_by_all(stage: Stage) -> None:
    rogue = stage.federation[FORKER]
    alpha, beta = stage.federation["alpha"], stage.federation["beta"]
    for number, centre in enumerate((alpha, beta)):
        with Rogue(rogue, centre) as peer:
            data, _ = peer.block([Contact(address=f"rogue.example.org:{7000 + number}")])
            peer.open().push(data)
            centre.until(lambda client: holds(client, rogue.name) == 0, "the block")
    for centre in (alpha, beta):
        centre.until(
            lambda client: member_state(rogue.name)(client) == "suspended", "the suspension"
        )
        assert f"{rogue.name} has forked its feed" in centre.status()["warnings"]


def test_a_block_from_the_future_waits_for_its_time(stage: Stage) -> None:
    rogue, target = stage.federation[HASTY], stage.federation["alpha"]
    with Rogue(rogue, target) as peer:
        soon = hlc(hlc_ms(now()) + 3_600_000)
        data, _ = peer.block([Contact(address="rogue.example.org:7001")], at=soon)
        peer.open().push(data)
        target.until(lambda client: client.status()["blocks_pending"] == 1, "the block to wait")
    assert holds_of(target, rogue.name) == -1


def test_after_all_of_it_a_job_still_runs(stage: Stage) -> None:
    alpha = stage.federation["alpha"]
    job_id = alpha.submit("#!/bin/sh\necho still here\n")
    assert alpha.until_over([job_id])[job_id]["state"] == "completed"
    assert alpha.output(job_id) == "still here\n"


# Wrong addresses


def test_an_address_where_somebody_else_answers_is_named(stage: Stage) -> None:
    with Federation.found("gamma", "delta", "epsilon", "zeta") as other:
        gamma, delta = other["gamma"], other["delta"]
        foreign = stage.federation["alpha"].port
        peers = f'epsilon = "127.0.0.1:{foreign}", zeta = "127.0.0.1:{delta.port}"'
        gamma.edit_config("# peers = {}", f"peers = {{{peers}}}")
        delta.start()
        gamma.start()
        gamma.until(lambda _: "no key of this federation" in error_of(gamma, other["epsilon"]), "")
        gamma.until(lambda _: "delta answers at" in error_of(gamma, other["zeta"]), "the error")
        gamma.until_linked(1)
