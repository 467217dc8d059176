"""The key files of a centre that changes its key: the next one, the one in use, and former ones.

    key.pem                in use
    key.pem.next           made and durable, but the ledger may not name it yet
    key.pem.1a2b3c4d.old   former, by the beginning of its public key; only for the transport

The next key is durable before the ledger names it, and takes its place only afterwards, in one
step. So whenever a crash comes, the key that the ledger names is in one of the first two files.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from p2pfed.core.ids import PublicKey
from p2pfed.errors import P2pfedError
from p2pfed.store.files import disk_errors, sync_folder
from p2pfed.store.keyfile import CentreKey, generate_key, load_key


def next_key(path: Path, passphrase: bytes | None) -> CentreKey:
    """The key that shall follow the one in `path`: made now, unless one lies ready.

    Raises:
        InputError, StorageError: as `generate_key` and `load_key`.
    """
    ready = _next(path)
    if ready.exists():
        return load_key(ready, passphrase=passphrase)
    return generate_key(ready, passphrase=passphrase)


def promote(path: Path, current: CentreKey) -> None:
    """Puts the next key in the place of the current one, which is kept as a former one.

    Raises:
        StorageError: `disk-error`.
    """
    former = path.with_name(f"{path.name}.{current.public_key.hex()[:8]}.old")
    with disk_errors(path):
        with suppress(FileExistsError):
            os.link(path, former)
        _next(path).replace(path)
        sync_folder(path.parent)


def settle(
    path: Path, current: CentreKey, passphrase: bytes | None, in_force: PublicKey | None
) -> CentreKey:
    """The key to use at a start: the next one, if the ledger names that already.

    Raises:
        InputError, StorageError: as `load_key`.
    """
    if in_force in (None, current.public_key) or not _next(path).exists():
        return current
    ready = load_key(_next(path), passphrase=passphrase)
    if ready.public_key != in_force:
        return current
    promote(path, current)
    return ready


def former_keys(path: Path, passphrase: bytes | None) -> list[CentreKey]:
    """The former keys that are still here, by file name; what can't be read is passed over."""
    found: list[CentreKey] = []
    for old in sorted(path.parent.glob(f"{path.name}.*.old")):
        with suppress(P2pfedError):
            found.append(load_key(old, passphrase=passphrase))
    return found


def _next(path: Path) -> Path:
    return path.with_name(path.name + ".next")
