"""What every batch system must do for p2pfed: the `Executor`.

The contract, which tests/conformance/executor.py checks on every executor:

- `submit` is called after the Start record is durable, with a name that derives from the claim. A
  second `submit` of the same name never starts a second process: the executor finds the first.
- Before the script runs, a wrapper checks `begin_before_ms` and creates the marker
  `control/started-<name>` exclusively in the claim's folder; if the marker exists, it exits. So of
  two wrappers, or of a wrapper and a daemon that gave the job up, exactly one wins.
- The batch system itself enforces the walltime and `kill_at_ms`, because the daemon may be down.
- `cancel` ends the whole process tree; the end is seen by `poll`, not assumed. A name that was
  cancelled before it was submitted never runs.
- An ENDED or NOT_FOUND job stays so, with the same answer, as long as its folder is there.
- `poll` answers for every name whose state can be told now, and never guesses. A job that the
  batch system does not know is `NativeState.NOT_FOUND` only if the executor also took the start
  marker; a batch system that can't be asked raises `ExecutorError(transient=True)` and no job
  changes state.
- All of it holds across a restart of the daemon: an executor keeps nothing in memory that it can't
  find again.

Sizes and times: seconds, MiB and milliseconds since the epoch, as the names say. Methods may block
on processes and files, not on the network; the shell calls them from a worker thread, one at a
time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from p2pfed.core.records import Outcome
from p2pfed.execute.observation import Observation


class NativeState(Enum):
    """Where a native job stands, in the words of PSI/J."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    NOT_FOUND = "not-found"


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeJob:
    """One attempt, as it is handed to the batch system.

    Attributes:
        name: unique per claim, `[a-z0-9.-]`; the batch system's job name.
        folder: the claim's folder, private to the attempt. Inputs and the script are in
            `folder/work`, which is the working directory; stdout and stderr go to
            `folder/work/<stdout>` and `<stderr>`; the executor's own files go to `folder/control`.
        script: file name of the batch script in `folder/work`, executable, with a shebang.
        arguments: the script's arguments, never seen by a shell of ours.
        environment: extra variables (names checked); everything else is the executor's clean set.
        nodes, cores_per_node, gpus_per_node, memory_mib_per_node: what was claimed.
        walltime_s: the longest the script may run.
        begin_before_ms: the script does not begin at or after this time.
        kill_at_ms: no process is alive at this time.
        queue, gpu_gres: where it runs and how its GPUs are asked for; empty: as the executor is
            set up.
        signal: the signal that asks the script to save its state; 0: none.
        signal_s: how long before the end of its walltime the script wants to be told.
    """

    name: str
    folder: Path
    script: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    stdout: str = "stdout.txt"
    stderr: str = "stderr.txt"
    nodes: int
    cores_per_node: int
    gpus_per_node: int = 0
    memory_mib_per_node: int
    walltime_s: int
    begin_before_ms: int
    kill_at_ms: int
    queue: str = ""
    gpu_gres: str = ""
    signal: int = 0
    signal_s: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeStatus:
    """What the batch system says of one native job.

    `started_ms` is set from RUNNING on; the rest only when ENDED. `outcome` CANCELLED means that
    `cancel` ended it, TIMEOUT that the walltime did; after NOT_STARTED both times are equal.
    `detail` is for people: why a job could not be run, or ended as it did; may be empty.
    """

    name: str
    state: NativeState
    started_ms: int = 0
    ended_ms: int = 0
    outcome: Outcome | None = None
    exit_code: int = 0
    signal: int = 0
    memory_mib_max: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the batch system could grant to guests at this moment."""

    nodes: int
    cores_per_node: int
    gpus_per_node: int
    memory_mib_per_node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeRun:
    """One attempt of a native job, as the batch system accounted for it.

    Attributes:
        state: in the batch system's own word; `outcome`: what it stands for, None while not over.
        started_s, ended_s: seconds since the epoch; 0 if it never began, or is not over.
        cores: allocated in all.
    """

    job_id: str
    name: str
    state: str
    over: bool
    outcome: Outcome | None
    started_s: int
    ended_s: int
    cores: int
    exit_code: int
    signal: int

    @property
    def key(self) -> tuple[int, int]:
        """Orders attempts, and tells those of one job apart."""
        return int(self.job_id), self.started_s


class Executor(Protocol):
    """A batch system."""

    def submit(self, job: NativeJob) -> None:
        """Hands the job over; returns when the batch system has it durably.

        Raises:
            ExecutorError: transient: try again, nothing was started or the next `submit` finds
                it; not transient: refused, nothing runs and nothing will.
        """

    def poll(self, jobs: tuple[NativeJob, ...]) -> dict[str, NativeStatus]:
        """The state of each job, by name; one whose state can't be told now is left out.

        Raises:
            ExecutorError: the batch system can't be asked (transient).
        """

    def cancel(self, job: NativeJob) -> None:
        """Asks for the end of the job's whole process tree; idempotent, unknown jobs are fine."""

    def evict(self, job: NativeJob, notice_s: int) -> None:
        """Takes the job's nodes back for a local job: it is over `notice_s` from now.

        Its script gets the job's own signal at once, if it has one, and is ended like a cancelled
        job when the notice is over. Its outcome is PREEMPTED, unless it had no signal and ended by
        itself before. Idempotent: the first notice counts.
        """

    def capacity(self) -> Capacity:
        """The hardware that this batch system commands."""

    def observe(self) -> Observation:
        """What is idle, who holds what, and which local jobs wait, at this moment.

        Raises:
            ExecutorError: the batch system can't be asked (transient).
        """

    def expected_start_s(
        self, *, queue: str, nodes: int, cores_per_node: int, walltime_s: int
    ) -> int | None:
        """When a guest's job of this size would begin, in seconds since the epoch.

        None if it never would. Nothing is queued by asking.

        Raises:
            ExecutorError: the batch system can't be asked (transient).
        """
