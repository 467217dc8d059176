"""Jobs as plain processes of this machine: the executor that needs no batch system.

Every job has a supervisor of its own (`p2pfed.execute.supervise`), a process that outlives the
daemon. All that is known of a job stands in its folder; this class holds only settings:

    work/                    the working directory and HOME: script, inputs, outputs
    tmp/                     TMPDIR
    control/job              the supervisor's orders
    control/started-<name>   the start marker: who decides on this job, and since when
    control/cancel           somebody asked for the end
    control/evict            the host takes the machine back: at what time
    control/status           how it ended
    control/supervisor.log   what a supervisor had to complain about

From these `poll` answers, in this order: a status notice: ENDED; a marker of a daemon: NOT_FOUND;
a marker of a supervisor that is alive: RUNNING; one that is dead (killed, or the machine was
restarted): what is left of the job is killed, a status NODE_FAILURE is written, ENDED; no marker:
it is taken here and now, and if that succeeds the job is NOT_FOUND for good.

Cores, GPUs and the number of jobs at a time are kept by whoever grants capacity (the daemon's
books); wall time and memory by the supervisor. docs/explanation/execution.md tells the reasons and
what is *not* promised.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from p2pfed.errors import ExecutorError
from p2pfed.execute import notices, processes
from p2pfed.execute.accounts import Account, check_reach, find_account, give, own_name
from p2pfed.execute.interface import Capacity, NativeJob, NativeState, NativeStatus
from p2pfed.execute.jobs import (
    PATH,
    check_job,
    check_size,
    environment_of,
    file_errors,
    now_ms,
    number,
    read_marker,
    read_status,
    require_work,
)
from p2pfed.execute.observation import Observation, SeenNode
from p2pfed.execute.orders import Orders
from p2pfed.execute.processes import Process

_LAUNCH_TIMEOUT_S: Final = 60
_KILL_WAIT_MS: Final = 2000
_OVERDUE_MS: Final = 5000
"""So long after `kill_at_ms` a supervisor that still lives is taken for stuck, and killed."""

SUPERVISOR: Final = "p2pfed.execute.supervise"
"""Stands in the command line of every supervisor, whose last part is the control folder."""
_LAUNCH: Final = (
    f"import sys; sys.path.append(sys.argv[1]); from {SUPERVISOR} import main; main(sys.argv[2])"
)
_PACKAGE_ROOT: Final = str(Path(__file__).resolve().parents[2])


class LocalExecutor:
    """Runs jobs as processes of this machine; implements `p2pfed.execute.interface.Executor`.

    Args:
        nodes, cores_per_node, gpus_per_node, memory_mib_per_node: what `capacity` answers and what
            a job may ask for at most. Nodes are a way of counting here: all are this machine.
        run_as: name of the account that jobs run as; None: the daemon's own, which lets guests'
            jobs read whatever the daemon can, its key included.
        grace_s: time between SIGTERM and SIGKILL.

    Raises:
        ExecutorError: `executor-account`: `run_as` is unknown, is root, or the daemon is not root.
    """

    def __init__(
        self,
        *,
        nodes: int,
        cores_per_node: int,
        gpus_per_node: int = 0,
        memory_mib_per_node: int,
        run_as: str | None = None,
        grace_s: int = 10,
    ) -> None:
        self._capacity = Capacity(
            nodes=nodes,
            cores_per_node=cores_per_node,
            gpus_per_node=gpus_per_node,
            memory_mib_per_node=memory_mib_per_node,
        )
        self._account = None if run_as is None else _find_account(run_as)
        self._grace_ms = grace_s * 1000

    def capacity(self) -> Capacity:
        """What the settings say."""
        return self._capacity

    def check_reach(self, folder: Path) -> None:
        """Returns if the account that jobs run as can reach what lies in `folder`.

        Raises:
            ExecutorError: `executor-closed-folder`: a folder on the way is closed to it; the
                remedy names the command that opens all of them.
        """
        if self._account is not None:
            check_reach(self._account, folder)

    def submit(self, job: NativeJob) -> None:
        """Starts a supervisor for the job, unless one was started or the job was given up.

        Returns when the start marker is durable.

        Raises:
            ExecutorError: not transient: `executor-name`, `executor-path`,
                `executor-environment`, `executor-arguments`, `executor-too-large`,
                `executor-folder`, `executor-closed-folder`; transient: `executor-disk`,
                `executor-launch`.
        """
        check_job(job)
        check_size(job, self._capacity)
        with file_errors(job.folder):
            require_work(job)
            control = _make_control(job)
            if read_marker(job) is not None or _status(job) is not None:
                return
            self._prepare(job)
            orders = self._orders(job).encode()
            temporary = control / f"job.{os.getpid()}.{os.urandom(6).hex()}"
            temporary.write_bytes(orders)
            temporary.replace(control / "job")
            _launch(control)

    def poll(self, jobs: tuple[NativeJob, ...]) -> dict[str, NativeStatus]:
        """The state of each job, read from its folder.

        A job whose own folder can't be read or written now is left out.

        Raises:
            ExecutorError: `executor-disk` (transient): that holds for every job.
        """
        found: dict[str, NativeStatus] = {}
        failure: ExecutorError | None = None
        for job in jobs:
            try:
                found[job.name] = self._poll(job)
            except ExecutorError as error:
                failure = error
        if failure is not None and not found:
            raise failure
        return found

    def cancel(self, job: NativeJob) -> None:
        """Leaves the notice `cancel` and wakes the supervisor; final, whatever comes later.

        Raises:
            ExecutorError: `executor-disk` (transient).
        """
        self._tell(job, "cancel", {"at_ms": str(now_ms())})

    def evict(self, job: NativeJob, notice_s: int) -> None:
        """Leaves the notice `evict` and wakes the supervisor.

        Raises:
            ExecutorError: `executor-disk` (transient).
        """
        self._tell(job, "evict", {"until_ms": str(now_ms() + notice_s * 1000)})

    def _tell(self, job: NativeJob, notice: str, fields: dict[str, str]) -> None:
        with file_errors(job.folder):
            if not job.folder.is_dir():
                return
            notices.post(str(_make_control(job) / notice), fields)
            supervisor = _supervisor(read_marker(job) or {})
            if supervisor is not None:
                processes.send(supervisor, signal.SIGUSR1)

    def observe(self) -> Observation:
        """All nodes as wholly idle: there are only guests, and the daemon's books tell of them."""
        has = self._capacity
        gpus = (("", has.gpus_per_node),) if has.gpus_per_node else ()
        width = len(str(has.nodes))
        return Observation(
            nodes=tuple(
                SeenNode(
                    name=str(number + 1).zfill(width),
                    queues=("",),
                    cores=has.cores_per_node,
                    memory_mib=has.memory_mib_per_node,
                    gpus=gpus,
                    idle_cores=has.cores_per_node,
                    idle_memory_mib=has.memory_mib_per_node,
                    idle_gpus=gpus,
                )
                for number in range(has.nodes)
            )
        )

    def expected_start_s(
        self, *, queue: str, nodes: int, cores_per_node: int, walltime_s: int
    ) -> int | None:
        """Now: nothing waits here."""
        return now_ms() // 1000

    def _poll(self, job: NativeJob) -> NativeStatus:
        with file_errors(job.folder):
            status = _status(job)
            if status is not None:
                return status
            marker = read_marker(job)
            if marker is None:
                control = _make_control(job)
                fields = {"holder": "daemon", "at_ms": str(now_ms())}
                if notices.take_marker(str(control), job.name, fields):
                    return NativeStatus(name=job.name, state=NativeState.NOT_FOUND)
                marker = read_marker(job) or {}
            if marker.get("holder") == "daemon":
                return NativeStatus(name=job.name, state=NativeState.NOT_FOUND)
            supervisor = _supervisor(marker)
            if supervisor is not None and now_ms() >= job.kill_at_ms + _OVERDUE_MS:
                kill_with_tree(supervisor)
                supervisor = _supervisor(marker)
            running = NativeStatus(
                name=job.name, state=NativeState.RUNNING, started_ms=number(marker, "at_ms")
            )
            if supervisor is not None:
                return running
            # It may have written its status between our two looks.
            return _status(job) or self._bury(job, marker) or running

    def _bury(self, job: NativeJob, marker: dict[str, str]) -> NativeStatus | None:
        """Ends a job whose supervisor is dead; None while something of it is still alive."""
        if marker.get("boot") == processes.boot_id():
            tag = processes.tag(number(marker, "pid"), number(marker, "start_ticks")).encode()
            left = _find_leftovers(tag)
            processes.kill_all(lambda: _find_leftovers(tag))
            if not all(processes.await_end(process, _KILL_WAIT_MS) for process in left):
                return None
        started_ms = number(marker, "at_ms")
        notices.post(
            str(job.folder / "control" / "status"),
            {
                "outcome": "node-failure",
                "started_ms": str(started_ms),
                "ended_ms": str(max(started_ms, min(now_ms(), job.kill_at_ms))),
                "detail": "its supervisor was killed, or the machine was restarted",
            },
        )
        return _status(job)

    def _prepare(self, job: NativeJob) -> None:
        """Makes the temporary folder, and gives work and tmp to the account."""
        temporary = job.folder / "tmp"
        temporary.mkdir(mode=0o700, exist_ok=True)
        account = self._account
        if account is None:
            return
        self.check_reach(job.folder.parent)
        job.folder.chmod(0o711)
        for top in (job.folder / "work", temporary):
            give(account, top)

    def _orders(self, job: NativeJob) -> Orders:
        account = self._account
        numbers, user = "", own_name()
        if account is not None:
            user = account.name
            numbers = f"{account.uid}:{account.gid}:{','.join(map(str, account.groups))}"
        return Orders(
            name=job.name,
            work=str(job.folder.absolute() / "work"),
            script=job.script,
            arguments=job.arguments,
            environment=tuple(f"{k}={v}" for k, v in environment_of(job, user).items()),
            stdout=job.stdout,
            stderr=job.stderr,
            account=numbers,
            walltime_ms=job.walltime_s * 1000,
            grace_ms=self._grace_ms,
            begin_before_ms=job.begin_before_ms,
            kill_at_ms=job.kill_at_ms,
            memory_bytes_max=(job.memory_mib_per_node * job.nodes) << 20,
            signal=job.signal,
            signal_ms=job.signal_s * 1000,
        )


