"""How a record's fields look on the wire: kinds, and the compilers that turn them into decoders.

A record class is a frozen dataclass whose fields are declared with `wire(number, kind)`. The number
is the field's key in the CBOR map, the kind says which values are valid and how the Python value
maps to the CBOR item. Field numbers are never reused. A field with a default may be absent on the
wire, and is then left out when encoding. Numbers that a class does not know are ignored, so that a
newer centre can add optional fields; the received bytes are what is stored, so nothing is lost.

A block holds many records of few types, so records of one type with the same keys are also decoded
together, field by field: one pass at C speed checks a whole column of values. That path takes only
what is right in every field; whatever it turns down goes record by record through the decoder that
can tell what is wrong. Both accept the same values, which a property test holds.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from itertools import pairwise, repeat
from typing import Any, Generic, TypeVar, cast

from p2pfed.core.ids import CENTRE_NAME, Position
from p2pfed.core.limits import EPOCH_MAX, LIST_ITEMS_MAX, SEQ_NUM_MAX, TEXT_BYTES_MAX
from p2pfed.errors import InputError

T = TypeVar("T")

CborItem = int | bytes | str | bool | None | list["CborItem"] | dict[int, "CborItem"]
"""What the codec yields: our CBOR subset as Python values."""

Column = Sequence[Any]
"""The items that stand under one key in several records."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """The valid values of a field.

    Attributes:
        name: its CDDL name, used in messages and in docs/reference/wire-format.cddl.
        parse: the Python value of a CBOR item; None if the item is not of this kind.
        parse_all: the values of a column of items, at least one; None if `parse` would refuse any.
        dump: the CBOR item of a Python value.
    """

    name: str
    parse: Callable[[CborItem], T | None]
    parse_all: Callable[[Column], Sequence[T] | None]
    dump: Callable[[T], CborItem]


def integer(name: str, low: int, high: int) -> Kind[int]:
    """Integers from `low` to `high`, both included."""

    def parse(item: CborItem) -> int | None:
        return item if type(item) is int and low <= item <= high else None

    def parse_all(items: Column) -> Column | None:
        return items if _all_integers(items, low, high) else None

    # An IntEnum's member is an int to Python; on the wire it must be nothing else.
    return Kind(name, parse, parse_all, int)


def _all_integers(items: Column, low: int, high: int) -> bool:
    return set(map(type, items)) == {int} and min(items) >= low and max(items) <= high


def text(name: str, valid: Callable[[str], bool]) -> Kind[str]:
    """Texts of at most TEXT_BYTES_MAX bytes that `valid` accepts."""

    def parse(item: CborItem) -> str | None:
        if type(item) is str and len(item.encode()) <= TEXT_BYTES_MAX and valid(item):
            return item
        return None

    def parse_all(items: Column) -> Column | None:
        if set(map(type, items)) != {str}:
            return None
        same = dict(zip(items, items, strict=True))
        return _shared(items, same) if all(parse(item) is not None for item in same) else None

    return Kind(name, parse, parse_all, lambda value: value)


def byte_string(name: str, low: int, high: int) -> Kind[bytes]:
    """Byte strings of `low` to `high` bytes, both included."""

    def parse(item: CborItem) -> bytes | None:
        return item if type(item) is bytes and low <= len(item) <= high else None

    def parse_all(items: Column) -> Column | None:
        if set(map(type, items)) == {bytes}:
            sizes = set(map(len, items))
            if low <= min(sizes) and max(sizes) <= high:
                return _shared(items, dict(zip(items, items, strict=True)))
        return None

    return Kind(name, parse, parse_all, lambda value: value)


def sequence_of(name: str, kind: Kind[T], items_max: int = LIST_ITEMS_MAX) -> Kind[tuple[T, ...]]:
    """Strictly ascending lists of at most `items_max`, so that equal sets have equal bytes."""

    def parse(item: CborItem) -> tuple[T, ...] | None:
        if type(item) is not list or len(item) > items_max:
            return None
        values = [kind.parse(element) for element in item]
        if None in values:
            return None
        found = cast(list[Any], values)
        if any(not a < b for a, b in pairwise(found)):
            return None
        return tuple(found)

    def parse_all(items: Column) -> Column | None:
        return _all_or_none(list(map(parse, items)))

    return Kind(name, parse, parse_all, lambda value: [kind.dump(element) for element in value])


def _shared(items: Column, same: dict[Any, Any]) -> Column:
    """The column with one object for equal items: a name that stands in all is held once."""
    return items if len(same) == len(items) else list(map(same.__getitem__, items))


def _all_or_none(values: Column) -> Column | None:
    return None if None in values else values


def _parse_bool(item: CborItem) -> bool | None:
    return item if type(item) is bool else None


def _parse_position(item: CborItem) -> Position | None:
    if type(item) is not list or len(item) != 4:
        return None
    centre, epoch, seq_num, index = item
    if (
        type(centre) is str
        and type(epoch) is int
        and type(seq_num) is int
        and type(index) is int
        and 0 <= epoch <= EPOCH_MAX
        and 0 <= seq_num <= SEQ_NUM_MAX
        and 0 <= index <= 65535
        and CENTRE_NAME.match(centre)
    ):
        # Half the cost of a call of Position, and most records hold one or two.
        return tuple.__new__(Position, item)
    return None


def _parse_all_bools(items: Column) -> Column | None:
    return items if set(map(type, items)) == {bool} else None


def _parse_all_positions(items: Column) -> list[Position] | None:
    if set(map(type, items)) != {list} or set(map(len, items)) != {4}:
        return None
    centres, epochs, seq_nums, indices = zip(*items, strict=True)
    if set(map(type, centres)) != {str}:
        return None
    names = dict(zip(centres, centres, strict=True))
    if (
        all(map(CENTRE_NAME.match, names))
        and _all_integers(epochs, 0, EPOCH_MAX)
        and _all_integers(seq_nums, 0, SEQ_NUM_MAX)
        and _all_integers(indices, 0, 65535)
    ):
        numbers = _shared(seq_nums, dict(zip(seq_nums, seq_nums, strict=True)))
        return list(
            Position.each(zip(_shared(centres, names), epochs, numbers, indices, strict=True))
        )
    return None


BOOL: Kind[bool] = Kind("bool", _parse_bool, _parse_all_bools, lambda value: value)
POSITION: Kind[Position] = Kind("position", _parse_position, _parse_all_positions, list)


_ABSENT: Any = object()


def wire(number: int, kind: Kind[T], **options: T) -> T:
    """Declares a record field: its key on the wire, its kind and perhaps `default=`."""
    metadata = {"number": number, "kind": kind}
    if "default" in options:
        return dataclasses.field(default=options["default"], metadata=metadata)
    return cast(T, dataclasses.field(metadata=metadata))


@dataclass(frozen=True, slots=True)
class WireField:
    """One declared field, as the decoder and the documentation check see it."""

    name: str
    number: int
    kind: Kind[Any]
    optional: bool
    default: Any


def wire_fields(record_class: type[Any]) -> tuple[WireField, ...]:
    """The wire fields of a record class, by number."""
    found = (
        WireField(
            field.name,
            field.metadata["number"],
            field.metadata["kind"],
            field.default is not MISSING,
            None if field.default is MISSING else field.default,
        )
        for field in dataclasses.fields(record_class)
    )
    return tuple(sorted(found, key=lambda f: f.number))


def compile_decoder(
    record_class: Callable[..., T], fields: Iterable[WireField], title: str
) -> Callable[[Mapping[int, CborItem]], T]:
    """A function from a CBOR map to a record.

    It raises `InputError` with code `record-field-missing` or `record-field-value`.
    """
    plan = tuple((f.name, f.number, f.kind.parse, f.optional, f.kind.name) for f in fields)

    def decode(items: Mapping[int, CborItem]) -> T:
        values: dict[str, Any] = {}
        for name, number, parse, optional, kind_name in plan:
            item = items.get(number, _ABSENT)
            if item is _ABSENT:
                if optional:
                    continue
                raise InputError("record-field-missing", f"{title} lacks {name} (key {number})")
            value = parse(item)
            if value is None:
                raise InputError(
                    "record-field-value",
                    f"{title} has a {name} (key {number}) that is not {kind_name}",
                )
            values[name] = value
        return record_class(**values)

    return decode


def compile_column_decoder(
    record_class: type[T], fields: Iterable[WireField]
) -> Callable[[Sequence[int], Sequence[Mapping[int, CborItem]]], list[T] | None]:
    """A function from CBOR maps with the same keys, in ascending order, to their records.

    It returns None if a record lacks a field, has one that is not known or not valid, or if the
    keys don't ascend: then the maps want looking at one by one.
    """
    fields = tuple(fields)
    # A frozen dataclass writes its slots one call at a time; the slots themselves take a column.
    plan = {f.number: (f.kind.parse_all, getattr(record_class, f.name).__set__) for f in fields}
    required = {f.number for f in fields if not f.optional}
    optional = tuple((f.number, plan[f.number][1], f.default) for f in fields if f.optional)

    def decode(keys: Sequence[int], maps: Sequence[Mapping[int, CborItem]]) -> list[T] | None:
        if not required.issubset(keys) or any(not a < b for a, b in pairwise(keys)):
            return None
        columns = zip(keys, zip(*[items.values() for items in maps], strict=True), strict=True)
        next(columns)  # the record's type, under key 0
        records = list(map(object.__new__, repeat(record_class, len(maps))))
        for number, column in columns:
            parse_all, fill = plan.get(number, _UNKNOWN)
            values = parse_all(column)
            if values is None:
                return None
            _run(map(fill, records, values))
        for number, fill, default in optional:
            if number not in keys:
                _run(map(fill, records, repeat(default)))
        return records

    return decode


def _unknown_field(_column: Column) -> None:
    return None


_UNKNOWN: Any = (_unknown_field, None)
_run: Callable[[Iterable[object]], None] = deque[object](maxlen=0).extend
"""Exhausts an iterator at C speed and keeps nothing."""
