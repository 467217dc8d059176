"""What travels between home and host: a folder of files and the manifest that lists them.

    <folder>/manifest.cbor    the manifest, written last: where it is, the rest is complete
    <folder>/files/<path>     the files

What a job leaves behind is a stranger's: nothing here follows a link or trusts a name
(`p2pfed.shell.members`), and a result is copied while it is measured, so that what is listed is
what is sent.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from p2pfed.core.limits import (
    ARCHIVE_MEMBERS_MAX,
    CHUNK_BYTES,
    MANIFEST_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    RESULT_BYTES_MAX,
)
from p2pfed.errors import InputError
from p2pfed.shell.manifest import (
    LEFT_OUT_MAX,
    Manifest,
    Member,
    RunSpec,
    decode_manifest,
    encode_manifest,
)
from p2pfed.shell.members import Found, Members, check_member_path

MANIFEST: Final = "manifest.cbor"
FILES: Final = "files"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A complete archive: its manifest, the manifest's bytes and their SHA-256."""

    manifest: Manifest
    data: bytes

    @property
    def digest(self) -> bytes:
        """What the Job or End record states."""
        return hashlib.sha256(self.data).digest()


def pack_payload(files: Path, folder: Path, run: RunSpec, *, salt: bytes = b"") -> Sealed:
    """Turns the folder `files` (the script and inputs) into a payload in `folder`.

    `files` is moved, not copied, so both are on one file system. The script is made executable.
    Nothing is synced: publishing does that (`Spool.publish`). With a fresh `salt` two payloads of
    equal content have different digests, so that each job has a payload of its own.

    Raises:
        InputError: `archive-path`, `archive-member-type`, `archive-run`, `archive-too-large`;
            the files then stand in `folder`.
        OSError: as the system says.
    """
    files.rename(folder / FILES)
    members = Members(folder / FILES)
    try:
        script = members.open_read(run.script)
    except FileNotFoundError:
        raise InputError(
            "archive-run", f"the script {run.script!r} is not among the files"
        ) from None
    with opened(script) as descriptor:
        os.fchmod(descriptor, stat.S_IRWXU)
    found = members.walk()
    _check_amount(found, PAYLOAD_BYTES_MAX)
    listed = tuple(_measured(members, item) for item in found)
    run = replace(run, environment=tuple(sorted(run.environment)))
    return _seal(folder, Manifest(members=listed, run=run, salt=salt))


def _check_amount(found: Sequence[Found], bytes_max: int) -> None:
    total = sum(item.status.st_size for item in found if item.is_file)
    if len(found) > ARCHIVE_MEMBERS_MAX or total > bytes_max:
        raise InputError(
            "archive-too-large",
            f"{len(found)} files with {total} bytes; at most {ARCHIVE_MEMBERS_MAX} files and "
            f"{bytes_max} bytes are allowed",
            remedy="pack small files into one, and fetch large data from where it is",
        )


def _measured(members: Members, item: Found) -> Member:
    if not item.is_file:
        raise InputError(
            "archive-member-type",
            f"{item.path!r} is not a regular file",
            remedy="put a copy of the file in its place",
        )
    with opened(members.open_read(item.path)) as descriptor:
        executable = bool(os.fstat(descriptor).st_mode & stat.S_IXUSR)
        return _member(item.path, executable, _chunks(descriptor))


def _member(path: str, executable: bool, chunks: Iterable[bytes]) -> Member:
    whole, digests, size = hashlib.sha256(), [], 0
    for chunk in chunks:
        whole.update(chunk)
        digests.append(hashlib.sha256(chunk).digest())
        size += len(chunk)
    return Member(
        path=check_member_path(path),
        executable=executable,
        size=size,
        digest=whole.digest(),
        chunks=b"".join(digests),
    )


def _seal(folder: Path, manifest: Manifest) -> Sealed:
    data = encode_manifest(manifest)
    decode_manifest(data)  # what the other side would refuse is told here, to whoever made it
    with opened(Members(folder).open_write(MANIFEST)) as descriptor:
        os.ftruncate(descriptor, 0)
        write_all(descriptor, data, 0)
    return Sealed(manifest, data)


