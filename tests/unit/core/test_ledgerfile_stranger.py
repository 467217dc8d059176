"""A stranger reads the export with only public CBOR and Ed25519 libraries and the documents.

Nothing of p2pfed is imported to verify: what is below is written from docs/reference/ledger-file.md
and docs/reference/wire-format.md. If it fails, either the program or the documents changed.
"""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.unit.core.ledgers import ALPHA, BETA, World, audit, founding, good_world


class StrangersError(Exception):
    """Something in the file is not as the documents say."""


def read_entry(file: BinaryIO) -> bytes:
    size = int.from_bytes(file.read(4), "big")
    data = file.read(size)
    if len(data) != size:
        raise StrangersError("truncated")
    return data


def check_signature(
    key: bytes, signature: bytes, protected: bytes, aad: bytes, payload: bytes
) -> None:
    # RFC 9052 section 4.4: Sig_structure of a COSE_Sign1.
    structure = cbor2.dumps(["Signature1", protected, aad, payload])
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, structure)
    except InvalidSignature as error:
        raise StrangersError("bad signature") from error


def kid_of(protected: bytes) -> bytes:
    headers = cbor2.loads(protected)
    if headers.keys() != {1, 4} or headers[1] != -8:
        raise StrangersError("not EdDSA")
    kid: bytes = headers[4]
    return kid


def found_federation(data: bytes) -> tuple[bytes, dict[bytes, tuple[str, bytes]]]:
    """The federation id, and the founders' keys by key id; every founder must have signed."""
    payload, signatures = cbor2.loads(data)
    keys = {}
    for card in cbor2.loads(payload)[3]:
        keys[hashlib.sha256(card[2]).digest()[:16]] = (card[1], card[2])
    signed = set()
    for protected, _unprotected, _detached, signature in signatures:
        kid = kid_of(protected)
        check_signature(keys[kid][1], signature, protected, b"p2pfed charter", payload)
        signed.add(kid)
    if signed != set(keys):
        raise StrangersError("not all founders signed")
    return hashlib.sha256(payload).digest(), keys


def strangers_frontier(file: BinaryIO) -> dict[tuple[str, int], tuple[int, bytes]]:
    """Verifies all signatures, chains, times and acks; the newest block of every feed."""
    if file.read(16) != b"p2pfed-ledger 1\n":
        raise StrangersError("magic")
    federation, keys = found_federation(read_entry(file))
    times: dict[tuple[str, int, int, bytes], int] = {}
    heads: dict[tuple[str, int], tuple[int, bytes]] = {}
    count = 0
    while data := read_entry(file):
        count += 1
        message, records = cbor2.loads(data)
        protected, _unprotected, payload, signature = cbor2.loads(message)
        owner, key = keys[kid_of(protected)]
        check_signature(key, signature, protected, federation, payload)
        header = cbor2.loads(payload)
        if header[0] != 1 or header[1] != owner:
            raise StrangersError("version or centre")
        if header[7] != hashlib.sha256(records).digest():
            raise StrangersError("records")
        block_id = hashlib.sha256(payload).digest()
        feed, seq_num, backlink, time = (header[1], header[2]), header[3], header[4], header[5]
        if heads.get(feed, (-1, None)) != (seq_num - 1, backlink):
            raise StrangersError("chain")
        named = [tuple(ack) for ack in header[6]]
        if backlink is not None:
            named.append((*feed, seq_num - 1, backlink))
        if any(times.get(name, time) >= time for name in named):  # unknown ones too
            raise StrangersError("ack unknown or not earlier")
        times[(*feed, seq_num, block_id)] = time
        heads[feed] = (seq_num, block_id)
    trailer = cbor2.loads(read_entry(file))
    stated = {(c, e): (s, i) for c, e, s, i in trailer[1]}
    if trailer[0] != count or stated != heads:
        raise StrangersError("trailer")
    return heads


def test_a_stranger_reads_the_same_as_the_audit() -> None:
    data = good_world().export()
    assert strangers_frontier(io.BytesIO(data)) == audit(data).frontier


def test_a_stranger_sees_a_dropped_block_and_a_changed_one() -> None:
    world = good_world()
    dropped = world.export([*world.blocks[:4], *world.blocks[5:]])
    with pytest.raises(StrangersError):
        strangers_frontier(io.BytesIO(dropped))
    data = world.export()
    at = data.index(world.blocks[4].data) + 60
    changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    with pytest.raises(StrangersError):
        strangers_frontier(io.BytesIO(changed))


def test_a_block_of_another_federation_is_worthless_to_the_stranger() -> None:
    world, other = World(), World(charter=founding((ALPHA, BETA)))
    other.blocks.append(world.write(ALPHA))
    with pytest.raises(StrangersError, match="bad signature"):
        strangers_frontier(io.BytesIO(other.export()))
