"""Streams of bytes from the daemon into files or to standard output.

A file appears under its name only when all of it has come: an interrupted download leaves nothing
that could be taken for the whole.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from p2pfed.cli.session import refuse_existing
from p2pfed.cli.tables import console
from p2pfed.store.files import disk_errors


def save(
    pieces: Iterable[bytes], path: Path, *, what: str, size: int | None = None, force: bool = False
) -> int:
    """Writes the pieces to `path` (`-`: standard output) and returns their size.

    Args:
        what: named in the progress display, which appears on a terminal.
        size: the expected size, if it is known.

    Raises:
        InputError: `file-exists`.
        StorageError: `disk-full`, `disk-error`.
    """
    if str(path) == "-":
        return _copy(pieces, sys.stdout.buffer)
    if not force:
        refuse_existing(path)
    with disk_errors(path), _temporary(path) as (file, name):
        with _progress() as progress:
            task = progress.add_task(what, total=size)
            written = _copy(_counted(pieces, progress, task), file)
        file.close()
        name.replace(path)
    return written


def _copy(pieces: Iterable[bytes], file: BinaryIO) -> int:
    written = 0
    for piece in pieces:
        file.write(piece)
        written += len(piece)
    file.flush()
    return written


def _counted(pieces: Iterable[bytes], progress: Progress, task: object) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        progress.update(task, advance=len(piece))  # type: ignore[arg-type]


def _progress() -> Progress:
    watcher = console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=watcher,
        transient=True,
        disable=not watcher.is_terminal,
    )


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(descriptor, 0o666 & ~umask)
        with os.fdopen(descriptor, "wb") as file:
            yield file, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
