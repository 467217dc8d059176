"""One daemon per folder.

The lock is the kernel's (`flock`), so it ends with the process however that dies; the file's text
is only for people. The file is never removed: a removed one could be locked twice, once under its
old inode and once under its new.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from p2pfed.errors import StorageError
from p2pfed.store.files import disk_errors, make_folder


class FolderLock:
    """An exclusive lock on a folder, held until `release` or the end of the process.

    The descriptor is closed in programs that the process executes; a child that is only forked
    shares the lock.
    """

    def __init__(self, path: Path) -> None:
        """Takes the lock in file `path`, made if there is none.

        Raises:
            StorageError: `folder-locked`, with the process id of the holder; `disk-error`.
        """
        self.path = path
        with disk_errors(path):
            make_folder(path.parent)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StorageError(
                "folder-locked",
                f"another daemon (process {holder}) uses this folder",
                where=str(path.parent),
                remedy="stop that daemon first, or start this one with a folder of its own",
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StorageError(
                "disk-error",
                f"the folder can't be locked: {error.strerror}",
                where=str(path),
                remedy="put the state folder on a local disk",
            ) from error
        self._descriptor: int | None = descriptor
        with disk_errors(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Gives the lock up. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
