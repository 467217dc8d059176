"""Records of many are decoded field by field: with the very result of looking at each."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.blocks import decode_block
from p2pfed.core.codec import decode, encode
from p2pfed.core.limits import RECORDS_BYTES_MAX
from p2pfed.core.recordcodec import decode_columns, decode_record, encode_record
from p2pfed.core.records import (
    ForkProof,
    Inert,
    Record,
)
from p2pfed.errors import InputError
from tests.bad_blocks import HEADER, signed
from tests.examples import EXAMPLES
from tests.writers import FEDERATION, keys_of

ALL: tuple[Record, ...] = (*EXAMPLES, ForkProof(first=b"a", second=b"b"))
KEYS = keys_of("alpha", "beta")

ODD: tuple[object, ...] = (
    *(True, False, None, 0, -1, 1 << 63, 1.0, "", "a", "Ü", "x" * 300, b"", bytes(32), [], {}, [1]),
    *(["alpha", 0, 0, 0], ["alpha", True, 0, 0], ["alpha", 0, 0, 65_536], ["Alpha", 0, 0, 0]),
    *(["a", "b"], ["b", "a"], ["a", "a"], [["a"]], {0: 1}),
)
odd = st.sampled_from(ODD)
odd_keys = st.sampled_from([True, 1.0, 0, 1, 7, 18, 23, 24, -1, "1", None])


@st.composite
def damaged_maps(draw: st.DrawFn) -> list[dict[Any, Any]]:
    """The maps of some records, a few of them with another value or key."""
    records = draw(st.lists(st.sampled_from(ALL), min_size=1, max_size=12))
    maps: list[dict[Any, Any]] = [dict(encode_record(record)) for record in records]
    for _ in range(draw(st.integers(0, 2))):
        items = draw(st.sampled_from(maps))
        key = draw(st.one_of(st.sampled_from(sorted(items, key=repr)), odd_keys))
        if draw(st.booleans()):
            items.pop(key, None)
        else:
            items[key] = draw(odd)
    return maps


@settings(max_examples=400)
@given(damaged_maps())
def test_invariant_4_columns_give_what_one_by_one_gives_or_nothing(
    maps: list[dict[Any, Any]],
) -> None:
    found = decode_columns(maps)
    if found is not None:
        assert found == [decode_record(items) for items in maps]
        assert all(encode(items) for items in maps)


@given(st.lists(st.sampled_from(ALL), min_size=1, max_size=40))
def test_records_that_are_valid_are_decoded_in_columns(records: list[Record]) -> None:
    assert decode_columns([encode_record(record) for record in records]) == records


def one_by_one(records: bytes) -> tuple[Record | Inert, ...] | None:
    """What the decoders that look at each record make of it; None if the block is refused."""
    try:
        items = decode(records, limit=RECORDS_BYTES_MAX)
    except InputError:
        return None
    assert isinstance(items, list)
    return tuple(decode_record(item) for item in items if isinstance(item, dict))


@settings(max_examples=400)
@given(damaged_maps(), st.integers(1, 8), st.integers(0, 4))
def test_invariant_4_a_block_of_many_records_is_read_as_one_of_few(
    maps: list[dict[Any, Any]], copies: int, overlong: int
) -> None:
    """`overlong` writes some of its small integers in more bytes than they need."""
    records = cbor2.dumps(maps * copies).replace(b"\x00\x00", b"\x00\x18\x00", overlong)
    header = encode({**HEADER, 7: sha256(records).digest()})
    try:
        found = decode_block(signed(header, records), FEDERATION, KEYS).records
    except InputError:
        assert one_by_one(records) is None
    else:
        assert found == one_by_one(records)
