"""The supervisor of one local job: a process that outlives the daemon and watches one script.

The daemon starts `python -I -S` with this module and the job's control folder; a first process
forks the supervisor into a session of its own, waits until the start marker is taken, and exits.
So the supervisor is nobody's child but init's: the daemon may die and come back.

What it does, in order:

1. reserve the space of the status notice, then take the marker `started-<name>`, which records who
   it is. Whoever finds the marker taken exits: of any number of supervisors one goes on.
2. unless it is too late or the job was cancelled, run the script in a session of its own, with the
   environment it was ordered and no other, as the account it was ordered.
3. wait: for the script's end, for a notice `cancel`, for the walltime, for `kill_at_ms`, for more
   memory than was claimed, for SIGTERM or the end of a notice `evict` (the host takes the machine
   back: `preempted`). A script that asked for it gets its own signal when the notice is given, and
   before its walltime ends.
4. end the whole tree: SIGTERM, a grace, SIGKILL. As a child subreaper (prctl(2)) it inherits every
   descendant that loses its parent, so that changing session or daemonising is no escape. When it
   has no child left, nothing of the job is alive.
5. write the status notice, synced, and exit.

If the supervisor itself is killed, the kernel kills the script (PR_SET_PDEATHSIG), and the next
`poll` of the executor kills what else is left.

Start time and memory count, as there is one supervisor for each running job: hence few imports.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
import time

from p2pfed.execute import notices, processes
from p2pfed.execute.orders import Orders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_TICK_MS = 1000
"""How often the wall clock and the cancel notice are looked at, whatever else happens."""
_SAMPLE_MS_MIN = 50
_SAMPLE_SHARE = 400
"""A memory sample may take one part in this many of the time."""
_KILL_MARGIN_MS = 1000
"""SIGKILL is sent this long before `kill_at_ms`, if the times leave room for it."""
_STATUS_TRIES_MAX = 3600
_SCRIPT_BUSY_TRIES_MAX = 40
_OOM_SCORE = b"500"
"""When the machine runs out of memory the kernel takes guests' jobs before the host's own work."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_HOST_ERRORS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EMFILE,
        errno.ENFILE,
        errno.EIO,
        errno.EROFS,
    }
)
"""Reasons why a script can't be run that are the host's; any other is the script's own."""


