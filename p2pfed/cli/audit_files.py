"""Ledger files for the commands that read them."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from p2pfed.cli.session import read_bytes
from p2pfed.core.audit import FileSource
from p2pfed.core.charter import decode_charter
from p2pfed.core.ids import FederationId
from p2pfed.errors import InputError
from p2pfed.store.segments import is_segment, joined

_BUFFER_BYTES: Final = 1 << 20


@contextmanager
def opened_ledger(path: Path) -> Iterator[FileSource]:
    """A ledger that can be read twice; `-`, or a pipe, is copied to a temporary file first.

    Raises:
        InputError: as `ledger_file`.
    """
    with ledger_file(path) as file:
        if file.seekable():
            yield FileSource(file, str(path))
            return
        with tempfile.TemporaryFile(prefix="p2pfed-audit-") as copy:
            shutil.copyfileobj(file, copy, _BUFFER_BYTES)
            yield FileSource(copy, str(path))


def ledger_file(path: Path) -> BinaryIO:
    """The bytes of a ledger: an export, an archive segment, or a folder of segments; `-` is stdin.

    Raises:
        InputError: `file-unreadable`, or as `p2pfed.store.segments.joined`.
        StorageError: an archive segment can't be read.
    """
    if path.is_dir() or is_segment(path):
        return joined(path)
    try:
        return sys.stdin.buffer if str(path) == "-" else path.open("rb", buffering=_BUFFER_BYTES)
    except OSError as error:
        raise InputError(
            "file-unreadable",
            f"the file can't be read: {error.strerror}",
            where=str(path),
            remedy="check the path and its permissions",
        ) from error


def federation_of(path: Path) -> FederationId:
    """The federation of a charter file.

    Raises:
        InputError: `file-unreadable`, or as `decode_charter`.
    """
    return decode_charter(read_bytes(path, "the charter"), where=str(path)).federation_id
