"""How a record's fields look on the wire: kinds, and the compiler that turns them into a decoder.

A record class is a frozen dataclass whose fields are declared with `wire(number, kind)`. The number
is the field's key in the CBOR map, the kind says which values are valid and how the Python value
maps to the CBOR item. Field numbers are never reused. A field with a default may be absent on the
wire, and is then left out when encoding. Numbers that a class does not know are ignored, so that a
newer centre can add optional fields; the received bytes are what is stored, so nothing is lost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar, cast

from p2pfed.core.ids import CENTRE_NAME, Position
from p2pfed.core.limits import EPOCH_MAX, LIST_ITEMS_MAX, SEQ_NUM_MAX, TEXT_BYTES_MAX
from p2pfed.errors import InputError

T = TypeVar("T")

CborItem = int | bytes | str | bool | None | list["CborItem"] | dict[int, "CborItem"]
"""What the codec yields: our CBOR subset as Python values."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """The valid values of a field.

    Attributes:
        name: its CDDL name, used in messages and in docs/reference/wire-format.cddl.
        parse: the Python value of a CBOR item; None if the item is not of this kind.
        dump: the CBOR item of a Python value.
    """

    name: str
    parse: Callable[[CborItem], T | None]
    dump: Callable[[T], CborItem]


def integer(name: str, low: int, high: int) -> Kind[int]:
    """Integers from `low` to `high`, both included."""

    def parse(item: CborItem) -> int | None:
        return item if type(item) is int and low <= item <= high else None

    # An IntEnum's member is an int to Python; on the wire it must be nothing else.
    return Kind(name, parse, int)


def text(name: str, valid: Callable[[str], bool]) -> Kind[str]:
    """Texts of at most TEXT_BYTES_MAX bytes that `valid` accepts."""

    def parse(item: CborItem) -> str | None:
        if type(item) is str and len(item.encode()) <= TEXT_BYTES_MAX and valid(item):
            return item
        return None

    return Kind(name, parse, lambda value: value)


def byte_string(name: str, low: int, high: int) -> Kind[bytes]:
    """Byte strings of `low` to `high` bytes, both included."""

    def parse(item: CborItem) -> bytes | None:
        return item if type(item) is bytes and low <= len(item) <= high else None

    return Kind(name, parse, lambda value: value)


def sequence_of(name: str, kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """Strictly ascending lists, so that equal sets have equal bytes."""

    def parse(item: CborItem) -> tuple[T, ...] | None:
        if type(item) is not list or len(item) > LIST_ITEMS_MAX:
            return None
        values = [kind.parse(element) for element in item]
        if None in values:
            return None
        found = cast(list[Any], values)
        if any(not a < b for a, b in pairwise(found)):
            return None
        return tuple(found)

    return Kind(name, parse, lambda value: [kind.dump(element) for element in value])


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


BOOL: Kind[bool] = Kind("bool", _parse_bool, lambda value: value)
POSITION: Kind[Position] = Kind("position", _parse_position, list)


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