class Supervisor:
    """One job from its start marker to its status notice."""

    def __init__(self, control: str) -> None:
        """Reads the orders in `control`.

        Raises:
            OSError: the orders can't be read, or there is no `/proc`.
        """
        self._control = control
        with open(os.path.join(control, "job"), "rb") as file:
            self._orders = Orders.decode(file.read())
        self._status_path = os.path.join(control, "status")
        found = processes.look_up(os.getpid())
        if found is None:
            raise OSError(errno.ENOENT, "/proc does not show this process")
        self._self = found
        self._script_pid = 0
        self._script_status: int | None = None
        self._failure = ""
        self._ending = ""
        self._preempted = False
        self._signalled = False
        self._evicted = False
        self._kill_from_ms = 0
        self._started_ms = 0
        self._memory_bytes_max = 0
        self._sample_interval_ms = _SAMPLE_MS_MIN
        self._sample_at_ms = 0
        self._walltime_end_ms = 0

    def run(self, ready: Callable[[], None]) -> None:
        """Runs the job to its end; calls `ready` once the marker is taken, by whomever.

        Raises:
            OSError: nothing was started, because the control folder can't be written.
        """
        orders = self._orders
        _become_subreaper()
        reservation = notices.reserve(self._status_path)
        if not notices.take_marker(self._control, orders.name, self._identity()):
            os.unlink(reservation)
            ready()
            return
        ready()
        self._started_ms = _wall_ms()
        if self._cancel_asked():
            self._write_status(reservation, "cancelled", detail="cancelled before it began")
        elif self._started_ms >= min(orders.begin_before_ms, orders.kill_at_ms):
            self._write_status(reservation, "not-started", detail="too late to begin")
        else:
            self._walltime_end_ms = _steady_ms() + orders.walltime_ms
            baseline_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            self._script_pid, self._failure = _start_script(
                orders, processes.tag(self._self.pid, self._self.start_ticks)
            )
            self._watch()
            usage_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            # A forked child begins with the supervisor's own memory, which is not the job's.
            if usage_kib > baseline_kib:
                self._memory_bytes_max = max(self._memory_bytes_max, usage_kib * 1024)
            self._write_status(reservation, *self._judge())

    def _identity(self) -> dict[str, str]:
        return {
            "holder": "supervisor",
            "pid": str(self._self.pid),
            "start_ticks": str(self._self.start_ticks),
            "boot": processes.boot_id(),
            "at_ms": str(_wall_ms()),
        }

    def _watch(self) -> None:
        while True:
            wait_ms = self._next_wait_ms()
            got = signal.sigtimedwait(_WATCHED, wait_ms / 1000)
            if got is not None and got.si_signo == signal.SIGTERM:
                self._preempted = True
            if not self._reap():
                return
            if not self._ending:
                self._heed_notices()
                self._look()
            if self._ending and _steady_ms() >= self._kill_from_ms:
                processes.kill_all(lambda: processes.descendants(os.getpid()))

    def _next_wait_ms(self) -> int:
        """Until something may have to be done, at most a tick."""
        now_ms = _steady_ms()
        due_ms = [now_ms + _TICK_MS]
        if self._ending:
            # After the SIGKILL only the reaping is left, which SIGCHLD announces.
            if self._kill_from_ms > now_ms:
                due_ms.append(self._kill_from_ms)
        else:
            due_ms.append(self._walltime_end_ms)
            due_ms.append(now_ms + self._last_call_ms() - _wall_ms())
            if self._orders.memory_bytes_max:
                due_ms.append(self._sample_at_ms)
        return max(0, min(due_ms) - now_ms)

    def _last_call_ms(self) -> int:
        """The wall time at which the tree must be asked to end, to be dead at `kill_at_ms`."""
        return self._orders.kill_at_ms - self._margin_ms() - self._grace_ms()

    def _slack_ms(self) -> int:
        orders = self._orders
        return max(0, orders.kill_at_ms - orders.begin_before_ms - orders.walltime_ms)

    def _margin_ms(self) -> int:
        return min(_KILL_MARGIN_MS, self._slack_ms() // 2)

    def _grace_ms(self) -> int:
        """The grace, shortened so that a job that begins at the last moment has its walltime."""
        return min(self._orders.grace_ms, self._slack_ms() - self._margin_ms())

    def _reap(self) -> bool:
        """Collects every child that has ended; False if none is left, dead or alive."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._script_pid:
                self._script_status = status

    def _heed_notices(self) -> None:
        """Tells the script to save its state: it must go soon, or its walltime ends soon."""
        evict = notices.read(os.path.join(self._control, "evict"))
        soon = _steady_ms() >= self._walltime_end_ms - self._orders.signal_ms
        if self._orders.signal and not self._signalled and (soon or evict is not None):
            self._signalled = True
            self._evicted = evict is not None
            if self._script_status is None:
                os.kill(self._script_pid, self._orders.signal)
        if evict is not None and _wall_ms() >= int(evict.get("until_ms", "0")):
            self._preempted = True

    def _look(self) -> None:
        if self._script_status is not None:
            self._end("own")
        elif self._cancel_asked():
            self._end("cancelled")
        elif self._preempted:
            self._end("preempted")
        elif _steady_ms() >= self._walltime_end_ms or _wall_ms() >= self._last_call_ms():
            self._end("timeout")
        elif self._uses_too_much_memory():
            self._end("out-of-memory", grace=False)

    def _end(self, reason: str, *, grace: bool = True) -> None:
        self._ending = reason
        grace_ms = self._orders.kill_at_ms - self._margin_ms() - _wall_ms()
        grace_ms = max(0, min(self._orders.grace_ms, grace_ms)) if grace else 0
        self._kill_from_ms = _steady_ms() + grace_ms
        if grace_ms:
            for process in processes.descendants(os.getpid()):
                processes.send(process, signal.SIGTERM)
                processes.send(process, signal.SIGCONT)

    def _uses_too_much_memory(self) -> bool:
        limit = self._orders.memory_bytes_max
        begin_ms = _steady_ms()
        if not limit or begin_ms < self._sample_at_ms:
            return False
        tree = processes.descendants(os.getpid())
        used = sum(process.rss_bytes for process in tree)
        if used > limit:
            # Pages that forked processes share were counted once for each: count them properly.
            used = sum(processes.shared_out_bytes(process.pid) for process in tree)
        self._memory_bytes_max = max(self._memory_bytes_max, used)
        cost_ms = _steady_ms() - begin_ms
        grown_ms = min(self._sample_interval_ms * 2, _TICK_MS)
        self._sample_interval_ms = max(grown_ms, cost_ms * _SAMPLE_SHARE)
        self._sample_at_ms = begin_ms + self._sample_interval_ms
        return used > limit

    def _cancel_asked(self) -> bool:
        return os.path.exists(os.path.join(self._control, "cancel"))

    def _judge(self) -> tuple[str, int, int, str]:
        """Outcome, exit code, signal and detail of a script that was started, or tried to."""
        code, number = _split_status(self._script_status)
        if self._failure.startswith("host:"):
            return "not-started", 0, 0, self._failure.removeprefix("host:")
        if self._evicted and self._ending in ("", "own"):
            return "preempted", code, number, "it was told to save its state and go"
        if self._ending in ("", "own"):
            outcome = "completed" if code == number == 0 else "failed"
            return outcome, code, number, self._failure
        return self._ending, code, number, ""

    def _write_status(
        self, reservation: str, outcome: str, exit_code: int = 0, number: int = 0, detail: str = ""
    ) -> None:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended_ms = max(self._started_ms, _wall_ms())
        if outcome == "not-started" or not self._script_pid:
            ended_ms = self._started_ms
        fields = {
            "outcome": outcome,
            "exit_code": str(exit_code),
            "signal": str(number),
            "started_ms": str(self._started_ms),
            "ended_ms": str(ended_ms),
            "memory_mib_max": str(-(-self._memory_bytes_max // (1 << 20))),
            "user_ms": str(int(usage.ru_utime * 1000)),
            "system_ms": str(int(usage.ru_stime * 1000)),
            "detail": detail,
        }
        for _ in range(_STATUS_TRIES_MAX):
            try:
                notices.fulfil(reservation, self._status_path, fields)
            except OSError as error:
                print(f"status of {self._orders.name}: {error}", file=sys.stderr)  # noqa: T201
                signal.sigtimedwait(_WATCHED, _TICK_MS / 1000)
            else:
                return


def _start_script(orders: Orders, tag: str) -> tuple[int, str]:
    """Forks and executes the script; its pid, and why it could not be executed, if so.

    `tag` goes into its environment. A reason that begins with `host:` is not the script's fault.
    """
    read_end, write_end = os.pipe()
    try:
        parent = os.getpid()
        pid = os.fork()
    except OSError as error:
        os.close(read_end)
        os.close(write_end)
        return 0, f"host:fork: {error.strerror}"
    if pid == 0:
        _run_child(orders, tag, parent, write_end)
    os.close(write_end)
    report = b""
    while part := os.read(read_end, 1024):
        report += part
    os.close(read_end)
    return pid, report.decode("utf-8", "replace")


def _run_child(orders: Orders, tag: str, parent: int, report: int) -> NoReturn:
    """Turns this forked child into the script; never returns."""
    code = 126
    step = "prepare"
    try:
        os.setsid()
        _write_oom_score()
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        os.umask(0o077)
        if orders.account:
            _become(orders.account)
        os.chdir(orders.work)
        _die_with(parent)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        step = "open output"
        _open_streams(orders.stdout, orders.stderr)
        step = "execute script"
        _execute(orders, tag)
    except OSError as error:
        code = 127 if error.errno == errno.ENOENT else 126
        ours = step == "prepare" or error.errno in _HOST_ERRORS
        reason = f"can't {step}: {error.strerror}"
        os.write(report, (("host:" if ours else "") + reason).encode())
        if step == "execute script":
            os.write(2, f"p2pfed: {reason}: {orders.script}\n".encode())
    except BaseException as error:  # noqa: BLE001 - nothing may run on in a copy of the supervisor
        os.write(report, f"host:can't {step}: {error!r}".encode())
    finally:
        os._exit(code)


def _open_streams(stdout: str, stderr: str) -> None:
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    for path in {stdout: None, stderr: None}:
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, exist_ok=True)
    output = os.open(stdout, flags, 0o600)
    errors = output if stderr == stdout else os.open(stderr, flags, 0o600)
    os.dup2(output, 1)
    os.dup2(errors, 2)


def _execute(orders: Orders, tag: str) -> None:
    path = os.path.join(orders.work, orders.script)
    environment = dict(item.split("=", 1) for item in (*orders.environment, tag))
    for _ in range(_SCRIPT_BUSY_TRIES_MAX):
        try:
            os.execve(path, [path, *orders.arguments], environment)  # noqa: S606 - no shell wanted
        except OSError as error:
            # A process forked while the script was being written holds it open for a moment.
            if error.errno != errno.ETXTBSY:
                raise
            signal.sigtimedwait((), 0.05)
    raise OSError(errno.ETXTBSY, os.strerror(errno.ETXTBSY))


def _become(account: str) -> None:
    """Gives up this process's account for `uid:gid:groups`, for good."""
    uid, gid, groups = account.split(":")
    os.setgroups([int(group) for group in groups.split(",") if group])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))