def this_machine() -> Capacity:
    """One node with the cores that this process may use and all memory; no GPUs."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Capacity(
        nodes=1,
        cores_per_node=len(os.sched_getaffinity(0)),
        gpus_per_node=0,
        memory_mib_per_node=memory_bytes >> 20,
    )


def _find_account(name: str) -> Account:
    account = find_account(name)
    if os.geteuid() != 0:
        raise ExecutorError(
            "executor-account",
            f"only a daemon that runs as root can run jobs as {name!r}",
            remedy="start the daemon as root, or leave run_as out",
        )
    return account


def _make_control(job: NativeJob) -> Path:
    control = job.folder / "control"
    if not control.is_dir():
        control.mkdir(mode=0o700, parents=True, exist_ok=True)
        notices.sync_folder(str(job.folder))
    return control


def _status(job: NativeJob) -> NativeStatus | None:
    return read_status(job.folder / "control" / "status", job.name)


def _supervisor(marker: dict[str, str]) -> Process | None:
    """The process that holds this marker, if it is alive."""
    pid, start_ticks = number(marker, "pid"), number(marker, "start_ticks")
    return processes.find_alive(pid, start_ticks, marker.get("boot", "")) if pid else None


def kill_with_tree(supervisor: Process) -> None:
    """Kills a supervisor and all that it began; waits a moment for its end."""
    processes.kill_all(lambda: [supervisor, *processes.descendants(supervisor.pid)])
    processes.await_end(supervisor, _KILL_WAIT_MS)


def _find_leftovers(tag: bytes) -> list[Process]:
    """Living processes that carry a supervisor's tag, and all in their sessions.

    A session of a job holds only what the job started, so that a process which cleared its
    environment is found through one that did not.
    """
    alive = [process for process in processes.list_processes() if not process.is_dead]
    tagged = {p.pid: p for p in alive if processes.environment_has(p.pid, tag)}
    sessions = {process.session for process in tagged.values()}
    return [p for p in alive if p.pid in tagged or p.session in sessions]


def _launch(control: Path) -> None:
    """Starts a supervisor; returns when the start marker is taken, by it or another."""
    log = control / "supervisor.log"
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _LAUNCH, _PACKAGE_ROOT]
    with log.open("ab") as errors:
        try:
            # The new session keeps the terminal's signals away; the supervisor forks off anyway.
            process = subprocess.Popen(
                [*command, str(control.absolute())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd="/",
                env={"PATH": PATH, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        except OSError as error:
            raise _launch_failed(f"{sys.executable}: {error.strerror}", control) from error
    try:
        code = process.wait(_LAUNCH_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise _launch_failed(f"not ready after {_LAUNCH_TIMEOUT_S} s", control) from None
    if code != 0:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        raise _launch_failed(lines[-1] if lines else f"exit code {code}", control)


def _launch_failed(why: str, control: Path) -> ExecutorError:
    return ExecutorError(
        "executor-launch",
        f"the supervisor did not start: {why}",
        where=str(control),
        remedy="free disk space, memory or processes; it is tried again",
        transient=True,
    )
