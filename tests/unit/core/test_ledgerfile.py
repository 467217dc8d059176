"""A ledger file is read back as it was written, and a damaged one is refused at a place."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.core.charter import encode_charter
from p2pfed.core.codec import encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ledgerfile import ENTRY_BYTES_MAX, MAGIC, Entry, Trailer, read_ledger
from p2pfed.errors import InputError
from tests.unit.core.ledgers import World, good_world

WORLD = good_world()
GOOD = WORLD.export()
TRAILER_AT = GOOD.rindex(WORLD.blocks[-1].data) + len(WORLD.blocks[-1].data) + 4


class Trickle:
    """A reader that gives one byte at a time, as a slow socket may."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, 1))


def read(data: bytes) -> list[Entry | Trailer]:
    return list(read_ledger(io.BytesIO(data)))


def with_trailer(item: CborItem) -> bytes:
    trailer = encode(item)
    return GOOD[:TRAILER_AT] + len(trailer).to_bytes(4, "big") + trailer


def test_what_was_written_is_read_in_the_same_order() -> None:
    charter, *blocks, trailer = read(GOOD)
    assert isinstance(charter, Entry)
    assert charter.data == encode_charter(WORLD.charter)
    assert [b.data for b in blocks if isinstance(b, Entry)] == [b.data for b in WORLD.blocks]
    assert trailer == Trailer(len(WORLD.blocks), WORLD.frontier())


def test_entries_know_their_number_and_place_in_the_file() -> None:
    for number, entry in enumerate(read(GOOD)[:-1]):
        assert isinstance(entry, Entry)
        assert entry.number == number
        length = int.from_bytes(GOOD[entry.offset : entry.offset + 4], "big")
        assert GOOD[entry.offset + 4 : entry.offset + 4 + length] == entry.data


def test_a_slow_reader_gives_the_same() -> None:
    assert list(read_ledger(Trickle(GOOD))) == read(GOOD)


def test_a_ledger_without_blocks_is_a_ledger() -> None:
    assert len(read(World().export())) == 2


def test_what_stands_before_the_damage_is_read() -> None:
    entries = read_ledger(io.BytesIO(GOOD[:-1]))
    found = list(itertools.islice(entries, len(WORLD.blocks) + 1))
    assert len(found) == len(WORLD.blocks) + 1
    with pytest.raises(InputError, match="1 bytes early"):
        next(entries)


HEAD: list[CborItem] = ["alpha", 0, 3, bytes(32)]

BAD_FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("ledger-magic", lambda: b""),
    "half a magic": ("ledger-magic", lambda: MAGIC[:7]),
    "a later version": ("ledger-magic", lambda: GOOD.replace(b"ledger 1", b"ledger 2", 1)),
    "only the magic": ("ledger-truncated", lambda: MAGIC),
    "no charter": ("ledger-entry-size", lambda: MAGIC + bytes(8)),
    "cut inside a length": ("ledger-truncated", lambda: GOOD[:18]),
    "cut inside a block": ("ledger-truncated", lambda: GOOD[: len(GOOD) // 2]),
    "cut before the trailer": ("ledger-truncated", lambda: GOOD[:TRAILER_AT]),
    "cut inside the trailer": ("ledger-truncated", lambda: GOOD[:-5]),
    "a length without end": ("ledger-entry-size", lambda: MAGIC + b"\xff\xff\xff\xff" + GOOD),
    "a length just over the limit": (
        "ledger-entry-size",
        lambda: MAGIC + (ENTRY_BYTES_MAX + 1).to_bytes(4, "big"),
    ),
    "bytes after the trailer": ("ledger-trailing-bytes", lambda: GOOD + b"\n"),
    "a huge trailer": ("ledger-trailer", lambda: GOOD[:TRAILER_AT] + b"\x7f\xff\xff\xff"),
    "a trailer that is not CBOR": (
        "ledger-trailer",
        lambda: GOOD[:TRAILER_AT] + b"\x00\x00\x00\x01\xff",
    ),
    "a trailer of another type": ("ledger-trailer", lambda: with_trailer([1, 2])),
    "a trailer with a further field": ("ledger-trailer", lambda: with_trailer({0: 1, 1: [], 2: 3})),
    "a trailer that counts true": ("ledger-trailer", lambda: with_trailer({0: True, 1: []})),
    "a head without an epoch": ("ledger-trailer", lambda: with_trailer({0: 1, 1: [HEAD[:3]]})),
    "a head of a strange name": (
        "ledger-trailer",
        lambda: with_trailer({0: 1, 1: [["Alpha", *HEAD[1:]]]}),
    ),
    "a head below the first block": (
        "ledger-trailer",
        lambda: with_trailer({0: 1, 1: [["alpha", 0, -1, bytes(32)]]}),
    ),
    "a feed twice": ("ledger-trailer", lambda: with_trailer({0: 1, 1: [HEAD, HEAD]})),
    "feeds out of order": (
        "ledger-trailer",
        lambda: with_trailer({0: 1, 1: [["beta", *HEAD[1:]], HEAD]}),
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_of_another_form_is_refused(case: str) -> None:
    code, make = BAD_FILES[case]
    with pytest.raises(InputError) as caught:
        read(make())
    assert caught.value.code == code


@given(st.binary(max_size=200), st.integers(0, len(GOOD)))
def test_strange_bytes_are_read_or_refused_and_nothing_else(data: bytes, kept: int) -> None:
    for strange in (data, MAGIC + data, GOOD[:kept] + data):
        with suppress(InputError):
            read(strange)