def collect_result(
    work: Path,
    folder: Path,
    *,
    stdout: str,
    stderr: str,
    fetch: Sequence[str] = (),
    guest_uid: int | None = None,
    bytes_max: int = RESULT_BYTES_MAX,
) -> Sealed:
    """Copies what is wanted back from a job's working directory into a result in `folder`.

    Stdout and stderr come first, then what matches a pattern of `fetch`, by path. What can't or may
    not be taken is left out and named with the reason: links, special files, files of another
    account (a hard link to what is not the job's), names that are not text, and what exceeds the
    limits. Never fails for what the job did.

    The job's are the files of the working directory's owner. Where guests run as another account,
    `guest_uid`, the job's are theirs, and of the owner's those that have no second name.

    `folder` exists and is empty or holds an earlier try, which is overwritten.

    Raises:
        OSError: the disk below `folder` refuses.
    """
    (folder / FILES).mkdir(mode=0o700, exist_ok=True)
    source, target = Members(work), Members(folder / FILES)
    is_jobs = partial(_is_jobs, owner=work.stat().st_uid, guest=guest_uid)
    taken: list[Member] = []
    left_out: list[tuple[str, str]] = []
    room = bytes_max
    for item in _wanted(source.walk(), (stdout, stderr), fetch):
        why = _objection(item, is_jobs)
        if not why and item.status.st_size > room:
            why = "too-large"
        if not why and len(taken) >= ARCHIVE_MEMBERS_MAX:
            why = "too-many"
        if why:
            left_out.append((item.path.encode(errors="replace").decode()[:200], why))
            continue
        try:
            descriptor = source.open_read(item.path)
        except (OSError, InputError):
            left_out.append((item.path, "unreadable"))
            continue
        with opened(descriptor):
            if is_jobs(os.fstat(descriptor)):
                taken.append(_copied(descriptor, item, target))
                room -= taken[-1].size
    # Many long names could make a list that nobody may read; the last ones then stay behind.
    while taken:
        try:
            return _seal(folder, _result(taken, left_out))
        except InputError:
            left_out.append((taken[-1].path, "too-many"))
            del taken[len(taken) * 3 // 4 :]
    return _seal(folder, _result(taken, left_out))


def restore_files(saved: Path, folder: Path) -> None:
    """Copies the files of the archive in `saved` over those of the one in `folder`.

    Again is fine. Nothing is synced.

    Raises:
        InputError: as `load_archive`.
        OSError: as the system says.
    """
    source, target = Members(saved / FILES), Members(folder / FILES)
    for member in load_archive(saved).manifest.members:
        with (
            opened(source.open_read(member.path)) as read,
            opened(target.open_write(member.path, executable=member.executable)) as written,
        ):
            os.ftruncate(written, 0)
            offset = 0
            for chunk in _chunks(read):
                write_all(written, chunk, offset)
                offset += len(chunk)


def _result(taken: list[Member], left_out: list[tuple[str, str]]) -> Manifest:
    members = tuple(sorted(taken, key=lambda m: m.path))
    return Manifest(members=members, left_out=tuple(sorted(left_out))[:LEFT_OUT_MAX])


def _wanted(found: list[Found], first: tuple[str, str], patterns: Sequence[str]) -> list[Found]:
    streams = [item for item in found if item.path in first]
    others = [
        item
        for item in found
        if item.path not in first
        and any(fnmatch.fnmatchcase(item.path, pattern) for pattern in patterns)
    ]
    return streams + others


def _is_jobs(status: os.stat_result, *, owner: int, guest: int | None) -> bool:
    """True if a file can only be the job's; a guest may link what is not, and not read it."""
    if guest is None or guest == owner:
        return status.st_uid == owner
    return status.st_uid == guest or (status.st_uid == owner and status.st_nlink == 1)


def _objection(item: Found, is_jobs: Callable[[os.stat_result], bool]) -> str:
    """Why a file may not be taken; empty if it may."""
    if not item.is_file:
        return "link" if stat.S_ISLNK(item.status.st_mode) else "not-a-file"
    if not is_jobs(item.status):
        return "owner"
    try:
        check_member_path(item.path)
    except InputError:
        return "name"
    return ""


def _copied(descriptor: int, item: Found, target: Members) -> Member:
    """Copies at most the bytes that the file had when it was seen."""
    executable = bool(item.status.st_mode & stat.S_IXUSR)
    with opened(target.open_write(item.path, executable=executable)) as written:
        os.ftruncate(written, 0)

        def copying() -> Iterator[bytes]:
            offset = 0
            for chunk in _chunks(descriptor, item.status.st_size):
                write_all(written, chunk, offset)
                offset += len(chunk)
                yield chunk

        return _member(item.path, executable, copying())


def _chunks(descriptor: int, size: int | None = None) -> Iterator[bytes]:
    """The file's chunks from its beginning, at most `size` bytes."""
    offset = 0
    while chunk := read_all(
        descriptor, CHUNK_BYTES if size is None else min(CHUNK_BYTES, size - offset), offset
    ):
        yield chunk
        offset += len(chunk)


def read_all(descriptor: int, size: int, offset: int) -> bytes:
    """`size` bytes from `offset` on, fewer only where the file ends."""
    parts: list[bytes] = []
    while size > 0 and (part := os.pread(descriptor, size, offset)):
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Writes all of `data` at `offset`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


class _Descriptor(int):
    """A descriptor with a `close`, for `contextlib.closing`."""

    __slots__ = ()

    def close(self) -> None:
        os.close(self)


def opened(descriptor: int) -> closing[_Descriptor]:
    """Closes the descriptor at the end of a `with`."""
    return closing(_Descriptor(descriptor))


def load_archive(folder: Path) -> Sealed:
    """The archive in `folder`, whose manifest is read and checked, its files not.

    Raises:
        InputError: `archive-missing`, or as `decode_manifest`.
        OSError: as the system says.
    """
    try:
        with opened(Members(folder).open_read(MANIFEST)) as descriptor:
            data = read_all(descriptor, MANIFEST_BYTES_MAX + 1, 0)
    except FileNotFoundError:
        raise InputError("archive-missing", "there is no manifest", where=str(folder)) from None
    return Sealed(decode_manifest(data), data)
