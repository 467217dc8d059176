"""Who is at the other end is decided by its Ed25519 key and by nothing else."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError
from p2pfed.shell import tls as tls_module
from p2pfed.shell.tls import (
    BULK_PROTOCOL,
    LINK_PROTOCOL,
    Tls,
    anchor_certificate,
    key_fingerprint,
    leaf_certificate,
)
from tests.unit.shell.peers import ALPHA, BETA, GAMMA, private_key, public_key, tls_of

AnyStream = trio.SSLStream[Any]


async def handshake(server: Tls, client_context: ssl.SSLContext) -> AnyStream:
    """The server's end after both have done their handshake."""
    left, right = trio.testing.memory_stream_pair()
    accepting = trio.SSLStream(left, server.server, server_side=True)
    connecting = trio.SSLStream(right, client_context)

    async def connect() -> None:
        await connecting.do_handshake()
        assert connecting.version() == "TLSv1.3"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        await accepting.do_handshake()
    return accepting


async def test_a_pinned_peer_is_recognised_by_its_key() -> None:
    stream = await handshake(tls_of(ALPHA), tls_of(BETA).client(BULK_PROTOCOL))
    assert tls_of(ALPHA).peer_centre(stream) == BETA
    assert stream.selected_alpn_protocol() == BULK_PROTOCOL


async def test_a_member_cannot_vouch_for_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beta signs a certificate for a key of its choice: OpenSSL is content, we are not."""
    alpha, mallory = tls_of(ALPHA), private_key("mallory")
    anchor = x509.load_der_x509_certificate(anchor_certificate(public_key(BETA)))
    builder = x509.CertificateBuilder(
        issuer_name=anchor.subject,
        subject_name=x509.load_pem_x509_certificate(leaf_certificate(mallory)).subject,
        public_key=mallory.public_key(),
        serial_number=1,
        not_valid_before=anchor.not_valid_before_utc.replace(tzinfo=None),
        not_valid_after=anchor.not_valid_after_utc.replace(tzinfo=None),
    )
    pem = builder.sign(private_key(BETA), algorithm=None).public_bytes(Encoding.PEM)
    monkeypatch.setattr(tls_module, "leaf_certificate", lambda private: pem)
    context = Tls(mallory, {ALPHA: public_key(ALPHA)}).client(LINK_PROTOCOL)
    stream = await handshake(alpha, context)
    with pytest.raises(InputError) as caught:
        alpha.peer_centre(stream)
    assert caught.value.code == "peer-key-unknown"


async def test_an_unknown_key_fails_the_handshake() -> None:
    stranger = Tls(private_key("mallory"), {ALPHA: public_key(ALPHA)})
    with pytest.raises(ExceptionGroup) as caught:
        await handshake(tls_of(ALPHA), stranger.client(LINK_PROTOCOL))
    assert caught.group_contains(trio.BrokenResourceError)


async def test_pins_can_be_changed_while_running() -> None:
    alpha = tls_of(ALPHA, knows=[BETA])
    gamma = tls_of(GAMMA).client(LINK_PROTOCOL)
    with pytest.raises(ExceptionGroup):
        await handshake(alpha, gamma)
    alpha.set_pins({GAMMA: public_key(GAMMA)})
    assert alpha.peer_centre(await handshake(alpha, gamma)) == GAMMA
    with pytest.raises(ExceptionGroup):
        await handshake(alpha, tls_of(BETA).client(LINK_PROTOCOL))


def test_a_connection_without_a_certificate_is_nobody() -> None:
    class Anonymous:
        def getpeercert(self, binary_form: bool = False) -> object:
            return None

    with pytest.raises(InputError):
        tls_of(ALPHA).peer_centre(Anonymous())


def test_the_leaf_is_the_same_each_time_and_can_sign_nothing() -> None:
    key = private_key(ALPHA)
    assert leaf_certificate(key) == leaf_certificate(key)
    leaf = x509.load_pem_x509_certificate(leaf_certificate(key))
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = [attribute.value for attribute in leaf.subject]
    assert key_fingerprint(public_key(ALPHA)) in names


def test_a_thousand_centres_can_be_pinned() -> None:
    pins = {CentreName(f"c{i}"): public_key(f"c{i}") for i in range(1000)}
    context = Tls(Ed25519PrivateKey.generate(), pins).server
    assert len(context.get_ca_certs()) == 1000


def test_nothing_older_than_tls_1_3_is_spoken() -> None:
    for context in (tls_of(ALPHA).server, tls_of(ALPHA).client(LINK_PROTOCOL)):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert tls_of(ALPHA).server.num_tickets == 0
