"""Files that survive power loss, and what the operating system says about them in our words.

A file is replaced by writing a temporary one beside it, syncing that, renaming it over the old one
and syncing the folder: at every moment the name leads to the old content or to the new, never to a
part of either (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from p2pfed.errors import StorageError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_full(where: Path | str) -> StorageError:
    """The error for a write that found no room; what it was part of is undone."""
    return StorageError(
        "disk-full",
        "no room is left on the disk, or a quota is used up",
        where=str(where),
        remedy="free some space; nothing acknowledged is lost and work goes on by itself",
    )


@contextmanager
def disk_errors(where: Path | str) -> Iterator[None]:
    """Turns an `OSError` of the body into a `StorageError`.

    Raises:
        StorageError: `disk-full`, or `disk-error` with what the system said.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise disk_full(where) from error
        place = error.filename if isinstance(error.filename, str) else str(where)
        raise StorageError(
            "disk-error",
            f"the file system refused: {error.strerror or error}",
            where=place,
            remedy="check that the path exists, its permissions, and the disk's health",
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes the folder's list of names durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Makes the file's content durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Makes every regular file and folder below `root`, and `root` itself, durable.

    Links are not followed. The innermost folders are synced first.
    """
    if not root.is_dir() or root.is_symlink():
        sync_file(root)
        return
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                sync_file(path)
        sync_folder(Path(folder))


def make_folder(folder: Path) -> None:
    """Makes the folder and its missing parents, closed to others (mode 0700), durably."""
    missing = [folder, *folder.parents]
    missing = [path for path in missing if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        sync_folder(path.parent)


def write_durable(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replaces the file by `data`, atomically and durably; the old content stays on any error.

    Raises:
        StorageError: `disk-full` or `disk-error`.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors(path):
        try:
            # An earlier crash may have left one; a link planted there must not be followed.
            with suppress(FileNotFoundError):
                temporary.unlink()
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                written = 0
                while written < len(data):
                    written += os.write(descriptor, data[written:])
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
