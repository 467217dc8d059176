"""CBOR, of which only the part that has one encoding for each value.

Ids are hashes of bytes and state is computed from values, so two byte strings for one value, or two
readings of one byte string, would let replicas part. What is encoded here follows the Core
Deterministic Encoding Requirements (RFC 8949 section 4.2.1), restricted to integers of -2^64 to
2^64 - 1 (major types 0 and 1), byte strings, texts, arrays, maps whose keys are the integers 0 to
23, true, false and null. No floats, tags, undefined, other simple values or indefinite lengths.
Keys of one byte sort alike by length and by content, so both orders in use for CBOR maps agree.

Decoding is strict in two steps: cbor2 reads the item, every type in it is checked, then the item is
encoded again and must give the same bytes. The second step finds what is lost on reading: lengths
and integers that are longer than need be, indefinite lengths, duplicate keys, trailing bytes. Tags
are refused while reading, because some cost far more to read than to send (shared references that
expand, fractions of huge integers, regular expressions).

Checking types one by one costs more than reading. Who knows what an item must look like, as the
decoders of blocks do, reads with `decode_unchecked`, checks the types of what it looks for, and
leaves everything else, and every refusal, to `decode`.
"""

from __future__ import annotations

from typing import Final, NoReturn

import cbor2

from p2pfed.core.fields import CborItem
from p2pfed.core.limits import NESTING_MAX
from p2pfed.errors import InputError, StateError

_SCALARS: Final = frozenset({int, bytes, str, bool, type(None)})
_TYPES: Final = _SCALARS | {list, dict}
_KEYS: Final = frozenset(range(24))
_INT_MIN: Final = -(1 << 64)
_INT_MAX: Final = (1 << 64) - 1


def _refuse_tag(_decoder: cbor2.CBORDecoder, *_arguments: object) -> NoReturn:
    raise ValueError("tags are not part of the format")


# Every tag that cbor2 acts upon; any other tag comes out as a CBORTag and fails the type check.
_TAGS: Final = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799),
    _refuse_tag,
)


def encode(item: CborItem) -> bytes:
    """The one encoding of `item`; map keys are put in ascending order.

    Raises:
        StateError: `cbor-item`: the item lies outside the subset, which is a bug of the caller.
    """
    try:
        _check_types(item, ordered=False)
    except InputError as error:
        raise StateError("cbor-item", f"this value has no encoding here: {error.what}") from error
    return cbor2.dumps(item, canonical=True)


def decode(data: bytes, *, limit: int, where: str = "") -> CborItem:
    """The item that `data` is the deterministic encoding of.

    Args:
        data: a stranger's bytes.
        limit: the greatest length in bytes that is read at all.
        where: what the bytes are, for the error message.

    Raises:
        InputError: `cbor-too-long`, `cbor-malformed`, `cbor-depth`, `cbor-type`, `cbor-key`,
            `cbor-trailing` or `cbor-not-deterministic`.
    """
    if len(data) > limit:
        what = f"{len(data)} bytes, at most {limit} are read"
        raise InputError("cbor-too-long", what, where=where)
    item = decode_unchecked(data, where=where)
    _check_types(item, ordered=True, where=where)
    again = cbor2.dumps(item)
    if again != data:
        if data.startswith(again):
            raise InputError("cbor-trailing", "there are bytes after the CBOR item", where=where)
        raise InputError(
            "cbor-not-deterministic",
            "the CBOR item is not in its deterministic form (RFC 8949 section 4.2.1)",
            where=where,
        )
    return item


def decode_unchecked(data: bytes, *, where: str = "") -> CborItem:
    """What cbor2 reads in `data`: of any type but a tag, in any encoding.

    It is what `decode` gives if every type in it, keys included, is exactly one of the subset, map
    keys ascend, and `encodes_to(item, data)`.

    Raises:
        InputError: `cbor-malformed`, `cbor-depth` or `cbor-type`.
    """
    try:
        item: CborItem = cbor2.loads(data, max_depth=NESTING_MAX, semantic_decoders=_TAGS)
    except (MemoryError, RecursionError):  # this machine's trouble, no verdict on the bytes
        raise
    except Exception as error:  # noqa: BLE001  # whatever else it raises, the bytes are at fault
        _refuse(error, where)
    return item


def encodes_to(item: CborItem, data: bytes) -> bool:
    """Whether `data` is the deterministic encoding of an item whose types were checked."""
    return bool(cbor2.dumps(item) == data)


def _refuse(error: Exception, where: str) -> NoReturn:
    if isinstance(error, cbor2.CBORDecodeError):
        if "nesting depth" in str(error):
            what = f"arrays and maps are nested more than {NESTING_MAX} deep"
            raise InputError("cbor-depth", what, where=where) from error
        if "semantic tag" in str(error):
            raise InputError("cbor-type", "tags are not part of the format", where=where) from error
    raise InputError("cbor-malformed", f"not one CBOR item: {error}", where=where) from error


def _check_types(item: CborItem, *, ordered: bool, where: str = "") -> None:
    """Refuses what lies outside the subset, level by level; one pass at C speed for each level."""
    level: list[CborItem] = [item]
    keys: list[int] = []
    for _depth in range(NESTING_MAX + 1):
        kinds = set(map(type, level))
        if not kinds <= _TYPES:
            names = ", ".join(sorted(kind.__name__ for kind in kinds - _TYPES))
            raise InputError("cbor-type", f"{names} is not part of the format", where=where)
        if not ordered and int in kinds:
            _check_integers(level)
        if kinds <= _SCALARS:
            break
        deeper: list[CborItem] = []
        for found in [element for element in level if type(element) is list]:
            deeper += found
        for entries in [element for element in level if type(element) is dict]:
            if not _KEYS.issuperset(entries):
                raise InputError("cbor-key", "map keys are integers from 0 to 23", where=where)
            if ordered and (order := list(entries)) != sorted(order):
                raise InputError(
                    "cbor-not-deterministic", "map keys are not in ascending order", where=where
                )
            keys += entries
            deeper += entries.values()
        level = deeper
    else:
        raise InputError("cbor-depth", f"nested more than {NESTING_MAX} deep", where=where)
    # True and 1.0 equal 1, so membership alone would let them pass as keys.
    if keys and set(map(type, keys)) != {int}:
        raise InputError("cbor-key", "map keys are integers from 0 to 23", where=where)


def _check_integers(level: list[CborItem]) -> None:
    """Decoded integers are in range because bignum tags are refused; ours may not be."""
    if any(type(e) is int and not _INT_MIN <= e <= _INT_MAX for e in level):
        raise InputError("cbor-type", "an integer beyond 64 bits is not part of the format")
