"""TLS 1.3 in which the transport identity is the ledger identity.

Both ends prove with their certificate that they hold the Ed25519 key that the federation knows for
a centre. No authority is involved and no certificate has to be handed around: from a centre's
public key alone everyone builds that centre's *anchor*, a certificate that names the key. What a
peer presents is a *leaf*, of the same key and signed by it. OpenSSL verifies the leaf against the
anchors (the signature on an anchor itself is never looked at, RFC 5280 section 6.1: an anchor is
input, not part of the path), and the handshake proves possession. Then the key in the leaf is
compared with the pinned ones, so that an anchor's owner can't vouch for any key but its own.

Keys change while daemons run. Whoever is not pinned any more can't open a connection; whoever dials
names the key that it expects in the server name, so that a centre whose key was rotated while a
peer was away can show that peer the key that it knows.

Names are key fingerprints and differ between anchors, since OpenSSL looks anchors up by name.
Dates say nothing here: a machine whose clock is wrong must still be able to talk to its peers. See
docs/adr/0005-tls-pinning.md.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from p2pfed.core.ids import CentreName, PublicKey
from p2pfed.errors import InputError

LINK_PROTOCOL: Final = "p2pfed/1"
"""ALPN name of a gossip link."""
BULK_PROTOCOL: Final = "p2pfed-bulk/1"
"""ALPN name of a connection for one payload or result."""

_NOT_BEFORE: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


class PeerCertificate(Protocol):
    """The part of an `ssl.SSLObject` or a `trio.SSLStream` that tells who is at the other end."""

    def getpeercert(self, binary_form: bool = False) -> object:
        """The peer's certificate; in DER if `binary_form`."""


def key_fingerprint(key: PublicKey) -> str:
    """The SHA-256 of a public key in hexadecimal (64 characters)."""
    return hashlib.sha256(key).hexdigest()


def leaf_certificate(private: Ed25519PrivateKey) -> bytes:
    """The PEM certificate that the holder of `private` presents; the same bytes each time."""
    key = PublicKey(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    return _certificate(key, private, is_anchor=False).public_bytes(Encoding.PEM)


def anchor_certificate(key: PublicKey) -> bytes:
    """The DER certificate by which we recognise leaves of `key`; made from the key alone.

    Its signature is by a throwaway key and means nothing.
    """
    return _certificate(key, Ed25519PrivateKey.generate(), is_anchor=True).public_bytes(
        Encoding.DER
    )


def _certificate(key: PublicKey, signer: Ed25519PrivateKey, *, is_anchor: bool) -> x509.Certificate:
    anchor, leaf = _name(key, "anchor"), _name(key, "peer")
    usage = x509.KeyUsage(
        digital_signature=not is_anchor,
        key_cert_sign=is_anchor,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    constraints = x509.BasicConstraints(ca=is_anchor, path_length=0 if is_anchor else None)
    serial = int.from_bytes(hashlib.sha256(b"serial" + key).digest()[:15], "big") + 1
    return (
        x509.CertificateBuilder()
        .subject_name(anchor if is_anchor else leaf)
        .issuer_name(anchor)
        .public_key(Ed25519PublicKey.from_public_bytes(key))
        .serial_number(serial)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(constraints, critical=True)
        .add_extension(usage, critical=True)
        .sign(signer, algorithm=None)
    )


def _name(key: PublicKey, unit: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"p2pfed {unit}"),
            x509.NameAttribute(NameOID.COMMON_NAME, key_fingerprint(key)),
        ]
    )


class Tls:
    """This centre's side of every TLS connection: its key, and whom it recognises."""

    def __init__(
        self,
        private: Ed25519PrivateKey,
        pins: Mapping[CentreName, PublicKey],
        former: Sequence[Ed25519PrivateKey] = (),
    ) -> None:
        """`pins` are the keys of the other centres; an own key among them is harmless.

        `former` are keys that we had: see `set_own`.
        """
        self._private, self._former = private, tuple(former)
        self.set_pins(pins)

    def set_pins(self, pins: Mapping[CentreName, PublicKey]) -> None:
        """Recognises exactly these centres from the next connection on; open ones stay open."""
        self._pins = dict(pins)
        self._centres = {pins[centre]: centre for centre in sorted(pins)}
        self._make()

    def set_own(self, private: Ed25519PrivateKey, former: Sequence[Ed25519PrivateKey] = ()) -> None:
        """Presents this key from the next connection on.

        A peer that dials says which key of ours it knows. If that is a former one, it has not heard
        of the newer yet; it is shown the former, so that it can hear of it from us.
        """
        self._private, self._former = private, tuple(former)
        self._make()

    def _make(self) -> None:
        protocols = [LINK_PROTOCOL, BULK_PROTOCOL]
        self._server = self._context(ssl.PROTOCOL_TLS_SERVER, protocols, self._private)
        known_by = {
            _server_name(_raw_public(private)): self._context(
                ssl.PROTOCOL_TLS_SERVER, protocols, private
            )
            for private in self._former
        }

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            other = known_by.get(name or "")
            if other is not None:
                connection.context = other
            return None

        if known_by:
            self._server.sni_callback = choose
        self._clients = {
            protocol: self._context(ssl.PROTOCOL_TLS_CLIENT, [protocol], self._private)
            for protocol in protocols
        }

    def server_name(self, centre: CentreName) -> str | None:
        """What to call the centre when dialling it: the key that we know it by."""
        key = self._pins.get(centre)
        return None if key is None else _server_name(key)

    @property
    def server(self) -> ssl.SSLContext:
        """For connections that we accept, of either protocol."""
        return self._server

    def client(self, protocol: str) -> ssl.SSLContext:
        """For connections that we open for `LINK_PROTOCOL` or `BULK_PROTOCOL`."""
        return self._clients[protocol]

    def peer_centre(self, connection: PeerCertificate) -> CentreName:
        """The centre whose key the other end of a finished handshake proved to hold.

        Raises:
            InputError: `peer-key-unknown`.
        """
        der = connection.getpeercert(binary_form=True)
        found = None
        if isinstance(der, bytes):
            key = x509.load_der_x509_certificate(der).public_key()
            if isinstance(key, Ed25519PublicKey):
                found = self._centres.get(
                    PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
                )
        if found is None:
            raise InputError(
                "peer-key-unknown",
                "the peer's key belongs to no centre of this federation",
                remedy="compare the fingerprints of both centres' keys with the charter's",
            )
        return found

    def _context(
        self, role: int, protocols: list[str], private: Ed25519PrivateKey
    ) -> ssl.SSLContext:
        context = ssl.SSLContext(role)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(protocols)
        if role == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # no resumption: each connection proves its key anew
        anchors = b"".join(anchor_certificate(key) for key in sorted(self._centres))
        if anchors:
            context.load_verify_locations(cadata=anchors)
        _load_own(context, private)
        return context


def _raw_public(private: Ed25519PrivateKey) -> PublicKey:
    return PublicKey(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def _server_name(key: PublicKey) -> str:
    """A host name (RFC 6066 section 3) that stands for a key; half of its fingerprint is enough."""
    return f"k{key_fingerprint(key)[:32]}.p2pfed"


def _load_own(context: ssl.SSLContext, private: Ed25519PrivateKey) -> None:
    """Gives the context our certificate and key; `ssl` reads files only, so from memory."""
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor = os.memfd_create("p2pfed-identity", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem + leaf_certificate(private))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
