"""Bearings on disk and on the wire: `p2pfed.core.bearings`, compressed with zstd.

`state/bearings` is the newest cosigned checkpoint, for newcomers that ask; `state/base` the one
that this centre's own ledger began with, until the history is here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import zstandard

from p2pfed.core.limits import BEARINGS_BYTES_MAX
from p2pfed.errors import InputError
from p2pfed.store.files import write_durable

LEVEL: Final = 6


def pack_bearings(data: bytes) -> bytes:
    """The bytes of the file."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(data)


def unpack_bearings(packed: bytes, where: str = "") -> bytes:
    """What `pack_bearings` took.

    Raises:
        InputError: `bearings-form`.
    """
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 < size <= BEARINGS_BYTES_MAX:
            raise InputError("bearings-form", f"bearings of {size} bytes", where=where)
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except zstandard.ZstdError:
        raise InputError("bearings-form", "the bearings are damaged", where=where) from None


def keep_bearings(path: Path, data: bytes) -> None:
    """Replaces the file.

    Raises:
        StorageError: `disk-full`, `disk-error`.
    """
    write_durable(path, pack_bearings(data))
