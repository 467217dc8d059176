"""A record is read as its author meant it, or it is inert and says why."""

from __future__ import annotations

import pytest

from p2pfed.core.fields import CborItem, Kind, wire_fields
from p2pfed.core.kinds import ADDRESS, CENTRES, LINE, WORD, WORDS
from p2pfed.core.recordcodec import decode_record, encode_record
from p2pfed.core.records import (
    RECORD_TYPES,
    Contact,
    ForkProof,
    Inert,
    Record,
)
from tests.examples import EXAMPLES

ALL = (*EXAMPLES, ForkProof(first=b"a", second=b"b"))


@pytest.mark.parametrize("record", ALL, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_from_its_map(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


def test_the_examples_cover_every_type() -> None:
    assert {type(record) for record in ALL} == set(RECORD_TYPES.values())


def test_a_field_that_a_newer_centre_added_is_ignored() -> None:
    items: dict[int, CborItem] = {**encode_record(EXAMPLES[0]), 23: "new"}
    assert decode_record(items) == EXAMPLES[0]


def test_an_optional_field_at_its_default_is_left_out_and_read_either_way() -> None:
    for record_class in RECORD_TYPES.values():
        for field in wire_fields(record_class):
            record = next(example for example in ALL if type(example) is record_class)
            items = encode_record(record)
            items.pop(field.number, None)
            found = decode_record(items)
            if field.optional:
                assert getattr(found, field.name) == field.default
                assert encode_record(found) == items  # type: ignore[arg-type]  # not Inert
            else:
                assert isinstance(found, Inert)
                assert found.code == "record-field-missing"


@pytest.mark.parametrize(
    "items", [{}, {0: 0}, {0: 99}, {0: None}, {0: "1"}, {0: [1]}, {0: True}], ids=repr
)
def test_a_record_of_an_unknown_type_is_inert(items: dict[int, CborItem]) -> None:
    found = decode_record(items)
    assert isinstance(found, Inert)
    assert found.code == "record-type-unknown"


def test_a_field_of_a_wrong_kind_names_itself() -> None:
    found = decode_record({0: 1, 1: 5})
    assert isinstance(found, Inert)
    assert found.code == "record-field-value"
    assert "address (key 1)" in found.detail


@pytest.mark.parametrize(
    ("kind", "value", "valid"),
    [
        (WORD, "cuda-12.4+x", True),
        (WORD, "", False),
        (WORD, "Upper", False),
        (WORD, "a\n", False),
        (WORD, "a" * 65, False),
        (LINE, "", True),
        (LINE, "Zürich, 日本 🙂", True),
        (LINE, "\u0378", True),  # unassigned in every Unicode version known so far
        (LINE, "two\nlines", False),
        (LINE, "\x1b[31m", False),
        (LINE, "\u202eoverride", False),
        (LINE, "\u2028", False),
        (LINE, "ü" * 129, False),
        (ADDRESS, "a.b:1", True),
        (ADDRESS, "[::1]:7411", True),
        (ADDRESS, "a b:1", False),
        (ADDRESS, "a:1\n", False),
        (WORDS, [], True),
        (WORDS, ["a", "b"], True),
        (WORDS, ["b", "a"], False),
        (WORDS, ["a", "a"], False),
        (WORDS, [f"w{n:02}" for n in range(65)], False),
        (CENTRES, ["Alpha"], False),
        (CENTRES, [None], False),
    ],
)
def test_kinds_admit_exactly_what_the_page_says(
    kind: Kind[object], value: CborItem, valid: bool
) -> None:
    assert (kind.parse(value) is not None) == valid


def test_contacts_are_compared_by_value() -> None:
    assert Contact(address="a:1") == Contact(address="a:1")
