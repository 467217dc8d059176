"""Who a job's user is, for everybody but their home: a keyed pseudonym.

The payload of a job carries it, so that a host can tell one user's jobs from another's and ask the
home about one. It is an HMAC of the account's name under a key that never leaves this machine; only
home can tell whose it is.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from p2pfed.store.files import disk_errors

KEY_BYTES: Final = 32
VARIABLE: Final = "P2PFED_USER"
"""The variable of a job's environment that holds its user's pseudonym."""


class Pseudonyms:
    """Makes pseudonyms under the key in the file `path`, which is made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = b""

    def of(self, user: str) -> str:
        """The pseudonym of a local account: 32 hexadecimal digits, always the same.

        Raises:
            StorageError: `disk-error`, `disk-full`: the key can't be read or made.
        """
        if not self._key:
            self._key = self._load()
        return hmac.digest(self._key, user.encode("utf-8", "surrogateescape"), "sha256")[:16].hex()

    def _load(self) -> bytes:
        with disk_errors(self._path):
            try:
                return self._path.read_bytes()
            except FileNotFoundError:
                pass
            key = secrets.token_bytes(KEY_BYTES)
            draft = self._path.with_name(self._path.name + ".new")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            return key
