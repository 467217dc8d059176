"""Keys are admitted only in the form that every Ed25519 library reads alike."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pfed.core.ids import CentreName, PublicKey
from p2pfed.core.keys import VerifyKeys, key_id, parse_public_key, verify
from p2pfed.errors import InputError
from tests.writers import keys_of, private_key, public_key

P = 2**255 - 19
ORDER_8 = (
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
)


def with_sign(encoding: str) -> str:
    data = bytearray.fromhex(encoding)
    data[31] |= 0x80
    return data.hex()


def y(value: int) -> str:
    return value.to_bytes(32, "little").hex()


REFUSED = {
    "31 bytes": ("00" * 31, "key-length"),
    "33 bytes": ("00" * 33, "key-length"),
    "the identity": (y(1), "key-small-order"),
    "the identity with a sign": (with_sign(y(1)), "key-small-order"),
    "the point of order 2": (y(P - 1), "key-small-order"),
    "the point of order 2 with a sign": (with_sign(y(P - 1)), "key-small-order"),
    "a point of order 4": (y(0), "key-small-order"),
    "the other point of order 4": (with_sign(y(0)), "key-small-order"),
    "a point of order 8": (ORDER_8[0], "key-small-order"),
    "a second point of order 8": (with_sign(ORDER_8[0]), "key-small-order"),
    "a third point of order 8": (ORDER_8[1], "key-small-order"),
    "a fourth point of order 8": (with_sign(ORDER_8[1]), "key-small-order"),
    "zero written as p": (y(P), "key-not-canonical"),
    "the identity written as p + 1": (y(P + 1), "key-not-canonical"),
    "a good point written as p + 3": (y(P + 3), "key-not-canonical"),
    "the greatest number": ("ff" * 32, "key-not-canonical"),
    "a number that is no point": (y(2), "key-not-a-point"),
}


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_as_a_key(data: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_public_key(bytes.fromhex(data), where="card.json")
    assert (caught.value.code, caught.value.where) == (code, "card.json")


def test_accepts_exactly_the_numbers_that_have_a_point() -> None:
    def is_point(value: int) -> bool:
        try:
            parse_public_key(value.to_bytes(32, "little"))
        except InputError:
            return False
        return True

    d = -121665 * pow(121666, -1, P) % P
    for value in range(2, 40):
        x2 = (value * value - 1) * pow(d * value * value + 1, -1, P) % P
        assert is_point(value) == _has_root(x2), value


def _has_root(square: int) -> bool:
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * pow(2, (P - 1) // 4, P) % P
    return root * root % P == square


def test_a_key_id_is_half_of_a_sha256() -> None:
    # The key of RFC 8032 section 7.1, test 1; its digest by sha256sum.
    rfc_key = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert key_id(parse_public_key(rfc_key)).hex() == "21fe31dfa154a261626bf854046fd227"


def test_verifies_for_the_key_that_is_named_only() -> None:
    keys = keys_of("alpha", "beta")
    signature = private_key("alpha").sign(b"message")
    kid = key_id(public_key("alpha"))
    assert keys.verify(kid, signature, b"message")
    assert not keys.verify(kid, signature, b"another")
    assert not keys.verify(key_id(public_key("beta")), signature, b"message")
    assert not keys.verify(bytes(16), signature, b"message")
    assert not keys.verify(kid, signature[:-1], b"message")
    assert not keys.verify(kid, b"", b"message")


def test_a_signature_whose_s_is_not_reduced_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    signature = private_key("alpha").sign(b"message")
    s = int.from_bytes(signature[32:], "little") + order
    assert not verify(public_key("alpha"), signature[:32] + s.to_bytes(32, "little"), b"message")


def test_knows_the_owner_of_each_key() -> None:
    keys = keys_of("beta", "alpha")
    kid = key_id(public_key("beta"))
    assert keys.owner(kid) == "beta"
    assert keys.public_key(kid) == public_key("beta")
    assert keys.owner(bytes(16)) is None
    assert keys.public_key(bytes(16)) is None
    assert [centre for centre, _ in keys] == ["alpha", "beta"]
    assert kid in keys
    assert len(keys) == 2


def test_a_centre_may_have_an_old_and_a_new_key() -> None:
    before = keys_of("alpha")
    keys = before.with_key(CentreName("alpha"), public_key("alpha-new"))
    assert keys.owner(key_id(public_key("alpha-new"))) == "alpha"
    assert keys.owner(key_id(public_key("alpha"))) == "alpha"
    assert len(before) == 1


def test_two_centres_may_not_share_a_key() -> None:
    key: PublicKey = public_key("alpha")
    with pytest.raises(InputError) as caught:
        VerifyKeys([(CentreName("alpha"), key), (CentreName("beta"), key)])
    assert caught.value.code == "key-shared"


def test_what_is_admitted_the_library_reads_too() -> None:
    key = Ed25519PublicKey.from_public_bytes(public_key("alpha"))
    assert key.public_bytes_raw() == public_key("alpha")
