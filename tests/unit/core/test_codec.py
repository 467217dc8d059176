"""The codec reads one encoding of each value and names every way to miss it."""

from __future__ import annotations

import pytest

from p2pfed.core.codec import decode, encode
from p2pfed.core.fields import CborItem
from p2pfed.core.limits import NESTING_MAX
from p2pfed.errors import InputError, StateError

LIMIT = 1 << 16


@pytest.mark.parametrize(
    ("item", "data"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (-1, "20"),
        ((1 << 64) - 1, "1bffffffffffffffff"),
        (-(1 << 64), "3bffffffffffffffff"),
        (b"", "40"),
        ("ü", "62c3bc"),
        (True, "f5"),
        (None, "f6"),
        ([1, [2]], "8201 8102"),
        ({}, "a0"),
        ({0: 1, 23: b"x"}, "a2 00 01 17 41 78"),
    ],
)
def test_a_value_has_this_encoding_and_no_other(item: CborItem, data: str) -> None:
    assert encode(item).hex() == data.replace(" ", "")
    assert decode(bytes.fromhex(data), limit=LIMIT) == item


def test_map_keys_are_written_in_ascending_order_whatever_the_order_given() -> None:
    assert encode({10: 1, 2: 2, 23: 3}) == encode({23: 3, 2: 2, 10: 1})


REFUSED = {
    "nothing": ("", "cbor-malformed"),
    "an array cut off": ("8201", "cbor-malformed"),
    "a byte string cut off": ("44010203", "cbor-malformed"),
    "a byte string said to be of 2^60 bytes": ("5b1000000000000000", "cbor-malformed"),
    "an array said to be of 2^40 items": ("9b0000010000000000", "cbor-malformed"),
    "a reserved length": ("1c", "cbor-malformed"),
    "a break outside of an item": ("ff", "cbor-malformed"),
    "text that is not UTF-8": ("61ff", "cbor-malformed"),
    "text with a surrogate": ("63eda080", "cbor-malformed"),
    "text in overlong UTF-8": ("62c080", "cbor-malformed"),
    "an item too many": ("0001", "cbor-trailing"),
    "an integer longer than need be": ("1817", "cbor-not-deterministic"),
    "a length longer than need be": ("580161", "cbor-not-deterministic"),
    "an indefinite array": ("9f01ff", "cbor-not-deterministic"),
    "an indefinite map": ("bf0001ff", "cbor-not-deterministic"),
    "an indefinite byte string": ("5f4101ff", "cbor-not-deterministic"),
    "keys in the wrong order": ("a201000000", "cbor-not-deterministic"),
    "a key twice": ("a200010002", "cbor-not-deterministic"),
    "a key above 23": ("a1181801", "cbor-key"),
    "a negative key": ("a12001", "cbor-key"),
    "a text as key": ("a1616101", "cbor-key"),
    "true as key": ("a1f501", "cbor-key"),
    "a float as key": ("a1fb3ff000000000000001", "cbor-key"),
    "an array as key": ("a1800001"[:6], "cbor-key"),
    "a half float": ("f93c00", "cbor-type"),
    "a double": ("fb3ff0000000000000", "cbor-type"),
    "undefined": ("f7", "cbor-type"),
    "a simple value": ("f0", "cbor-type"),
    "a positive bignum": ("c249010000000000000000", "cbor-type"),
    "a bignum that would fit an integer": ("c24101", "cbor-type"),
    "a date as text": ("c06a323031332d30332d3231", "cbor-type"),
    "an epoch time": ("c11a514b67b0", "cbor-type"),
    "a fraction": ("d81e820102", "cbor-type"),
    "a regular expression": ("d8236161", "cbor-type"),
    "a shared item that holds itself": ("d81c81d81d00", "cbor-type"),
    "a string reference": ("d90100824161d81900", "cbor-type"),
    "a set": ("d9010280", "cbor-type"),
    "a tag nobody knows": ("d9ffff00", "cbor-type"),
    "the tag that says it is CBOR": ("d9d9f700", "cbor-type"),
    "a float deep inside": ("81a10081f93c00", "cbor-type"),
    "arrays one level too deep": ("81" * (NESTING_MAX + 1) + "00", "cbor-depth"),
    "arrays a thousand levels deep": ("81" * 1000 + "00", "cbor-depth"),
    "maps one level too deep": ("a100" * (NESTING_MAX + 1) + "00", "cbor-depth"),
}


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(data: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        decode(bytes.fromhex(data), limit=LIMIT, where="a peer")
    assert (caught.value.code, caught.value.where) == (code, "a peer")


def test_reads_down_to_the_deepest_level_allowed() -> None:
    data = b"\x81" * NESTING_MAX + b"\x00"
    assert encode(decode(data, limit=LIMIT)) == data


def test_reads_no_more_than_the_limit() -> None:
    assert decode(bytes(1), limit=1) == 0
    with pytest.raises(InputError, match="at most 1 ") as caught:
        decode(bytes(2), limit=1)
    assert caught.value.code == "cbor-too-long"


@pytest.mark.parametrize(
    "item",
    [
        1.5,
        (1, 2),
        {24: 1},
        {True: 1},
        {"a": 1},
        1 << 64,
        -(1 << 64) - 1,
        bytearray(1),
        [[[frozenset()]]],
    ],
    ids=repr,
)
def test_our_own_values_outside_of_the_subset_are_a_bug_of_ours(item: CborItem) -> None:
    with pytest.raises(StateError) as caught:
        encode(item)
    assert caught.value.code == "cbor-item"
