"""The keys of this centre's users: what jobs say of them, can be shown, and can be forgotten.

Each user has a random key in a file of its own. From it follow the pseudonym that hosts see in a
job's environment, always the same at this home, and for each job what its record in the ledger
commits to (`p2pfed.core.disclosure`). Hosts and readers of the ledger can't tell who it is; the
home can show it, job by job. Once a key is destroyed, nobody can: neither from the ledger nor from
pseudonyms.

A key is written durably before the first job that rests on it is posted.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

from p2pfed.core.disclosure import USER_KEY_BYTES, Disclosure, opening_of, owner_of
from p2pfed.core.ids import CentreName, FederationId, JobId
from p2pfed.core.records import Job
from p2pfed.store.files import disk_errors, make_folder, sync_folder, write_durable

VARIABLE: Final = "P2PFED_USER"
"""The variable of a job's environment that holds its user's pseudonym."""


class Owner(NamedTuple):
    """One user: the account's name, and its key."""

    user: str
    key: bytes

    @property
    def pseudonym(self) -> str:
        """What hosts see of the user: 32 hexadecimal digits."""
        return hmac.digest(self.key, b"p2pfed pseudonym 1", "sha256")[:16].hex()


class Owners:
    """The users of this centre.

    Args:
        folder: where their keys lie, one file each; made when the first is needed.
        federation, home: what commitments are made for.
    """

    def __init__(self, folder: Path, federation: FederationId, home: CentreName) -> None:
        self._folder = folder
        self._federation = federation
        self._home = home
        self._lock = Lock()

    def of(self, user: str) -> Owner:
        """A user with its key, which is made for a user who has none.

        Raises:
            StorageError: `disk-error`, `disk-full`: the key can't be read or made.
        """
        with self._lock, disk_errors(self._folder):
            path = self._path(user)
            try:
                return Owner(user, path.read_bytes()[:USER_KEY_BYTES])
            except FileNotFoundError:
                owner = Owner(user, secrets.token_bytes(USER_KEY_BYTES))
                make_folder(self._folder)
                write_durable(path, owner.key + _name(user))
                return owner

    def commit(self, owner: Owner, payload_digest: bytes) -> bytes:
        """The `owner` of the Job record with this payload."""
        opening = opening_of(owner.key, payload_digest)
        return owner_of(self._federation, self._home, payload_digest, opening, owner.user)

    def disclose(self, job_id: JobId, job: Job) -> Disclosure | None:
        """Who an own job is of, with its opening; None if no key that is left says so.

        Raises:
            StorageError: `disk-error`.
        """
        with self._lock, disk_errors(self._folder):
            paths = sorted(self._folder.glob("*.key"))
            for data in (path.read_bytes() for path in paths):
                user = data[USER_KEY_BYTES:].decode("utf-8", "surrogateescape")
                owner = Owner(user, data[:USER_KEY_BYTES])
                if self.commit(owner, job.payload_digest) == job.owner:
                    opening = opening_of(owner.key, job.payload_digest)
                    return Disclosure(self._federation, job_id, user, opening)
        return None

    def forget(self, user: str) -> bool:
        """Destroys a user's key for good; False if there is none.

        The file is overwritten before it is removed. A file system that writes elsewhere, and any
        copy in a backup, may keep the key: docs/how-to/disclose-a-user.md.

        Raises:
            StorageError: `disk-error`: try again.
        """
        with self._lock, disk_errors(self._folder):
            path = self._path(user)
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                os.write(descriptor, bytes(os.fstat(descriptor).st_size))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            path.unlink()
            sync_folder(self._folder)
        return True

    def _path(self, user: str) -> Path:
        # Any account's name, whatever is in it, gives the name of a file.
        return self._folder / f"{hashlib.sha256(_name(user)).hexdigest()[:32]}.key"


def _name(user: str) -> bytes:
    return user.encode("utf-8", "surrogateescape")
