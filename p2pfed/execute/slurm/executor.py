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
    batch/status                how it ended, once that is known

`poll` asks squeue once for all jobs of the account. A job that has ended is looked at once more
(`scontrol show job`), judged (`states.outcome_of`), and its status written down; after that Slurm
may forget it. Who is not in the queue any more is sought in accounting, or in the job completion
records. Only a job that has no start marker is *not found*, and then the daemon takes the marker,
so that it never will be. docs/explanation/slurm.md tells the reasons.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import time
from pathlib import Path
from typing import Final

from p2pfed.core.records import Outcome
from p2pfed.errors import ExecutorError
from p2pfed.execute import notices
from p2pfed.execute.accounts import check_reach, find_account, give, own_name
from p2pfed.execute.interface import Capacity, NativeJob, NativeState, NativeStatus
from p2pfed.execute.jobs import (
    check_job,
    check_size,
    file_errors,
    now_ms,
    number,
    read_status,
    require_work,
)
from p2pfed.execute.slurm import commands, observe, parse
from p2pfed.execute.slurm.parse import JobDetails, QueueRow
from p2pfed.execute.slurm.runner import RefusedError, Runner
from p2pfed.execute.slurm.settings import SlurmSettings
from p2pfed.execute.slurm.states import ENDED, WAITING, outcome_of
from p2pfed.execute.slurm.wrapper import batch_script

log = logging.getLogger("p2pfed.slurm")

