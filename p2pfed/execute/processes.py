"""Linux processes: who descends from whom, and signals that can't hit a stranger.

A process id alone names nothing for long: it is reused. A process is named here by its id, its
start time in clock ticks since boot (field 22 of `/proc/<pid>/stat`) and the boot's id; a signal is
sent through a pidfd that was opened before the start time was compared, so that it reaches the
process meant or nobody (pidfd_open(2), proc_pid_stat(5)).

The supervisor imports this module, hundreds of times on one machine: it imports
nothing heavier than `signal`.
"""

from __future__ import annotations

import functools
import os
import select
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_KILL_PASSES_MAX = 64


class Process:
    """One line of `/proc/<pid>/stat`, taken at one moment."""

    __slots__ = ("parent", "pid", "rss_bytes", "session", "start_ticks", "state")

    def __init__(
        self, pid: int, parent: int, session: int, start_ticks: int, rss_bytes: int, state: str
    ) -> None:
        self.pid = pid
        self.parent = parent
        self.session = session
        self.start_ticks = start_ticks
        self.rss_bytes = rss_bytes
        self.state = state

    @property
    def is_dead(self) -> bool:
        """True for a zombie: it runs nothing any more and only waits to be reaped."""
        return self.state in ("Z", "X")


@functools.cache
def boot_id() -> str:
    """The id of this boot of the machine: after a reboot, no recorded process is alive."""
    return _read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


def look_up(pid: int) -> Process | None:
    """The process with this id now, or None if there is none."""
    try:
        line = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The command name, in parentheses, may hold anything, parentheses and spaces included.
    fields = line[line.rindex(b")") + 2 :].split()
    return Process(
        pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
        state=fields[0].decode("ascii"),
    )


def find_alive(pid: int, start_ticks: int, boot: str) -> Process | None:
    """The very process that was recorded so, if it is still there and not a zombie."""
    found = look_up(pid) if boot == boot_id() else None
    if found is None or found.start_ticks != start_ticks or found.is_dead:
        return None
    return found


def list_processes() -> list[Process]:
    """The processes that `/proc` shows, ascending by id; one that ends meanwhile may be missing."""
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    return [found for found in map(look_up, pids) if found is not None]


def descendants(root: int) -> list[Process]:
    """Every living descendant of `root`, which itself is left out, parents before children.

    Complete for a `root` that is a child subreaper (prctl(2)): whoever loses its parent becomes
    a child of `root`, whatever session it moved to.
    """
    children: dict[int, list[Process]] = {}
    for process in list_processes():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            waiting.append(child.pid)
            if not child.is_dead:
                found.append(child)
    return found


def send(process: Process, number: int) -> None:
    """Signals this very process; a process that is gone, or was replaced, is left alone."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        now = look_up(process.pid)
        if now is not None and now.start_ticks == process.start_ticks:
            signal.pidfd_send_signal(pidfd, number)
    except OSError:
        pass
    finally:
        os.close(pidfd)


def kill_all(find: Callable[[], Iterable[Process]]) -> None:
    """Kills what `find` finds, until it finds nothing that was not stopped before.

    Everything is stopped first and killed after. A fork fails while a signal is pending (fork in
    the kernel restarts after it), so that whoever was sent SIGSTOP makes no more children, and
    those it made before are found by the next pass: not even a fork bomb escapes.
    """
    stopped: dict[tuple[int, int], Process] = {}
    for _ in range(_KILL_PASSES_MAX):
        fresh = [p for p in find() if (p.pid, p.start_ticks) not in stopped]
        if not fresh:
            break
        for process in fresh:
            send(process, signal.SIGSTOP)
            stopped[process.pid, process.start_ticks] = process
    for process in stopped.values():
        send(process, signal.SIGKILL)


def await_end(process: Process, timeout_ms: int) -> bool:
    """Waits until the process has ended, at most `timeout_ms`; True if it has."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return True
    try:
        now = look_up(process.pid)
        if now is None or now.start_ticks != process.start_ticks:
            return True
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        return bool(poller.poll(timeout_ms))
    finally:
        os.close(pidfd)


def tag(pid: int, start_ticks: int) -> str:
    """The entry in a script's environment that names its supervisor, unique in one boot."""
    return f"P2PFED_SUPERVISOR={pid}.{start_ticks}"


def environment_has(pid: int, entry: bytes) -> bool:
    """True if the process was started with `entry` (`NAME=value`) in its environment."""
    try:
        return entry in _read(f"/proc/{pid}/environ", 1 << 22).split(b"\0")
    except OSError:
        return False


def command_of(pid: int) -> list[str]:
    """The command line of a process, part by part; empty if there is none to be read."""
    try:
        return _read(f"/proc/{pid}/cmdline", 1 << 16).decode("utf-8", "replace").split("\0")[:-1]
    except OSError:
        return []


def shared_out_bytes(pid: int) -> int:
    """The memory of a process with shared pages divided among their users (PSS); 0 if unknown."""
    try:
        text = _read(f"/proc/{pid}/smaps_rollup")
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str, limit: int = 4096) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while limit > 0 and (part := os.read(descriptor, limit)):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
