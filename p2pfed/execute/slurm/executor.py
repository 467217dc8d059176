"""The executor that runs guests' jobs on a Slurm cluster.

All that it must know again stands in Slurm or in the claim's folder:

    work/                       script, inputs, outputs; belongs to the guests' account
    tmp/                        TMPDIR; likewise
    control/                    guests may add files here, and remove only their own
    control/started-<name>      the start marker, of a batch script or of the daemon
    control/overdue-<name>      the job's own watch ended it
    batch/                      the daemon's alone
    batch/submitted             the native job id, recorded after submission
    batch/began                 when Slurm says that it began, recorded at the first sight
    batch/cancel                somebody asked for the end
    batch/evict                 a local job wants its nodes: since when, and what it was told
    batch/status                how it ended, once that is known

`poll` asks squeue once for all jobs of the account. A job that has ended is looked at once more
(`scontrol show job`), judged (`states.outcome_of`), and its status written down; after that Slurm
may forget it. Who is not in the queue any more is sought in accounting, or in the job completion
records. Only a job that has no start marker is *not found*, and then the daemon takes the marker,
so that it never will be. docs/explanation/slurm.md tells the reasons.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from typing import Final

from p2pfed.errors import ExecutorError
from p2pfed.execute import notices
from p2pfed.execute.accounts import check_reach, find_account, give, own_name
from p2pfed.execute.interface import Capacity, NativeJob, NativeRun, NativeState, NativeStatus
from p2pfed.execute.jobs import (
    check_job,
    check_size,
    file_errors,
    now_ms,
    number,
    read_status,
    require_work,
)
from p2pfed.execute.observation import Observation
from p2pfed.execute.slurm import commands, parse
from p2pfed.execute.slurm.claimfolder import (
    DAEMON,
    began_s,
    give_up,
    make_folder,
    marker_of,
    share,
)
from p2pfed.execute.slurm.cluster import Cluster
from p2pfed.execute.slurm.endings import OVERDUE_MS, Endings
from p2pfed.execute.slurm.history import read_history
from p2pfed.execute.slurm.parse import QueueRow
from p2pfed.execute.slurm.runner import RefusedError, Runner
from p2pfed.execute.slurm.settings import SlurmSettings
from p2pfed.execute.slurm.states import ENDED
from p2pfed.execute.slurm.wrapper import batch_script

log = logging.getLogger("p2pfed.slurm")

CANCEL_AGAIN_S: Final = 5.0


class SlurmExecutor:
    """Runs jobs on a Slurm cluster; implements `p2pfed.execute.interface.Executor`.

    Making one asks nothing of Slurm, so that a daemon starts while Slurm is down.

    Args:
        settings: how guests run here.
        largest: what a job may ask for at most; None: what the partition has.

    Raises:
        ExecutorError: `executor-account`: guests would run as root, or as nobody.
    """

    def __init__(self, settings: SlurmSettings, largest: Capacity | None = None) -> None:
        account = find_account(settings.run_as) if settings.run_as else None
        if account is None and os.geteuid() == 0:
            raise ExecutorError(
                "executor-account",
                "guests' jobs would run as root",
                remedy="set run_as to an unprivileged account made for guests' jobs",
            )
        self._settings = settings
        self._largest = largest
        self._account = account
        self._user = account.name if account else own_name()
        self._runner = Runner(account, settings)
        self._cluster = Cluster(self._runner, settings, self._user)
        self._endings = Endings(self._runner, self._cluster)
        self._cancelled_s: dict[str, float] = {}
        self._warned: set[str] = set()

    # Capacity

    def capacity(self) -> Capacity:
        """The hardware of the partition: its nodes, and what the largest of them has.

        Raises:
            ExecutorError: `slurm-…` (transient): Slurm can't be asked.
        """
        return self._cluster.capacity()

    def observe(self) -> Observation:
        """What the nodes of all partitions have to give, and which jobs wait for them.

        Raises:
            ExecutorError: `slurm-…` (transient): Slurm can't be asked.
        """
        return self._cluster.observe()

    def expected_start_s(
        self, *, queue: str, nodes: int, cores_per_node: int, walltime_s: int
    ) -> int | None:
        """When a guest's job of this size would begin; None if it never would; queues nothing.

        Raises:
            ExecutorError: `slurm-…` (transient): Slurm can't be asked.
        """
        try:
            return self._cluster.expected_start_s(
                partition=queue,
                nodes=nodes,
                cores_per_node=cores_per_node,
                minutes=-(-walltime_s // 60),
            )
        except RefusedError:
            return None

    def history(self, since_s: int) -> list[NativeRun]:
        """What Slurm accounted for the guests' account since a time.

        Raises:
            ExecutorError: `slurm-no-history`; `slurm-…` (transient): Slurm can't be asked.
        """
        uid = self._account.uid if self._account else os.geteuid()
        return read_history(self._runner, self._cluster, uid=uid, since_s=since_s)

    # Submitting

    def submit(self, job: NativeJob) -> None:
        """Hands the job to Slurm, unless it was submitted, given up or cancelled before.

        Raises:
            ExecutorError: not transient: `executor-name`, `executor-path`,
                `executor-environment`, `executor-arguments`, `executor-too-large`,
                `executor-folder`, `executor-closed-folder`, `slurm-script`, `slurm-refused`;
                transient: `executor-disk`, `slurm-unreachable`, `slurm-command`, `slurm-sudo`,
                `slurm-output`.
        """
        check_job(job)
        if self._largest is not None:
            check_size(job, self._largest)
        with file_errors(job.folder):
            require_work(job)
            self._check_script(job)
            batch = make_folder(job, "batch")
            if marker_of(job) is not None or (batch / "status").exists():
                return
            if (batch / "cancel").exists():
                give_up(job)
                return
            if self._find(job):
                return
            self._prepare(job)
            try:
                job_id = self._submit(job)
            except RefusedError:
                # Refused means that it never runs, also if Slurm took it all the same.
                give_up(job)
                raise
            notices.post(str(batch / "submitted"), {"job_id": job_id, "at_ms": str(now_ms())})

    def _find(self, job: NativeJob) -> bool:
        """True if Slurm knows a job of this name."""
        rows, odd = parse.parse_queue(self._runner.read(commands.squeue(self._user, job.name)))
        return bool(rows or odd)

    def _submit(self, job: NativeJob) -> str:
        # Slurm asks for the end at the time limit, and kills KillWait later.
        last_s = job.kill_at_ms // 1000 - parse.parse_seconds(self._cluster.setting("KillWait"))
        longest = max(1, (last_s - now_ms() // 1000) // 60)
        command = commands.sbatch(
            job,
            self._settings,
            minutes=min(-(-job.walltime_s // 60), longest),
            deadline_s=last_s,
        )
        script = batch_script(job, self._settings, user=self._user, shared=self._runner.by_sudo)
        return parse.parse_submitted(self._runner.act(command, script))

    def _check_script(self, job: NativeJob) -> None:
        allowed = self._settings.scripts
        if not allowed:
            return
        script = (job.folder / "work" / job.script).read_bytes()
        digest = hashlib.sha256(script).hexdigest()
        if digest not in allowed:
            raise ExecutorError(
                "slurm-script",
                f"the script {digest} is not among those that may run here",
                remedy="name it in scripts under [slurm], or leave scripts out to allow all",
            )

    def _prepare(self, job: NativeJob) -> None:
        """Makes the folders that guests write to, and gives them what they need."""
        folder, account = job.folder, self._account
        make_folder(job, "tmp")
        control = make_folder(job, "control")
        if account is None or account.uid == os.geteuid():
            return
        check_reach(account, folder.parent)
        folder.chmod(0o711)
        # Sticky: guests add files here, and can't touch those of the daemon.
        os.chown(control, -1, account.gid)
        control.chmod(0o1770)
        for top in (folder / "work", folder / "tmp"):
            if os.geteuid() == 0:
                give(account, top)
            else:
                share(top, account.gid)

    # Cancelling

    def cancel(self, job: NativeJob) -> None:
        """Remembers that the job shall end, and tells Slurm; `poll` tells it again if need be.

        Raises:
            ExecutorError: `executor-disk`, `slurm-…` (transient): Slurm was not told yet.
        """
        with file_errors(job.folder):
            if not job.folder.is_dir():
                return
            batch = make_folder(job, "batch")
            if (batch / "status").exists():
                return
            notices.post(str(batch / "cancel"), {"at_ms": str(now_ms())})
            self._cancel(job)

    def evict(self, job: NativeJob, notice_s: int) -> None:
        """Takes the job's nodes back: sends its signal now, and ends it when the notice is over.

        Raises:
            ExecutorError: `executor-disk`, `slurm-…` (transient): the job was not told yet, but
                will be ended in time.
        """
        with file_errors(job.folder):
            if not job.folder.is_dir() or (job.folder / "batch" / "status").exists():
                return
            path = make_folder(job, "batch") / "evict"
            told = str(job.signal)
            if notices.post(str(path), {"until_ms": str(now_ms() + notice_s * 1000), "told": told}):
                if job.signal and notice_s:
                    self._runner.act(commands.signal(self._user, job.name, job.signal))
                else:
                    self._end_evicted(job)

    def _end_evicted(self, job: NativeJob) -> None:
        """Ends a job whose notice is over."""
        evict = notices.read(str(job.folder / "batch" / "evict"))
        if evict is not None and now_ms() >= number(evict, "until_ms"):
            self._cancel(job)

    def _cancel(self, job: NativeJob) -> None:
        """Ends all of Slurm's jobs of this name, but does not ask too often."""
        at_s = self._cancelled_s.get(job.name)
        if at_s is None or time.monotonic() - at_s > CANCEL_AGAIN_S:
            self._runner.act(commands.scancel(self._user, job.name))
            self._cancelled_s[job.name] = time.monotonic()

    # Polling

    def poll(self, jobs: tuple[NativeJob, ...]) -> dict[str, NativeStatus]:
        """The state of each job; one that can't be told now is left out, with a warning.

        Raises:
            ExecutorError: `executor-disk`, `slurm-…` (transient): none can be told.
        """
        found: dict[str, NativeStatus] = {}
        open_jobs: list[NativeJob] = []
        failures: list[ExecutorError] = []
        for job in jobs:
            try:
                status = self._known(job)
            except ExecutorError as error:
                failures.append(error)
                continue
            if status is None:
                open_jobs.append(job)
            else:
                found[job.name] = status
        if open_jobs:
            failures += self._poll_open(open_jobs, found)
        if failures and not found:
            raise failures[0]
        for failure in failures:
            self._warn(failure)
        return found

    def _known(self, job: NativeJob) -> NativeStatus | None:
        """What the job's folder alone tells for good."""
        with file_errors(job.folder):
            status = read_status(job.folder / "batch" / "status", job.name)
            if status is None and (marker_of(job) or {}).get("holder") == DAEMON:
                status = NativeStatus(name=job.name, state=NativeState.NOT_FOUND)
            return status

    def _poll_open(
        self, jobs: list[NativeJob], found: dict[str, NativeStatus]
    ) -> list[ExecutorError]:
        """Asks Slurm for the jobs, puts what it tells into `found`, returns what went wrong."""
        try:
            text = self._runner.read(commands.squeue(self._user))
            rows, odd = parse.parse_queue(text)
        except ExecutorError as error:
            return [error]
        by_name: dict[str, list[QueueRow]] = {}
        for row in rows:
            by_name.setdefault(row.name, []).append(row)
        failures: list[ExecutorError] = []
        for job in jobs:
            unreadable = [line for line in odd if job.name in line]
            if unreadable:
                failures.append(_unreadable(job, unreadable[0]))
                continue
            try:
                with file_errors(job.folder):
                    status = self._judge(job, by_name.get(job.name, []))
            except ExecutorError as error:
                failures.append(error)
                continue
            if status is not None:
                found[job.name] = status
                if status.state is NativeState.ENDED:
                    self._cancelled_s.pop(job.name, None)
        return failures

    def _judge(self, job: NativeJob, rows: list[QueueRow]) -> NativeStatus | None:
        """The state of one job, given its rows in the queue; None if it can't be told now."""
        marker = marker_of(job)
        row = _choose(rows, (marker or {}).get("job_id", ""))
        if row is None:
            return self._endings.gone(job, marker)
        if row.state in ENDED:
            return self._endings.ended(job, self._endings.details(row), row.job_id)
        cancelled = (job.folder / "batch" / "cancel").exists()
        if cancelled or now_ms() >= job.kill_at_ms + OVERDUE_MS:
            self._cancel(job)
        self._end_evicted(job)
        if marker is None:
            return NativeStatus(name=job.name, state=NativeState.QUEUED, detail=row.reason)
        # A job that has begun and waits again was lost by a slurmctld that crashed, or requeued.
        # It may be alive, so that Slurm must put it right itself: it begins it anew, in vain.
        return NativeStatus(
            name=job.name, state=NativeState.RUNNING, started_ms=began_s(job, marker, row) * 1000
        )

    def _warn(self, error: ExecutorError) -> None:
        """Logs an error that cost only its own job, once."""
        if str(error) not in self._warned:
            self._warned.add(str(error))
            log.warning("%s", error)


def _choose(rows: list[QueueRow], job_id: str) -> QueueRow | None:
    """The row that tells of the attempt: the marker's holder, else one that may begin yet.

    Two rows of one name can only come from a submission whose answer was lost.
    """
    held = [row for row in rows if row.job_id == job_id]
    alive = [row for row in rows if row.state not in ENDED]
    candidates = held or alive or rows
    return candidates[-1] if candidates else None


def _unreadable(job: NativeJob, line: str) -> ExecutorError:
    return ExecutorError(
        "slurm-output",
        f"squeue tells of {job.name} in a way that can't be read: {line!r:.200}",
        remedy="the job is looked at again; tell the maintainers the line and Slurm's version",
        transient=True,
    )
