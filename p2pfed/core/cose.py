"""COSE_Sign1 (RFC 9052 section 4.2) in the one form that p2pfed uses.

The algorithm is always EdDSA with Ed25519, the key id always 16 bytes, both in the protected
header; the unprotected header is always empty. So every part of a message has its fixed place and
one encoding, and a message can be cut from received bytes without a CBOR reader, before anything in
it is trusted. Any COSE library verifies these messages.
"""

from __future__ import annotations

from typing import Final, NoReturn

from p2pfed.core.keys import KEY_ID_BYTES, SIGNATURE_BYTES, Signer
from p2pfed.errors import InputError

_PROTECTED_START: Final = bytes.fromhex("A2 01 27 04 50")  # {1: -8, 4: h'<16 bytes>'}
_PROTECTED_BYTES: Final = len(_PROTECTED_START) + KEY_ID_BYTES
_START: Final = bytes([0x84, 0x40 | _PROTECTED_BYTES]) + _PROTECTED_START
_KID_END: Final = len(_START) + KEY_ID_BYTES
_EMPTY_MAP: Final = b"\xa0"
_SIGNATURE_START: Final = bytes([0x58, SIGNATURE_BYTES])
_CONTEXT: Final = bytes.fromhex("84 6A") + b"Signature1"


def protected(kid: bytes) -> bytes:
    """The protected header, as it is signed."""
    return _PROTECTED_START + kid


def kid_of(protected_header: bytes) -> bytes | None:
    """The key id of a protected header, None if it has not the one form."""
    if len(protected_header) == _PROTECTED_BYTES and protected_header.startswith(_PROTECTED_START):
        return protected_header[len(_PROTECTED_START) :]
    return None


def to_be_signed(context: bytes, kid: bytes, payload: bytes) -> bytes:
    """The Sig_structure of RFC 9052 section 4.4.

    Args:
        context: the external additional data.
        kid: id of the key that signs.
        payload: what is signed.
    """
    return b"".join(
        (_CONTEXT, _START[1:], kid, byte_string(context), byte_string(payload)),
    )


def sign(signer: Signer, context: bytes, kid: bytes, payload: bytes) -> bytes:
    """The signed message."""
    signature = signer.sign(to_be_signed(context, kid, payload))
    return b"".join(
        (_START, kid, _EMPTY_MAP, byte_string(payload), _SIGNATURE_START, signature),
    )


def cut(message: bytes) -> tuple[bytes, bytes, bytes]:
    """Key id, payload and signature of a message, nothing verified.

    Raises:
        InputError: `cose-form`.
    """
    if not message.startswith(_START) or message[_KID_END : _KID_END + 1] != _EMPTY_MAP:
        _refuse("not a COSE_Sign1 message with EdDSA, a key id of 16 bytes and nothing else")
    start, end = read_byte_string(message, _KID_END + 1)
    signature_start = end + len(_SIGNATURE_START)
    signature = message[signature_start:]
    if message[end:signature_start] != _SIGNATURE_START or len(signature) != SIGNATURE_BYTES:
        _refuse(f"the message does not end in a signature of {SIGNATURE_BYTES} bytes")
    return message[len(_START) : _KID_END], message[start:end], signature


def byte_string(content: bytes) -> bytes:
    """The deterministic encoding of a CBOR byte string below 4 GiB."""
    size = len(content)
    if size < 24:
        return bytes([0x40 | size]) + content
    if size < 1 << 8:
        return bytes([0x58, size]) + content
    if size < 1 << 16:
        return b"\x59" + size.to_bytes(2, "big") + content
    return b"\x5a" + size.to_bytes(4, "big") + content


def read_byte_string(data: bytes, at: int) -> tuple[int, int]:
    """Start and end of the content of the byte string whose first byte is at `at`.

    Raises:
        InputError: `cose-form`: none is there, it is cut off, or its length is not in the
            shortest form.
    """
    first = data[at] if at < len(data) else 0
    if 0x40 <= first < 0x58:
        start, size, least = at + 1, first - 0x40, 0
    elif 0x58 <= first <= 0x5A:
        width = 1 << (first - 0x58)
        start = at + 1 + width
        size = int.from_bytes(data[at + 1 : start], "big")
        least = (24, 1 << 8, 1 << 16)[first - 0x58]
    else:
        _refuse(f"there is no byte string at byte {at}")
    end = start + size
    if size < least or end > len(data):
        _refuse(f"the byte string at byte {at} has a wrong length")
    return start, end


def _refuse(what: str) -> NoReturn:
    raise InputError("cose-form", what)