OVERDUE_MS: Final = 5000
"""So long after `kill_at_ms` the daemon itself ends what is still there."""
CANCEL_AGAIN_S: Final = 5.0
_CLOCKS_S: Final = 30
_DAEMON: Final = "daemon"
_SLURM: Final = "slurm"
_MADE_UNREADABLE: Final = (errno.EACCES, errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""What reading a marker fails with when a guest put something else in its place."""


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
        self._config: dict[str, str] | None = None
        self._cancelled_s: dict[str, float] = {}
        self._warned: set[str] = set()

    # Capacity

    def capacity(self) -> Capacity:
        """The hardware of the partition: its nodes, and what the largest of them has.

        Raises:
            ExecutorError: `slurm-…` (transient): Slurm can't be asked.
        """
        return observe.hardware(observe.parse_nodes(self._read_nodes()))

    def observe(self) -> observe.Observation:
        """What the partition has, does and waits for at this moment.

        Raises:
            ExecutorError: `slurm-…` (transient): Slurm can't be asked.
        """
        return observe.make_observation(
            nodes=self._read_nodes(),
            waiting=self._runner.read(commands.pending(starts=False)),
            starts=self._runner.read(commands.pending(starts=True)),
            guests=self._user,
        )

    def expected_start_s(self, *, nodes: int, cores_per_node: int, minutes: int) -> int:
        """When a job of this size would begin, in seconds since the epoch; queues nothing.

        Raises:
            ExecutorError: `slurm-refused`: it never would; `slurm-…` (transient): Slurm can't be
                asked.
        """
        command = commands.test_only(
            self._settings.partition, nodes=nodes, cores_per_node=cores_per_node, minutes=minutes
        )
        return observe.parse_test_only(self._runner.act_for_errors(command))

    def _read_nodes(self) -> str:
        return self._runner.read(commands.sinfo(self._settings.partition))

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
            batch = _make_folder(job, "batch")
            if _marker(job) is not None or (batch / "status").exists():
                return
            if (batch / "cancel").exists():
                _give_up(job)
                return
            if self._find(job):
                return
            self._prepare(job)
            try:
                job_id = self._submit(job)
            except RefusedError:
                # Refused means that it never runs, also if Slurm took it all the same.
                _give_up(job)
                raise
            notices.post(str(batch / "submitted"), {"job_id": job_id, "at_ms": str(now_ms())})

    def _find(self, job: NativeJob) -> bool:
        """True if Slurm knows a job of this name."""
        rows, odd = parse.parse_queue(self._runner.read(commands.squeue(self._user, job.name)))
        return bool(rows or odd)

    def _submit(self, job: NativeJob) -> str:
        # Slurm asks for the end at the time limit, and kills KillWait later.
        last_s = job.kill_at_ms // 1000 - parse.parse_seconds(self._setting("KillWait"))
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
        _make_folder(job, "tmp")
        control = _make_folder(job, "control")
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
                _share(top, account.gid)

    # Cancelling

    def cancel(self, job: NativeJob) -> None:
        """Remembers that the job shall end, and tells Slurm; `poll` tells it again if need be.

        Raises:
            ExecutorError: `executor-disk`, `slurm-…` (transient): Slurm was not told yet.
        """
        with file_errors(job.folder):
            if not job.folder.is_dir():
                return
            batch = _make_folder(job, "batch")
            if (batch / "status").exists():
                return
            notices.post(str(batch / "cancel"), {"at_ms": str(now_ms())})
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
            if status is None and (_marker(job) or {}).get("holder") == _DAEMON:
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
        return failures

    def _judge(self, job: NativeJob, rows: list[QueueRow]) -> NativeStatus | None:
        """The state of one job, given its rows in the queue; None if it can't be told now."""
        marker = _marker(job)
        row = _choose(rows, (marker or {}).get("job_id", ""))
        if row is None:
            return self._gone(job, marker)
        if row.state in ENDED:
            return self._ended(job, self._details(row), row.job_id)
        cancelled = (job.folder / "batch" / "cancel").exists()
        if cancelled or now_ms() >= job.kill_at_ms + OVERDUE_MS:
            self._cancel(job)
        if marker is None:
            return NativeStatus(name=job.name, state=NativeState.QUEUED, detail=row.reason)
        # A job that has begun and waits again was lost by a slurmctld that crashed, or requeued.
        # It may be alive, so that Slurm must put it right itself: it begins it anew, in vain.
        return NativeStatus(
            name=job.name, state=NativeState.RUNNING, started_ms=_began_s(job, marker, row) * 1000
        )

    def _details(self, row: QueueRow) -> JobDetails:
        """How a job ended, by the controller; by accounting if that forgot it meanwhile."""
        try:
            details = parse.parse_details(self._runner.read(commands.show_job(row.job_id)))
        except RefusedError:
            details = self._accounted(row.job_id) or JobDetails(
                state=row.state,
                start_s=row.start_s,
                end_s=row.end_s,
                exit_code=int(row.state == "FAILED"),
                signal=0,
            )
        return details

    def _gone(self, job: NativeJob, marker: dict[str, str] | None) -> NativeStatus | None:
        """A job that is not in the queue: never submitted, purged, or lost with the controller."""
        if marker is None:
            _give_up(job)
            marker = _marker(job) or {}
            if marker.get("holder") == _DAEMON:
                return NativeStatus(name=job.name, state=NativeState.NOT_FOUND)
        submitted = notices.read(str(job.folder / "batch" / "submitted")) or {}
        job_id = submitted.get("job_id") or marker.get("job_id", "")
        details = self._accounted(job_id)
        if details is None and now_ms() >= job.kill_at_ms + OVERDUE_MS:
            began_s = number(marker, "at_ms") // 1000
            details = JobDetails(
                state="NODE_FAIL",
                start_s=began_s,
                end_s=max(began_s, job.kill_at_ms // 1000),
                exit_code=0,
                signal=0,
                reason="Slurm does not know it any more",
            )
        return None if details is None else self._ended(job, details, job_id)

    def _accounted(self, job_id: str) -> JobDetails | None:
        """What accounting or the completion records tell of a job that is over."""
        if not job_id or not (self._has_accounting() or self._has_completion()):
            return None
        command = commands.sacct(job_id, completion=not self._has_accounting())
        return parse.parse_accounting(self._runner.read(command), job_id)

    def _ended(self, job: NativeJob, details: JobDetails, job_id: str) -> NativeStatus | None:
        """Writes down how a job ended, once for all; None if it has just begun after all."""
        _give_up(job)
        marker = _marker(job) or {}
        began = marker.get("holder") != _DAEMON
        again = began and _is_second_begin(job, marker, details)
        outcome = outcome_of(
            "NODE_FAIL" if again else details.state,
            began=began,
            cancelled=(job.folder / "batch" / "cancel").exists(),
            overdue=(job.folder / "control" / f"overdue-{job.name}").exists(),
            preempted=details.preempted,
        )
        started_s = details.start_s if began else details.end_s
        fields = {
            "outcome": Outcome(outcome).name.lower().replace("_", "-"),
            "started_ms": str(started_s * 1000),
            "ended_ms": str(max(started_s, details.end_s) * 1000),
            "exit_code": str(details.exit_code),
            "signal": str(details.signal),
            "memory_mib_max": str(details.memory_mib_max or self._memory(job_id)),
            "detail": f"Slurm job {job_id}: {details.state} {details.reason}".strip(),
            "job_id": job_id,
            "cores": str(details.cores),
            "gpus": str(details.gpus),
        }
        if self._runner.by_sudo and began:
            # It goes on after what is not the guest's own, and then fails.
            with contextlib.suppress(RefusedError):
                self._runner.act(["chmod", "-R", "g+rwX", f"{job.folder.absolute()}/work"])
        notices.post(str(_make_folder(job, "batch") / "status"), fields)
        self._cancelled_s.pop(job.name, None)
        return read_status(job.folder / "batch" / "status", job.name)

    def _memory(self, job_id: str) -> int:
        """The most memory that a step used, in MiB, if accounting tells already; else 0."""
        try:
            if not job_id or not self._has_accounting():
                return 0
            text = self._runner.read(commands.sacct(job_id, completion=False))
        except ExecutorError:
            return 0
        return parse.parse_memory(text, job_id)

    # The cluster's configuration

    def _setting(self, name: str) -> str:
        if self._config is None:
            self._config = parse.parse_config(self._runner.read(commands.show_config()))
        return self._config.get(name, "")

    def _has_accounting(self) -> bool:
        return self._setting("AccountingStorageType") == "accounting_storage/slurmdbd"

    def _has_completion(self) -> bool:
        return self._setting("JobCompType") == "jobcomp/filetxt"

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


def _marker(job: NativeJob) -> dict[str, str] | None:
    """The start marker; what a guest made of it can't hide that its job has begun.

    The batch script makes it as the guests' account, so that a guest could change or remove it:
    only a marker that is ours says that we hold it, and what we saw running has begun.
    """
    try:
        found = notices.read_with_owner(str(job.folder / "control" / f"started-{job.name}"))
    except OSError as error:
        if error.errno not in _MADE_UNREADABLE:
            raise
        return {"holder": _SLURM}
    began = (job.folder / "batch" / "began").exists()
    if found is None:
        return {"holder": _SLURM} if began else None
    fields, owner = found
    if fields.get("holder") == _DAEMON and (began or owner != os.geteuid()):
        return {**fields, "holder": _SLURM}
    return fields


def _give_up(job: NativeJob) -> None:
    """Takes the start marker for the daemon, unless the job has begun."""
    control = _make_folder(job, "control")
    notices.take_marker(str(control), job.name, {"holder": _DAEMON, "at_ms": str(now_ms())})


def _make_folder(job: NativeJob, name: str) -> Path:
    folder = job.folder / name
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        notices.sync_folder(str(job.folder))
    return folder


def _share(top: Path, gid: int) -> None:
    """Lets a group use a folder and everything in it, also what is made there later."""
    for _, _, files, folder_fd in os.fwalk(top):
        os.fchown(folder_fd, -1, gid)
        os.fchmod(folder_fd, 0o2770)
        for name in files:
            os.chown(name, -1, gid, dir_fd=folder_fd, follow_symlinks=False)
            executable = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode & 0o100
            os.chmod(name, 0o770 if executable else 0o660, dir_fd=folder_fd)


def _began_s(job: NativeJob, marker: dict[str, str], row: QueueRow) -> int:
    """When a job that has begun began; remembers it, since guests could change their marker."""
    path = str(_make_folder(job, "batch") / "began")
    began = notices.read(path)
    if began is None and row.start_s and row.state not in WAITING:
        began = {"start_s": str(row.start_s)}
        notices.post(path, began)
    return number(began or {}, "start_s") or number(marker, "at_ms") // 1000


def _is_second_begin(job: NativeJob, marker: dict[str, str], details: JobDetails) -> bool:
    """True if Slurm tells of a later begin than the one that ran the script.

    Then nobody knows how that one ended. Clocks of nodes may differ a little.
    """
    began = notices.read(str(job.folder / "batch" / "began"))
    if began is not None:
        return details.start_s > number(began, "start_s")
    return details.start_s > number(marker, "at_ms") // 1000 + _CLOCKS_S


def _unreadable(job: NativeJob, line: str) -> ExecutorError:
    return ExecutorError(
        "slurm-output",
        f"squeue tells of {job.name} in a way that can't be read: {line!r:.200}",
        remedy="the job is looked at again; tell the maintainers the line and Slurm's version",
        transient=True,
    )
