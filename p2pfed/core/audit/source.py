"""Where an audit reads: anything that gives a ledger's entries in order, and each of them again.

An export, an archive and a daemon's database all satisfy `LedgerSource`. The audit reads twice:
once in the source's own order, to learn where everything stands and how the source ends; then block
by block in the order of their times, in which rounds, days and deadlines pass as they passed. So it
never holds more than the blocks of a few rounds, whatever the order in which they were written.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final, Protocol

from p2pfed.core.blocks import peek_time
from p2pfed.core.ledgerfile import LENGTH_BYTES, Entry, Reader, Trailer, read_ledger
from p2pfed.errors import InputError

_FIRST: Final = 0


class LedgerSource(Protocol):
    """A ledger that can be read in its own order, and at any place again."""

    @property
    def name(self) -> str:
        """What findings call it."""

    def entries(self) -> Iterator[Entry | Trailer]:
        """The charter (number 0), then the blocks from 1, then the trailer if there is one.

        Raises:
            InputError: it can be read no further; what was given before stands.
        """

    def fetch(self, offset: int) -> bytes:
        """The content of the entry that has this `Entry.offset`, once more."""


class SeekableReader(Reader, Protocol):
    """A reader that can go back: an open file, `io.BytesIO`."""

    def seek(self, offset: int, /) -> int:
        """Goes to a byte of the file."""


class FileSource:
    """A ledger file (docs/reference/ledger-file.md) as a source."""

    def __init__(self, reader: SeekableReader, name: str = "") -> None:
        self._reader = reader
        self._name = name

    @property
    def name(self) -> str:
        """What findings call it."""
        return self._name

    def entries(self) -> Iterator[Entry | Trailer]:
        """As `read_ledger`.

        Raises:
            InputError: as `read_ledger`.
        """
        self._reader.seek(_FIRST)
        yield from read_ledger(self._reader)

    def fetch(self, offset: int) -> bytes:
        """The entry at this byte; it was read before, so it is there unless the file changed."""
        self._reader.seek(offset)
        size = int.from_bytes(self._exactly(LENGTH_BYTES), "big")
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = self._reader.read(size)
        while len(data) < size:
            more = self._reader.read(size - len(data))
            if not more:
                raise InputError("ledger-truncated", "the file became shorter while it was read")
            data += more
        return data


class Index:
    """Where each block of a source stands, in the order of the times that they state.

    Costs 24 bytes a block. Times are read before anything is verified: they only decide the order
    in which blocks are looked at. A block that does not tell its time keeps its place in the file.
    """

    def __init__(self) -> None:
        self._offsets = array("Q")
        self._times = array("Q")
        self._ascending = True

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, entry: Entry) -> None:
        """Notes the next block entry of the source."""
        last = self._times[-1] if self._times else 0
        try:
            time = int(peek_time(entry.data))
        except InputError:
            time = last
        self._ascending = self._ascending and time >= last
        self._offsets.append(entry.offset)
        self._times.append(time)

    def span(self) -> tuple[int, int]:
        """The least and greatest time that blocks state; (0, 0) if there is none."""
        return (min(self._times), max(self._times)) if self._times else (0, 0)

    def places(self) -> Iterator[tuple[int, int]]:
        """(entry number, offset) of every block, by time, equal times in the file's order."""
        if self._ascending:
            numbers: Iterator[int] = iter(range(len(self._offsets)))
        else:
            numbers = iter(sorted(range(len(self._times)), key=self._times.__getitem__))
        for number in numbers:
            yield number + 1, self._offsets[number]
