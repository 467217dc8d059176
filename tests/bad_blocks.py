"""Blocks that break one rule each, by a phrase that names it: bytes and the code of the error."""

from __future__ import annotations

import hashlib

from p2pfed.core import cose
from p2pfed.core.codec import encode
from p2pfed.core.fields import CborItem
from p2pfed.core.keys import key_id
from p2pfed.core.limits import (
    ACKS_PER_BLOCK_MAX,
    BLOCK_BYTES_MAX,
    HEADER_BYTES_MAX,
    RECORDS_BYTES_MAX,
    RECORDS_PER_BLOCK_MAX,
)
from p2pfed.core.units import hlc
from tests.writers import FEDERATION, START_MS, private_key, public_key, some_id

DIGEST_OF_NONE = hashlib.sha256(b"\x80").digest()
HEADER: dict[int, CborItem] = {
    0: 1,
    1: "alpha",
    2: 0,
    3: 5,
    4: some_id("before"),
    5: hlc(START_MS),
    6: [["beta", 0, 3, some_id("beta 3")]],
    7: DIGEST_OF_NONE,
}


def signed(header: bytes, records: bytes = b"\x80", signer: str = "alpha") -> bytes:
    message = cose.sign(private_key(signer), FEDERATION, key_id(public_key(signer)), header)
    return b"\x82" + cose.byte_string(message) + cose.byte_string(records)


def changed(key: int, value: CborItem) -> bytes:
    return signed(encode({**HEADER, key: value}))


def with_records(item: CborItem) -> bytes:
    records = encode(item)
    return signed(encode({**HEADER, 7: hashlib.sha256(records).digest()}), records)


def flipped(data: bytes, at: int) -> bytes:
    out = bytearray(data)
    out[at] ^= 1
    return bytes(out)


WHOLE = signed(encode(HEADER))
REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "block-form"),
    "an array of three": (b"\x83" + WHOLE[1:], "block-form"),
    "a byte more": (WHOLE + b"\x00", "block-form"),
    "a byte less": (WHOLE[:-1], "cose-form"),
    "a text for the header": (b"\x82\x60\x40", "cose-form"),
    "too large": (bytes(BLOCK_BYTES_MAX + 1), "block-size"),
    "too large a header": (signed(bytes(HEADER_BYTES_MAX)), "block-size"),
    "too large records": (signed(b"", bytes(RECORDS_BYTES_MAX + 1)), "block-size"),
    "a header that is no COSE message": (b"\x82\x41\x00\x41\x80", "cose-form"),
    "by a stranger": (signed(encode(HEADER), signer="mallory"), "block-key-unknown"),
    "a bit of the header flipped": (flipped(WHOLE, 40), "block-signature"),
    "a bit of the signature flipped": (flipped(WHOLE, len(WHOLE) - 3), "block-signature"),
    "signed for another centre": (signed(encode(HEADER), signer="beta"), "block-centre"),
    "other records than those signed": (
        signed(encode(HEADER), b"\x81\xa0"),
        "block-records-digest",
    ),
    "a header that is not CBOR": (signed(b"\xff"), "cbor-malformed"),
    "a header with keys out of order": (
        signed(b"\xa2\x01\x00\x00\x01"),
        "cbor-not-deterministic",
    ),
    "a header that is an array": (signed(encode([1])), "block-version"),
    "a header without version": (signed(encode({1: "alpha"})), "block-version"),
    "a header of version 2": (changed(0, 2), "block-version"),
    "a header of version true": (changed(0, True), "block-version"),
    "a header with an unknown field": (changed(8, 0), "block-header"),
    "a header that lacks acks": (
        signed(encode({k: v for k, v in HEADER.items() if k != 6})),
        "block-header",
    ),
    "a centre with a capital": (changed(1, "Alpha"), "block-header"),
    "a centre that is a number": (changed(1, 7), "block-header"),
    "a negative epoch": (changed(2, -1), "block-header"),
    "an epoch too high": (changed(2, (1 << 16) + 1), "block-header"),
    "an epoch that is true": (changed(2, True), "block-header"),
    "a seq_num too high": (changed(3, (1 << 48) + 1), "block-header"),
    "a negative time": (changed(5, -1), "block-header"),
    "a digest of 31 bytes": (changed(7, bytes(31)), "block-header"),
    "a null digest": (changed(7, None), "block-header"),
    "no backlink after the first": (changed(4, None), "block-backlink"),
    "a backlink in the first": (changed(3, 0), "block-backlink"),
    "a backlink of 31 bytes": (changed(4, bytes(31)), "block-backlink"),
    "a backlink that is text": (changed(4, "x" * 32), "block-header"),
    "acks that are a map": (changed(6, {}), "block-header"),
    "an ack of three items": (changed(6, [["beta", 0, 3]]), "block-acks"),
    "an ack with a short id": (changed(6, [["beta", 0, 3, bytes(31)]]), "block-acks"),
    "an ack with a seq_num that is true": (
        changed(6, [["beta", 0, True, bytes(32)]]),
        "block-acks",
    ),
    "an ack of a name nobody can have": (changed(6, [["", 0, 3, bytes(32)]]), "block-acks"),
    "acks out of order": (
        changed(6, [["gamma", 0, 3, bytes(32)], ["beta", 0, 3, bytes(32)]]),
        "block-acks",
    ),
    "one feed acked twice": (
        changed(6, [["beta", 0, 3, bytes(32)], ["beta", 0, 4, bytes(32)]]),
        "block-acks",
    ),
    "an ack too many": (
        changed(6, [[f"c{n}", 0, 0, bytes(32)] for n in range(ACKS_PER_BLOCK_MAX + 1)]),
        "block-acks",
    ),
    "an ack of its own feed": (changed(6, [["alpha", 0, 4, bytes(32)]]), "block-ack-own"),
    "records that are a map": (with_records({}), "block-records-form"),
    "a record that is a number": (with_records([1]), "block-records-form"),
    "a record too many": (
        with_records([{0: 1}] * (RECORDS_PER_BLOCK_MAX + 1)),
        "block-records-count",
    ),
    "a float in a record": (
        signed(
            encode({**HEADER, 7: hashlib.sha256(b"\x81\xa1\x00\xf9\x3c\x00").digest()}),
            b"\x81\xa1\x00\xf9\x3c\x00",
        ),
        "cbor-type",
    ),
}
