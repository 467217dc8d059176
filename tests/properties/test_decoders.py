"""Whatever bytes come, a decoder gives a value with that one encoding, or an InputError."""

from __future__ import annotations

import contextlib
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2pfed.core import cose
from p2pfed.core.blocks import decode_block, decode_header, peek_block_id, split_block
from p2pfed.core.charter import decode_charter, parse_card
from p2pfed.core.codec import decode, encode
from p2pfed.core.fields import CborItem
from p2pfed.core.keys import key_id, parse_public_key
from p2pfed.errors import InputError
from tests.writers import CONTACT, FEDERATION, Writer, keys_of, private_key, public_key

KEYS = keys_of("alpha", "beta")
_BETA = Writer("beta")
BLOCK = Writer("alpha").write(_BETA.write(), records=[CONTACT] * 3)

scalars = st.one_of(
    st.integers(-(1 << 64), (1 << 64) - 1),
    st.integers(-300, 300),
    st.binary(max_size=300),
    st.text(max_size=40),
    st.booleans(),
    st.none(),
)
items: st.SearchStrategy[CborItem] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.integers(0, 23), inner, max_size=5)
    ),
    max_leaves=12,
)


def depth(item: CborItem) -> int:
    match item:
        case list():
            return 1 + max(map(depth, item), default=0)
        case dict():
            return 1 + max(map(depth, item.values()), default=0)
        case _:
            return 0


@given(items.filter(lambda item: depth(item) <= 8))
def test_every_value_comes_back_from_its_encoding(item: CborItem) -> None:
    data = encode(item)
    again = decode(data, limit=len(data))
    assert again == item
    assert encode(again) == data


@settings(max_examples=400)
@given(st.binary(max_size=60))
@example(bytes.fromhex("d81c81d81d00"))
@example(bytes.fromhex("d81e82c24200ffc24200ff"))
@example(bytes.fromhex("c48219ffff01"))
def test_any_bytes_are_one_encoding_or_an_input_error(data: bytes) -> None:
    try:
        item = decode(data, limit=1000)
    except InputError:
        return
    assert encode(item) == data


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with a few bytes changed, cut out or put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del data[at : at + draw(st.integers(1, 40))]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


@settings(max_examples=300)
@given(damaged(BLOCK.data))
def test_invariant_6_a_damaged_block_is_an_input_error(data: bytes) -> None:
    try:
        block = decode_block(data, FEDERATION, KEYS)
    except InputError:
        pass
    else:
        assert (data, block) == (BLOCK.data, BLOCK)


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=300), damaged(BLOCK.data)))
def test_nothing_but_an_input_error_comes_of_looking_at_a_block(data: bytes) -> None:
    for look in (split_block, peek_block_id, lambda d: decode_header(d, FEDERATION, KEYS)):
        try:
            look(data)
        except InputError:
            continue


def signed_block(header: bytes, records: bytes) -> bytes:
    message = cose.sign(private_key("alpha"), FEDERATION, key_id(public_key("alpha")), header)
    return b"\x82" + cose.byte_string(message) + cose.byte_string(records)


@settings(max_examples=200)
@given(
    damaged(cose.cut(BLOCK.header.cose)[1]),
    st.one_of(
        damaged(split_block(BLOCK.data)[1]), items.map(lambda i: encode(i) if depth(i) < 8 else b"")
    ),
)
def test_invariant_6_what_a_member_signs_may_be_anything(header: bytes, records: bytes) -> None:
    """The signature holds, so the strict decoders behind it are reached."""
    try:
        block = decode_block(signed_block(header, records), FEDERATION, KEYS)
    except InputError:
        return
    assert block.header.centre == "alpha"


@given(st.binary(min_size=30, max_size=34))
def test_any_key_is_admitted_as_it_is_or_refused(data: bytes) -> None:
    with contextlib.suppress(InputError):
        assert parse_public_key(data) == data


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
CARD_FIELDS = ("p2pfed_card", "name", "public_key", "address", "credit_line", "signature")


@given(
    st.one_of(
        st.text(max_size=40),
        json_values.map(json.dumps),
        st.fixed_dictionaries(dict.fromkeys(CARD_FIELDS, json_values)).map(json.dumps),
        st.fixed_dictionaries(
            {**dict.fromkeys(CARD_FIELDS, json_values), "p2pfed_card": st.just(1)}
        ).map(json.dumps),
    )
)
def test_any_text_as_a_card_is_an_input_error(text: str) -> None:
    try:
        parse_card(text)
    except InputError:
        return
    raise AssertionError("a card without a signature was accepted")


@given(
    st.one_of(
        st.binary(max_size=200), items.map(lambda item: encode(item) if depth(item) < 9 else b"")
    )
)
def test_any_bytes_as_a_charter_are_an_input_error(data: bytes) -> None:
    try:
        decode_charter(data)
    except InputError:
        return
    raise AssertionError("a charter without founders was accepted")
