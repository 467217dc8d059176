"""Small files that say one thing each, once, and survive a power cut: the executor's memory.

A notice is a text of `key=value` lines. It appears under its name complete or not at all: it is
written and synced under a temporary name and then linked (`post`, exclusive: of many writers one
wins) or renamed. The folder is synced after, so that what was said stays said.

The supervisor imports this module; it imports `os` and nothing heavier.
"""

from __future__ import annotations

import contextlib
import os

NOTICE_BYTES_MAX = 4096
"""Size of a notice; also what a reserved notice takes beforehand."""


def take_marker(control: str, name: str, fields: dict[str, str]) -> bool:
    """Creates `started-<name>` in the folder `control`; True for the one caller who did.

    Whoever holds the marker decides whether the native job `name` runs: its supervisor, or a
    daemon that gave it up.
    """
    return post(os.path.join(control, f"started-{name}"), fields)


def post(path: str, fields: dict[str, str]) -> bool:
    """Writes a notice that must not exist yet; False, and nothing changed, if it does.

    Raises:
        OSError: the file system refused; the notice does not exist.
    """
    temporary = f"{path}.{os.getpid()}.{os.urandom(6).hex()}"
    try:
        _write(temporary, _encode(fields))
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    sync_folder(os.path.dirname(path))
    return True


def reserve(path: str) -> str:
    """Takes the space that a notice at `path` will need, so that a full disk can't silence it.

    Returns:
        The reservation, for `fulfil`.

    Raises:
        OSError: there is no space now; nothing is left behind.
    """
    reservation = f"{path}.{os.getpid()}.reserved"
    try:
        _write(reservation, b"\n" * NOTICE_BYTES_MAX)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(reservation)
        raise
    return reservation


def fulfil(reservation: str, path: str, fields: dict[str, str]) -> None:
    """Writes a notice into the space that `reserve` took, in place of what stood at `path`.

    Raises:
        OSError: the file system refused; calling again is safe.
    """
    descriptor = os.open(reservation, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Overwriting and cutting off need no new space, in this order.
        os.ftruncate(descriptor, os.pwrite(descriptor, _encode(fields), 0))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(reservation, path)
    sync_folder(os.path.dirname(path))


def read(path: str) -> dict[str, str] | None:
    """The fields of a notice, or None if nobody wrote it; see `read_with_owner`."""
    found = read_with_owner(path)
    return None if found is None else found[0]


def read_with_owner(path: str) -> tuple[dict[str, str], int] | None:
    """The fields of a notice and the account that owns it, or None if nobody wrote it.

    Lines without `=` are passed over, so that a damaged notice gives fewer fields, not an error.

    Raises:
        OSError: the file is there and can't be read.
    """
    try:
        # A pipe in its place must not make us wait.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    try:
        owner = os.fstat(descriptor).st_uid
        text = os.read(descriptor, NOTICE_BYTES_MAX).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key: value for key, equals, value in pairs if equals}, owner


def sync_folder(path: str) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(fields: dict[str, str]) -> bytes:
    # A value is cut to its line: it may quote a message of the operating system.
    lines = [f"{key}={' '.join(value.splitlines())[:512]}\n" for key, value in fields.items()]
    return "".join(lines).encode("utf-8", "replace")[:NOTICE_BYTES_MAX]


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
