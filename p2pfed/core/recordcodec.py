"""Records as CBOR maps: key 0 holds the record's type, the other keys its fields' numbers.

A record of an unknown type, or with a field that is missing or out of range, is `Inert`: it is kept
and counts for nothing. Many records of few types are decoded column by column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

from p2pfed.core.fields import CborItem, compile_column_decoder, compile_decoder, wire_fields
from p2pfed.core.records import RECORD_TYPES, Inert, Record
from p2pfed.errors import InputError

_NUMBERS: Final = {record_class: number for number, record_class in RECORD_TYPES.items()}
_DECODERS: Final = {
    number: compile_decoder(record_class, wire_fields(record_class), record_class.__name__)
    for number, record_class in RECORD_TYPES.items()
}
_COLUMN_DECODERS: Final = {
    number: compile_column_decoder(record_class, wire_fields(record_class))
    for number, record_class in RECORD_TYPES.items()
}
_DUMPERS: Final = {
    record_class: tuple(
        (f.number, f.name, f.kind.dump, f.optional, f.default) for f in wire_fields(record_class)
    )
    for record_class in RECORD_TYPES.values()
}


def decode_record(items: Mapping[int, CborItem]) -> Record | Inert:
    """The record that a decoded CBOR map stands for; never raises for a strange one."""
    number = items.get(0)
    decoder = _DECODERS.get(number) if type(number) is int else None
    if decoder is None:
        return Inert("record-type-unknown", f"record type {number!r}")
    try:
        record: Record = decoder(items)
    except InputError as error:
        return Inert(error.code, error.what)
    return record


def decode_columns(
    maps: Sequence[dict[int, CborItem]], *, keys_checked: bool = False
) -> list[Record] | None:
    """The records of maps of any types, if all are valid and hold nothing that is not known.

    Args:
        maps: as cbor2 read them, nothing checked; not empty.
        keys_checked: all keys are known to be integers.

    Returns:
        What `decode_record` gives for each, with every type in the maps, keys included, checked;
        None if they want looking at one by one.
    """
    # True and 1.0 equal 1, so keys are compared as such only once all are integers.
    numbers = [items.get(0) for items in maps]
    if set(map(type, numbers)) != {int}:
        return None
    if not keys_checked and set(map(type, chain.from_iterable(maps))) != {int}:
        return None
    keys = list(map(tuple, maps))
    if numbers.count(numbers[0]) == len(maps) and keys.count(keys[0]) == len(maps):
        return _decode_alike((numbers[0], keys[0]), maps)
    groups: dict[_Likeness, list[int]] = {}
    for index, like in enumerate(zip(numbers, keys, strict=True)):
        groups.setdefault(like, []).append(index)
    found: list[Any] = [None] * len(maps)
    for like, indices in groups.items():
        records = _decode_alike(like, [maps[index] for index in indices])
        if records is None:
            return None
        for index, record in zip(indices, records, strict=True):
            found[index] = record
    return found


_Likeness = tuple[Any, tuple[int, ...]]
"""The type number and the keys of a record's map."""


def _decode_alike(like: _Likeness, maps: Sequence[dict[int, CborItem]]) -> list[Record] | None:
    number, keys = like
    decoder = _COLUMN_DECODERS.get(number)
    return None if decoder is None or keys[0] != 0 else decoder(keys, maps)


def encode_record(record: Record) -> dict[int, CborItem]:
    """The CBOR map of a record: ascending keys, optional fields at their default left out."""
    items: dict[int, CborItem] = {0: _NUMBERS[type(record)]}
    for number, name, dump, optional, default in _DUMPERS[type(record)]:
        value = getattr(record, name)
        if not (optional and value == default):
            items[number] = dump(value)
    return items
