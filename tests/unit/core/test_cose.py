"""COSE messages have one form, and what deviates by a byte is refused."""

from __future__ import annotations

import pytest

from p2pfed.core import cose
from p2pfed.errors import InputError
from tests.writers import private_key

KID = bytes(range(16))


def message(payload: bytes = b"payload") -> bytes:
    return cose.sign(private_key("alpha"), b"context", KID, payload)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65535, 65536])
def test_a_message_is_cut_where_it_was_joined(size: int) -> None:
    payload = bytes(size)
    kid, found, signature = cose.cut(message(payload))
    assert (kid, found) == (KID, payload)
    expected = cose.to_be_signed(b"context", KID, payload)
    private_key("alpha").public_key().verify(signature, expected)


def replaced(at: int, byte: int) -> bytes:
    data = bytearray(message())
    data[at] = byte
    return bytes(data)


REFUSED = {
    "nothing": b"",
    "an array of three": replaced(0, 0x83),
    "the tag of COSE_Sign1": b"\xd2" + message(),
    "another algorithm": replaced(4, 0x26),
    "a content type in place of the key id": replaced(5, 0x03),
    "a key id of fifteen bytes": replaced(6, 0x4F),
    "an unprotected header": message().replace(b"\xa0", b"\xa1", 1),
    "a text as payload": replaced(24, 0x67),
    "a payload length longer than need be": message()[:24] + b"\x58\x07" + message()[25:],
    "a payload of eight-byte length": message()[:24] + b"\x5b" + bytes(7) + message()[24:],
    "a signature of 63 bytes": message()[:-1],
    "a signature of 65 bytes": message() + b"\x00",
    "a signature said to be of 63 bytes": replaced(33, 0x3F),
    "a payload that takes the signature's place": message()[:24] + b"\x58\x49" + message()[25:],
    "a message cut inside of the key id": message()[:20],
    "a message cut after the payload": message()[:32],
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refuses_a_message_that_is(data: bytes) -> None:
    assert data != message()
    with pytest.raises(InputError) as caught:
        cose.cut(data)
    assert caught.value.code == "cose-form"


def test_reads_the_key_id_of_its_own_protected_header_only() -> None:
    assert cose.kid_of(cose.protected(KID)) == KID
    assert cose.kid_of(cose.protected(KID)[:-1]) is None
    assert cose.kid_of(b"\xa2" + bytes(20)) is None
