"""Public keys, and the one place where a signature is judged.

Ed25519 verifiers disagree about keys and signatures in odd forms (Chalkias et al., "Taming the many
EdDSAs", 2020), and a block that is valid on one node only would part the replicas. So keys are
admitted only in canonical form and never of small order, and every signature in p2pfed goes through
`VerifyKeys.verify`: OpenSSL's check, which wants S below the group order and the encoding of
R = S*B - k*A equal to the received bytes (RFC 8032 section 5.1.7, the equation without cofactor).

Core holds no private key. Whoever signs passes a `Signer`; `cryptography`'s Ed25519PrivateKey is
one as it stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pfed.core.ids import CentreName, PublicKey
from p2pfed.errors import InputError

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 16
SIGNATURE_BYTES: Final = 64

_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P
# The y coordinates of the eight points whose order divides 8 (y = 0, 1, -1, and +-y of order 8).
_Y8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y: Final = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})


class Signer(Protocol):
    """Whatever can sign with a centre's key."""

    def sign(self, message: bytes, /) -> bytes:
        """The 64-byte Ed25519 signature of `message`."""


def parse_public_key(data: bytes, *, where: str = "") -> PublicKey:
    """The key if every Ed25519 library reads it alike.

    Raises:
        InputError: `key-length`, `key-not-canonical` (y is not below 2^255 - 19), `key-small-order`
            (anyone can sign for it) or `key-not-a-point`.
    """
    remedy = "use the public key that `p2pfed init` wrote"
    if len(data) != KEY_BYTES:
        what = f"an Ed25519 public key has {KEY_BYTES} bytes, not {len(data)}"
        raise InputError("key-length", what, where=where, remedy=remedy)
    y = int.from_bytes(data, "little") & ((1 << 255) - 1)
    if y >= _P:
        what = "the public key is not in canonical form"
        raise InputError("key-not-canonical", what, where=where, remedy=remedy)
    if y in _SMALL_ORDER_Y:
        what = "the public key is of small order"
        raise InputError("key-small-order", what, where=where, remedy=remedy)
    # x^2 = (y^2 - 1) / (d y^2 + 1) must be a square (RFC 8032 section 5.1.3). The denominator is
    # never zero, because -1/d is not a square.
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if pow(x_squared, (_P - 1) // 2, _P) != 1:
        what = "the public key is not a point of the curve"
        raise InputError("key-not-a-point", what, where=where, remedy=remedy)
    return PublicKey(data)


def key_id(public_key: PublicKey) -> bytes:
    """The first 16 bytes of the key's SHA-256, which a signature names its key by."""
    return hashlib.sha256(public_key).digest()[:KEY_ID_BYTES]


def verify(public_key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is the key's signature of `message`; never raises for strange bytes."""
    return _verify(Ed25519PublicKey.from_public_bytes(public_key), signature, message)


def _verify(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


class VerifyKeys:
    """The keys that count in a federation, by key id; never changes after it is made.

    A centre may have several keys (after a rotation, old blocks are still verified with the old
    one). A charter's key belongs to one centre; keys that come later may be shared by centres that
    want it so, since which of them came first would depend on who looks.
    """

    __slots__ = ("_keys", "_owners")

    def __init__(self, entries: Iterable[tuple[CentreName, PublicKey]]) -> None:
        """Takes (centre, key) pairs.

        Raises:
            InputError: `key-shared`: two centres have one key (or keys with one id).
        """
        self._owners: dict[bytes, tuple[tuple[CentreName, ...], PublicKey]] = {}
        self._keys: dict[bytes, Ed25519PublicKey] = {}
        for centre, public_key in entries:
            kid = key_id(public_key)
            if self._owners.get(kid, ((centre,), public_key)) != ((centre,), public_key):
                raise InputError(
                    "key-shared",
                    f"{centre} has the same key as {self._owners[kid][0][0]}",
                    remedy="each centre needs a key of its own",
                )
            self._add(kid, centre, public_key)

    def _add(self, kid: bytes, centre: CentreName, public_key: PublicKey) -> None:
        owners, known = self._owners.get(kid, ((), public_key))
        if known == public_key:
            self._owners[kid] = tuple(sorted({*owners, centre})), public_key
            self._keys[kid] = Ed25519PublicKey.from_public_bytes(public_key)

    def __len__(self) -> int:
        return sum(len(owners) for owners, _ in self._owners.values())

    def __contains__(self, kid: object) -> bool:
        return kid in self._owners

    def __iter__(self) -> Iterator[tuple[CentreName, PublicKey]]:
        """The (centre, key) pairs, ascending."""
        found = ((centre, key) for owners, key in self._owners.values() for centre in owners)
        return iter(sorted(found))

    def with_key(self, centre: CentreName, public_key: PublicKey) -> VerifyKeys:
        """These keys and one more."""
        more = VerifyKeys(())
        more._owners, more._keys = dict(self._owners), dict(self._keys)
        more._add(key_id(public_key), centre, public_key)
        return more

    def owner(self, kid: bytes) -> CentreName | None:
        """The centre whose key has this id (the first by name), None if no key has."""
        found = self._owners.get(kid)
        return None if found is None else found[0][0]

    def owns(self, kid: bytes, centre: CentreName) -> bool:
        """Whether the key with this id is one of the centre's."""
        return kid in self._owners and centre in self._owners[kid][0]

    def public_key(self, kid: bytes) -> PublicKey | None:
        """The key with this id, None if there is none."""
        found = self._owners.get(kid)
        return None if found is None else found[1]

    def verify(self, kid: bytes, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is by the key with this id; False also for an unknown id."""
        key = self._keys.get(kid)
        return key is not None and _verify(key, signature, message)
