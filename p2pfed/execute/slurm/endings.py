"""How a job ended: by the controller, accounting or completion records; written down once.

A job that is over is looked at once more, judged by `states.outcome_of`, and its status written
into its folder; after that Slurm may forget it.
"""

from __future__ import annotations

import contextlib
from typing import Final

from p2pfed.core.records import Outcome
from p2pfed.errors import ExecutorError
from p2pfed.execute import notices
from p2pfed.execute.interface import NativeJob, NativeState, NativeStatus
from p2pfed.execute.jobs import now_ms, number, read_status
from p2pfed.execute.slurm import commands, parse
from p2pfed.execute.slurm.claimfolder import (
    DAEMON,
    give_up,
    is_second_begin,
    make_folder,
    marker_of,
)
from p2pfed.execute.slurm.cluster import Cluster
from p2pfed.execute.slurm.parse import JobDetails, QueueRow
from p2pfed.execute.slurm.runner import RefusedError, Runner
from p2pfed.execute.slurm.states import outcome_of

OVERDUE_MS: Final = 5000
"""So long after `kill_at_ms` the daemon itself ends what is still there."""


class Endings:
    """Finds out how jobs ended that are not alive any more."""

    def __init__(self, runner: Runner, cluster: Cluster) -> None:
        self._runner = runner
        self._cluster = cluster

    def details(self, row: QueueRow) -> JobDetails:
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

    def gone(self, job: NativeJob, marker: dict[str, str] | None) -> NativeStatus | None:
        """A job that is not in the queue: never submitted, purged, or lost with the controller."""
        if marker is None:
            give_up(job)
            marker = marker_of(job) or {}
            if marker.get("holder") == DAEMON:
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
        return None if details is None else self.ended(job, details, job_id)

    def _accounted(self, job_id: str) -> JobDetails | None:
        """What accounting or the completion records tell of a job that is over."""
        if not job_id or not (self._cluster.has_accounting() or self._cluster.has_completion()):
            return None
        command = commands.sacct(job_id, completion=not self._cluster.has_accounting())
        return parse.parse_accounting(self._runner.read(command), job_id)

    def ended(self, job: NativeJob, details: JobDetails, job_id: str) -> NativeStatus | None:
        """Writes down how a job ended, once for all; None if it has just begun after all."""
        give_up(job)
        marker = marker_of(job) or {}
        began = marker.get("holder") != DAEMON
        evict = notices.read(str(job.folder / "batch" / "evict")) or {}
        told = number(evict, "told") > 0
        again = began and is_second_begin(job, marker, details)
        outcome = outcome_of(
            "NODE_FAIL" if again else details.state,
            began=began,
            cancelled=(job.folder / "batch" / "cancel").exists(),
            overdue=(job.folder / "control" / f"overdue-{job.name}").exists(),
            preempted=details.preempted or told,
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
            folders = [f"{job.folder.absolute()}/{name}" for name in ("work", "tmp", "control")]
            with contextlib.suppress(RefusedError):
                self._runner.act(["chmod", "-R", "g+rwX", *folders])
        notices.post(str(make_folder(job, "batch") / "status"), fields)
        return read_status(job.folder / "batch" / "status", job.name)

    def _memory(self, job_id: str) -> int:
        """The most memory that a step used, in MiB, if accounting tells already; else 0."""
        try:
            if not job_id or not self._cluster.has_accounting():
                return 0
            text = self._runner.read(commands.sacct(job_id, completion=False))
        except ExecutorError:
            return 0
        return parse.parse_memory(text, job_id)
