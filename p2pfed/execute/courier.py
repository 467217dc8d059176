"""Brings files into and out of a user's folders, as that user and nobody else.

Everything that touches a path that a user chose is done by a `tar` that runs as the user: links,
permissions and quotas then mean what they mean to them, and nothing can be reached that they could
not reach themselves. The daemon speaks to it through a pipe. As root it changes to the account
before the program runs; else it goes through `sudo -n -u USER`.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from p2pfed.errors import ExecutorError, InputError
from p2pfed.execute.accounts import Account
from p2pfed.execute.jobs import PATH

TIMEOUT_S: Final = 600.0
"""The longest that one transport may take."""
_MODE: Final = 0o644
_UMASK: Final = 0o022


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A file to deliver: the absolute path that it goes to, and the files that make it up."""

    path: str
    parts: tuple[Path, ...]
    executable: bool = False


def collect(
    account: Account,
    folder: str,
    names: Sequence[str],
    target: Path,
    *,
    files_max: int,
    bytes_max: int,
) -> None:
    """Copies files and folders of a user into `target`, which is empty and ours.

    Args:
        folder: the absolute folder that the names count from.
        names: relative paths without `..`; links are followed, as the user may.

    Raises:
        InputError: `export-input`: something is missing, no regular file, or there is too much.
        ExecutorError: `courier` (transient): it could not be done now.
    """
    if not names:
        return
    command = ["tar", "--create", "--dereference", "--hard-dereference", "--file=-"]
    command += [f"--directory={folder}", "--"]
    with _run(account, [*command, *names], stdout=True) as tar:
        assert tar.stdout is not None
        try:
            with tarfile.open(fileobj=tar.stdout, mode="r|") as archive:
                _unpack(archive, target, files_max, bytes_max)
            tar.stdout.read()  # the rest of the last record
        except tarfile.TarError:
            pass  # what tar itself says is clearer
        except InputError:
            tar.kill()
            raise
        said = _finish(tar)
    if said:
        raise InputError("export-input", f"an input can't be read: {said}", where=folder)


def _unpack(archive: tarfile.TarFile, target: Path, files_max: int, bytes_max: int) -> None:
    for member in archive:
        if member.isdir():
            continue
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if not member.isfile() or ".." in parts:
            raise InputError("export-input", f"{member.name!r} is not a regular file")
        files_max, bytes_max = files_max - 1, bytes_max - member.size
        if files_max < 0 or bytes_max < 0:
            raise InputError("export-input", "the inputs are more than a job may bring along")
        path = target.joinpath(*parts)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = archive.extractfile(member)
        assert source is not None
        with source, path.open("xb") as file:
            shutil.copyfileobj(source, file)
        if member.mode & 0o100:
            path.chmod(0o700)


def deliver(account: Account, parcels: Sequence[Parcel]) -> None:
    """Writes files into a user's folders; missing folders are made, files there are replaced.

    Raises:
        ExecutorError: `courier` (transient): not all could be written.
    """
    if not parcels:
        return
    command = ["tar", "--extract", "--file=-", "--directory=/", "--no-same-owner"]
    command += ["--unlink-first", "--touch"]
    with _run(account, command, stdin=True) as tar:
        assert tar.stdin is not None
        try:
            with tar.stdin as pipe, tarfile.open(fileobj=pipe, mode="w|") as archive:
                for parcel in parcels:
                    _pack(archive, parcel)
        except BrokenPipeError:
            pass  # what tar itself says is clearer
        said = _finish(tar)
    if said:
        raise ExecutorError(
            "courier",
            f"results can't be written as {account.name}: {said}",
            remedy="see that the folder exists and has room; it is tried again",
            transient=True,
        )


def _pack(archive: tarfile.TarFile, parcel: Parcel) -> None:
    info = tarfile.TarInfo(parcel.path.lstrip("/"))
    info.size = sum(part.stat().st_size for part in parcel.parts)
    info.mode = _MODE | (0o111 if parcel.executable else 0)
    with _Chain(parcel.parts) as content:
        archive.addfile(info, content)


class _Chain(io.RawIOBase):
    """Several files, read as one."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts = list(parts)
        self._file: IO[bytes] | None = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes; fewer than asked for only at the end of all."""
        found = b""
        while len(found) < size:
            if self._file is None:
                if not self._parts:
                    break
                self._file = self._parts.pop(0).open("rb")
            piece = self._file.read(size - len(found))
            if not piece:
                self._file.close()
                self._file = None
            found += piece
        return found

    def close(self) -> None:
        """Closes what is open."""
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()


def _run(
    account: Account, command: list[str], *, stdin: bool = False, stdout: bool = False
) -> subprocess.Popen[bytes]:
    me = os.geteuid()
    if me not in (0, account.uid):
        command = ["sudo", "-n", "-u", account.name, "--", *command]
    change = me == 0
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            user=account.uid if change else None,
            group=account.gid if change else None,
            extra_groups=account.groups if change else None,
            umask=_UMASK,
        )
    except OSError as error:
        raise ExecutorError(
            "courier",
            f"can't run {command[0]}: {error.strerror}",
            remedy="install tar; without root add the sudo rule of the manual",
            transient=True,
        ) from error


def _finish(tar: subprocess.Popen[bytes]) -> str:
    """Waits for the end; what it complained about, empty if all went well."""
    assert tar.stderr is not None
    said = tar.stderr.read(4096).decode("utf-8", "replace")
    try:
        code = tar.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        tar.kill()
        return f"no end after {TIMEOUT_S:.0f} s"
    if code == 0:
        return ""
    return said.strip().splitlines()[0].removeprefix("tar: ") if said.strip() else f"exit {code}"
