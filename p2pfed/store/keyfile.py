"""A centre's private key on disk: Ed25519, PKCS#8 PEM, readable by its owner alone.

Whoever reads this file can sign in the centre's name, so a key that others may read is refused
rather than used. With a passphrase the file is encrypted as PKCS#8 provides (RFC 8018, PBES2).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from p2pfed.core.ids import PublicKey
from p2pfed.errors import InputError
from p2pfed.store.files import disk_errors, write_durable

_KEY_FILE_BYTES_MAX: Final = 16_384


class CentreKey:
    """A private key in memory: signs, and names its public half."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        """`private` is for the TLS certificate; the ledger needs only `sign`."""
        self.private = private
        self.public_key = PublicKey(
            private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        )

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature (64 bytes) over `message`."""
        return self.private.sign(message)

    def __repr__(self) -> str:
        """Never shows the private half."""
        return f"<CentreKey {self.public_key.hex()}>"


def generate_key(path: Path, *, passphrase: bytes | None = None) -> CentreKey:
    """Makes a new key and writes it to `path`, mode 0600, durably. Never overwrites.

    Raises:
        InputError: `key-exists`, `key-passphrase` (an empty one).
        StorageError: `disk-full`, `disk-error`.
    """
    if passphrase == b"":
        raise InputError("key-passphrase", "the passphrase is empty", remedy="give one, or none")
    if path.exists() or path.is_symlink():
        raise InputError(
            "key-exists",
            "there is a key already, and a lost key can't be replaced without a vote",
            where=str(path),
            remedy="choose another folder, or move the key away if it was never used",
        )
    key = CentreKey(Ed25519PrivateKey.generate())
    protection: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        protection = BestAvailableEncryption(passphrase)
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
    write_durable(path, pem, mode=0o600)
    return key


def load_key(path: Path, *, passphrase: bytes | None = None) -> CentreKey:
    """The key in `path`, after checking that only its owner can read it.

    Raises:
        InputError: `key-missing`, `key-mode`, `key-owner`, `key-form`, `key-type`,
            `key-passphrase` (missing, wrong, or given for a key that has none).
        StorageError: `disk-error`.
    """
    pem = _read_private(path)
    try:
        private = load_pem_private_key(pem, passphrase or None)
    except TypeError as error:
        wanted = "is needed" if not passphrase else "was given, but the key has none"
        raise InputError(
            "key-passphrase",
            f"a passphrase {wanted}",
            where=str(path),
            remedy="set the passphrase in the configuration, or remove it there",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if passphrase and b"ENCRYPTED" in pem:
            raise InputError(
                "key-passphrase",
                "the passphrase does not open the key",
                where=str(path),
            ) from error
        raise InputError(
            "key-form",
            "this is not a private key in PKCS#8 PEM form",
            where=str(path),
            remedy="restore the file that `p2pfed init` made",
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise InputError(
            "key-type",
            f"the key is not Ed25519 but {type(private).__name__.removesuffix('PrivateKey')}",
            where=str(path),
            remedy="use the key that `p2pfed init` made",
        )
    return CentreKey(private)


def _read_private(path: Path) -> bytes:
    with disk_errors(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise InputError(
                "key-missing",
                "there is no key file",
                where=str(path),
                remedy="run `p2pfed init`, or correct the path in the configuration",
            ) from error
        # What is checked is what is read: the open file, whatever the name leads to later.
        try:
            _check_private(path, os.fstat(descriptor))
            return os.read(descriptor, _KEY_FILE_BYTES_MAX)
        finally:
            os.close(descriptor)


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError("key-form", "the key is not a regular file", where=str(path))
    if status.st_uid not in (0, os.geteuid()):
        raise InputError(
            "key-owner",
            f"the key belongs to user id {status.st_uid}, the daemon runs as {os.geteuid()}",
            where=str(path),
            remedy="chown the file to the account of the daemon",
        )
    if status.st_mode & 0o077:
        raise InputError(
            "key-mode",
            f"others may read or change the key (mode {stat.S_IMODE(status.st_mode):04o})",
            where=str(path),
            remedy=f"chmod 600 {path}; if others had access, have the key replaced",
        )