def _become_subreaper() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _die_with(parent: int) -> None:
    """Lets the kernel kill this process when `parent` dies; set after any change of account."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(126)


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(argument) for argument in (value, 0, 0, 0)]
    if library.prctl(option, *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def _write_oom_score() -> None:
    try:
        with open("/proc/self/oom_score_adj", "wb") as file:
            file.write(_OOM_SCORE)
    except OSError:
        return  # a container may forbid it; the job runs all the same


def _split_status(status: int | None) -> tuple[int, int]:
    """Exit code and signal number of a wait status."""
    if status is None:
        return 0, 0
    if os.WIFSIGNALED(status):
        return 0, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _steady_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def main(control: str) -> None:
    """Starts the supervisor of `control` and exits 0 when the start marker is taken.

    Exits 1, with the reason on stderr, if it could not be taken; nothing was started then.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    os.umask(0o077)
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        os._exit(0 if os.read(read_end, 1) else 1)
    os.close(read_end)
    os.setsid()

    def ready() -> None:
        try:
            os.write(write_end, b"1")
        except BrokenPipeError:
            pass  # the daemon has died meanwhile; the job goes on without it
        finally:
            os.close(write_end)

    try:
        Supervisor(control).run(ready)
    except OSError as error:
        print(f"supervisor: {error}", file=sys.stderr)  # noqa: T201
        os._exit(1)
