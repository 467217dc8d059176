"""One daemon per folder, however the other one ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfed.errors import StorageError
from p2pfed.store.lock import FolderLock

HOLDER = """
import signal, sys
from pathlib import Path
from p2pfed.store.lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def test_a_second_daemon_is_refused_and_told_which_process_has_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "state" / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(StorageError, match=f"process {holder.pid}") as caught:
        FolderLock(path)
    assert caught.value.code == "folder-locked"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with FolderLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_lock_that_was_released_can_be_taken_again(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "lock")
    lock.release()
    lock.release()
    with FolderLock(tmp_path / "lock"), pytest.raises(StorageError):
        FolderLock(tmp_path / "lock")


def test_a_program_that_the_daemon_starts_does_not_keep_the_lock(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "lock"):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    FolderLock(tmp_path / "lock").release()
    child.communicate()


def test_a_folder_that_cannot_be_made_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        FolderLock(tmp_path / "file" / "state" / "lock")
    assert caught.value.code == "disk-error"
