"""Starting and stopping daemons that write their process id to a file."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

STOP_S = 10.0
_LOOK_S = 0.05


class TestbedError(Exception):
    """The test bed can't be had; the text says why."""


def run(
    command: list[str], *, user: str = "", env: Mapping[str, str] | None = None, log: Path | None
) -> None:
    """Runs a command to its end, as an account of this machine.

    Raises:
        TestbedError: it failed; the text has the last lines of its output.
    """
    entry = pwd.getpwnam(user) if user else None
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
        user=None if entry is None else entry.pw_uid,
        group=None if entry is None else entry.pw_gid,
        extra_groups=None if entry is None else os.getgrouplist(user, entry.pw_gid),
    )
    if log is not None and result.stdout:
        with log.open("a", encoding="utf-8") as file:
            file.write(result.stdout)
    if result.returncode != 0:
        last = "\n".join(result.stdout.strip().splitlines()[-3:])
        raise TestbedError(f"{command[0]} failed ({result.returncode}): {last}")


def is_running(pid_file: Path, name: str) -> bool:
    """True if the daemon whose process id stands in the file lives."""
    return _alive(_read_pid(pid_file), name)


def stop(pid_file: Path, name: str) -> None:
    """Ends the daemon and waits until it is gone; does nothing if it is not there."""
    pid = _read_pid(pid_file)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _alive(pid, name):
            break
        os.kill(pid, number)
        wait_for(lambda: not _alive(pid, name), STOP_S)
    pid_file.unlink(missing_ok=True)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """True as soon as the condition holds; False if it does not in time."""
    give_up_at_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at_s:
            return False
        time.sleep(_LOOK_S)
    return True


def _read_pid(pid_file: Path) -> int:
    try:
        return int(pid_file.read_text().strip() or 0)
    except (FileNotFoundError, ValueError):
        return 0


def _alive(pid: int, name: str) -> bool:
    """A zombie counts as dead: process 1 may be slow to bury it. `name` guards against reuse."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text() if pid else ""
    except (FileNotFoundError, ProcessLookupError):
        return False
    command, _, rest = stat.partition("(")[2].rpartition(")")
    return command == name and rest.split()[0] != "Z"
