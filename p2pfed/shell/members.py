"""Files below one folder, reached without ever following a link.

What a guest's job leaves behind and what a peer sends are both a stranger's. A path is therefore
walked folder by folder from an open root (openat with O_NOFOLLOW, so that no exchange of a folder
for a link in between can lead out), names are checked before they touch the file system, and only
regular files are opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from p2pfed.core.limits import MEMBER_DEPTH_MAX, MEMBER_PATH_BYTES_MAX
from p2pfed.errors import InputError

NAME_BYTES_MAX: Final = 255
WALK_MAX: Final = 100_000
"""Names that a walk looks at; what a folder holds beyond is not seen."""

_NOT_REGULAR: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO})
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_member_path(path: str) -> str:
    """The path, if it can only lead to a file below its root.

    It is relative, with `/` between names; no name is empty, `.` or `..`; no control characters;
    valid UTF-8 within the limits.

    Raises:
        InputError: `archive-path`.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise _bad_path(path, "it is not valid UTF-8") from None
    names = path.split("/")
    if len(encoded) > MEMBER_PATH_BYTES_MAX:
        raise _bad_path(path, f"it is longer than {MEMBER_PATH_BYTES_MAX} bytes")
    if len(names) > MEMBER_DEPTH_MAX:
        raise _bad_path(path, f"it is deeper than {MEMBER_DEPTH_MAX} folders")
    if path.startswith("/"):
        raise _bad_path(path, "it is absolute")
    for name in names:
        if name in ("", ".", ".."):
            raise _bad_path(path, f"it has a part {name!r}")
        if len(name.encode()) > NAME_BYTES_MAX:
            raise _bad_path(path, f"a part is longer than {NAME_BYTES_MAX} bytes")
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise _bad_path(path, "it holds a control character")
    return path


def _bad_path(path: str, why: str) -> InputError:
    return InputError(
        "archive-path",
        f"{path[:80]!r} can't name a file here: {why}",
        remedy="use a relative path of plain names",
    )


@dataclass(frozen=True, slots=True)
class Found:
    """Something that a walk met: its path and what it is (link, pipe, file; not a folder)."""

    path: str
    status: os.stat_result

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)


class Members:
    """The files below `root`, by relative path."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open_read(self, path: str) -> int:
        """A descriptor of the regular file `path`, for reading.

        Raises:
            InputError: `archive-path`, `archive-member-type`.
            OSError: as the system says.
        """
        with self._folder_of(path, create=False) as folder:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return _open_regular(path, flags, 0, folder)

    def open_write(self, path: str, *, executable: bool = False) -> int:
        """A descriptor of the file `path`, made if it is not there, for reading and writing.

        Folders on the way are made. What is there already is kept, so that a transfer can go on.

        Raises:
            InputError: `archive-path`, `archive-member-type` (a link, or a file with other names).
            OSError: as the system says.
        """
        with self._folder_of(path, create=True) as folder:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            mode = 0o700 if executable else 0o600
            descriptor = _open_regular(path, flags, mode, folder)
            if os.fstat(descriptor).st_nlink != 1:
                os.close(descriptor)
                raise _wrong_type(path, "has other names")
            return descriptor

    def walk(self) -> list[Found]:
        """Everything below the root that is not a folder, by path; links are told, not followed.

        Folders that can't be read, and what lies deeper than a path may reach, are left out.
        """
        found: list[Found] = []
        pending = [""]
        seen = 0
        while pending and seen < WALK_MAX:
            inner = pending.pop()
            for path, status in self._listed(inner, WALK_MAX - seen):
                seen += 1
                if not stat.S_ISDIR(status.st_mode):
                    found.append(Found(path, status))
                elif path.count("/") + 1 < MEMBER_DEPTH_MAX:
                    pending.append(path)
        return sorted(found, key=lambda f: f.path)

    def _listed(self, inner: str, limit: int) -> Iterator[tuple[str, os.stat_result]]:
        try:
            # The walked names come from the folder itself, so they need no check; links do.
            with (
                self._open_folder(inner.split("/") if inner else [], create=False) as folder,
                os.scandir(folder) as entries,
            ):
                for entry in islice(entries, limit):
                    path = f"{inner}/{entry.name}" if inner else entry.name
                    yield path, entry.stat(follow_symlinks=False)
        except (OSError, InputError):
            return

    @contextmanager
    def _folder_of(self, path: str, *, create: bool) -> Iterator[int]:
        names = check_member_path(path).split("/")
        with self._open_folder(names[:-1], create=create) as folder:
            yield folder

    @contextmanager
    def _open_folder(self, names: list[str], *, create: bool) -> Iterator[int]:
        folder = os.open(self.root, _FOLDER)
        try:
            for name in names:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=folder)
                try:
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                except NotADirectoryError:
                    raise _wrong_type("/".join(names), "passes through what is no folder") from None
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


def _open_regular(path: str, flags: int, mode: int, folder: int) -> int:
    try:
        descriptor = os.open(path.rpartition("/")[2], flags, mode, dir_fd=folder)
    except OSError as error:
        if error.errno in _NOT_REGULAR:
            raise _wrong_type(path, "is not a regular file") from None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise _wrong_type(path, "is not a regular file")


def _wrong_type(path: str, why: str) -> InputError:
    return InputError("archive-member-type", f"{path!r} {why}")
