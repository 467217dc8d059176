"""The receiving disk side of a transfer: an archive that is being filled, chunk by chunk.

Only bytes whose SHA-256 the manifest states are written, and what an interrupted transfer left is
read and checked again before it counts. Chunks come in the manifest's order, so what is held is
always its first part. Blocks on the disk: call it from a worker thread.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from p2pfed.core.limits import CHUNK_BYTES
from p2pfed.errors import InputError
from p2pfed.shell.archive import FILES, MANIFEST, Sealed, opened, read_all, write_all
from p2pfed.shell.members import Members


class Receiver:
    """One archive in `folder`, complete when `next_bytes` is 0."""

    def __init__(self, folder: Path, sealed: Sealed) -> None:
        """`sealed` has been checked against the digest that was signed for."""
        self._folder = folder
        self._sealed = sealed
        self._files = Members(folder / FILES)
        self._member = 0
        self._chunk = 0
        self._whole = hashlib.sha256()
        self._held = 0

    @property
    def held_chunks(self) -> int:
        """How many chunks are written and checked: the next one's number over all files."""
        return self._held

    @property
    def missing_bytes(self) -> int:
        """How many bytes are still to come."""
        members = self._sealed.manifest.members[self._member :]
        return sum(m.size for m in members) - self._chunk * CHUNK_BYTES

    @property
    def next_bytes(self) -> int:
        """The size of the next chunk; 0 when nothing is missing."""
        if self._member == len(self._sealed.manifest.members):
            return 0
        return self._sealed.manifest.members[self._member].chunk_bytes(self._chunk)

    def resume(self) -> None:
        """Makes the folder ready and counts what is in it already.

        Raises:
            InputError: `archive-member-type`, `bulk-digest`.
            OSError: as the system says.
        """
        (self._folder / FILES).mkdir(mode=0o700, exist_ok=True)
        self._finish_members()
        while size := self.next_bytes:
            with opened(self._open()) as descriptor:
                data = read_all(descriptor, size, self._chunk * CHUNK_BYTES)
            if not self._matches(data):
                return
            self._count(data)

    def write(self, data: bytes) -> None:
        """Takes the next chunk.

        Raises:
            InputError: `bulk-digest`: it is not what was signed for; nothing was written.
            OSError: as the system says.
        """
        if not self._matches(data):
            member = self._sealed.manifest.members[self._member]
            raise InputError("bulk-digest", f"chunk {self._chunk} of {member.path!r} is corrupt")
        with opened(self._open()) as descriptor:
            write_all(descriptor, data, self._chunk * CHUNK_BYTES)
        self._count(data)

    def complete(self) -> None:
        """Writes the manifest beside the files; after that the folder is a whole archive."""
        with opened(Members(self._folder).open_write(MANIFEST)) as descriptor:
            os.ftruncate(descriptor, 0)
            write_all(descriptor, self._sealed.data, 0)

    def _open(self) -> int:
        member = self._sealed.manifest.members[self._member]
        return self._files.open_write(member.path, executable=member.executable)

    def _matches(self, data: bytes) -> bool:
        member = self._sealed.manifest.members[self._member]
        return hashlib.sha256(data).digest() == member.chunk_digest(self._chunk)

    def _count(self, data: bytes) -> None:
        self._whole.update(data)
        self._chunk += 1
        self._held += 1
        self._finish_members()

    def _finish_members(self) -> None:
        """Closes the current file, and every empty one after it."""
        members = self._sealed.manifest.members
        while self._member < len(members):
            member = members[self._member]
            if self._chunk < member.chunk_count:
                return
            if self._whole.digest() != member.digest:
                raise InputError(
                    "bulk-digest", f"{member.path!r} is not the file that the manifest states"
                )
            with opened(self._open()) as descriptor:
                os.ftruncate(descriptor, member.size)
            self._member += 1
            self._chunk = 0
            self._whole = hashlib.sha256()
