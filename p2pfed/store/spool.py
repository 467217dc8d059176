"""Payloads and results on disk, while they are needed.

    payloads/<digest>/    at home: a job's payload, until no attempt can need it any more
    claims/<claim>/       at the host: one attempt, from the fetched payload to the sent result
    results/<claim>/      at home: what came back
    staging/<name>/       what is not complete yet: partial transfers, which are resumed
    trash/<number>/       what is being removed

A folder appears in one of the first three only complete and durable: it is filled in staging,
synced, then renamed. It disappears by a rename into the trash. So whoever sees a folder may rely
on all of it, after any crash.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Container, Iterable
from itertools import count
from pathlib import Path

from p2pfed.core.ids import Position
from p2pfed.errors import StateError
from p2pfed.store.files import disk_errors, make_folder, sync_folder, sync_tree

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,120}\Z")


class Spool:
    """The spool folder of one centre."""

    def __init__(self, root: Path) -> None:
        """Makes the folders below `root` that are missing, and empties the trash.

        Raises:
            StorageError: `disk-full`, `disk-error`.
        """
        self.root = root
        self._trash_numbers = count()
        with disk_errors(root):
            for name in ("payloads", "claims", "results", "staging", "trash"):
                make_folder(root / name)
            for leftover in sorted((root / "trash").iterdir()):
                _remove_tree(leftover)

    def payload(self, digest: bytes) -> Path:
        """The folder of the payload with this manifest digest (32 bytes)."""
        return self.root / "payloads" / digest.hex()

    @property
    def claims(self) -> Path:
        """What holds the host's folders of attempts."""
        return self.root / "claims"

    def claim(self, claim_id: Position) -> Path:
        """The host's folder of one attempt."""
        return self.claims / str(claim_id)

    def result(self, claim_id: Position) -> Path:
        """The home's folder of what one attempt brought back."""
        return self.root / "results" / str(claim_id)

    def staging(self, name: str) -> Path:
        """The folder `name` in staging, made if there is none; what an earlier try left is kept.

        Args:
            name: lower-case letters, digits, `.`, `_`, `-`; the same transfer, the same name.

        Raises:
            StateError: `spool-name`.
            StorageError: `disk-full`, `disk-error`.
        """
        if not _NAME.match(name):
            raise StateError("spool-name", f"{name!r} can't name a folder in the spool")
        folder = self.root / "staging" / name
        with disk_errors(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def publish(self, staged: Path, final: Path) -> Path:
        """Moves a complete staged folder or file to where it is used; returns `final`.

        It is durable before the new name is, and the name before this returns. If `final` exists
        already, that one stays and the staged one is removed.

        Raises:
            StorageError: `disk-full`, `disk-error`; the staged one is then still there.
        """
        with disk_errors(final):
            if final.exists():
                self.remove(staged)
                return final
            sync_tree(staged)
            staged.rename(final)
            sync_folder(final.parent)
            return final

    def remove(self, path: Path) -> None:
        """Removes a folder or file of the spool at once and as a whole; no error if it is gone.

        Raises:
            StorageError: `disk-error`.
        """
        with disk_errors(path):
            grave = self.root / "trash" / f"{os.getpid()}-{next(self._trash_numbers)}"
            try:
                path.rename(grave)
            except FileNotFoundError:
                return
            _remove_tree(grave)

    def contents(self) -> frozenset[Path]:
        """Every payload, claim, result and staged folder that is here now."""
        kinds = ("payloads", "claims", "results", "staging")
        return frozenset(path for kind in kinds for path in (self.root / kind).iterdir())

    def sweep(self, keep: Container[Path], among: Iterable[Path] | None = None) -> list[Path]:
        """Removes what is not in `keep`, of `among` only, or of everything.

        Returns:
            What was removed, sorted.
        """
        found = self.contents() if among is None else among
        swept = sorted(path for path in found if path not in keep)
        for path in swept:
            self.remove(path)
        return swept

    def free_bytes(self) -> int:
        """The room that an unprivileged account has left on the spool's disk."""
        with disk_errors(self.root):
            status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize


def tree_bytes(root: Path) -> int:
    """The sizes of all regular files at or below `root`, links not followed; 0 if it is gone."""
    if root.is_symlink() or not root.is_dir():
        return root.stat().st_size if root.is_file() and not root.is_symlink() else 0
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
    return total


def _remove_tree(path: Path) -> None:
    """Removes it even if a job took away its own permissions on a folder."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = Path(folder, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(path)
