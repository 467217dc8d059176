"""The executor's judgement where a real Slurm 22.05 can't be made to show it.

The suite on a real Slurm is tests/e2e/slurm.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfed.core.records import Outcome
from p2pfed.errors import ExecutorError
from p2pfed.execute.interface import NativeJob, NativeState, NativeStatus
from p2pfed.execute.jobs import now_ms, read_marker
from p2pfed.execute.slurm.executor import SlurmExecutor
from p2pfed.execute.slurm.runner import REST_S
from tests.unit.execute.slurm.fakes import SLURMDBD, FakeSlurm, mark_begun

START_S = 1_795_445_091
DETAILS = (
    "JobId=7 JobName=x JobState={state} Reason=None Restarts=0 ExitCode={exit} "
    "StartTime={start} EndTime=1795445999 PreemptTime=None NumNodes=1 NumCPUs=4 JOB_GRES=(null)\n"
)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the guests' account can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="p2pfed-slurm-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def slurm(open_folder: Path) -> FakeSlurm:
    (open_folder / "bin").mkdir(mode=0o755)
    return FakeSlurm(open_folder / "bin")


@pytest.fixture
def job(open_folder: Path) -> NativeJob:
    return make_job(open_folder, "a")


def make_job(folder: Path, name: str) -> NativeJob:
    """A job whose lease is young."""
    work = folder / name / "work"
    work.mkdir(parents=True)
    (work / "job.sh").write_text("#!/bin/sh\n")
    now = time.time_ns() // 1_000_000
    return NativeJob(
        name=f"p2pfed-test.{name}",
        folder=folder / name,
        script="job.sh",
        nodes=1,
        cores_per_node=4,
        memory_mib_per_node=64,
        walltime_s=90,
        begin_before_ms=now + 600_000,
        kill_at_ms=now + 900_000,
    )


def row(job: NativeJob, state: str, job_id: str = "7", start: str = str(START_S)) -> str:
    """The job as squeue lists it."""
    return f"{job_id}|{state}|{job.name}|{start}|N/A|None\n"


def polled(executor: SlurmExecutor, job: NativeJob) -> NativeStatus | None:
    return executor.poll((job,)).get(job.name)


# Submitting


def test_the_command_says_once_and_in_time(slurm: FakeSlurm, job: NativeJob) -> None:
    slurm.executor().submit(job)
    (call,) = slurm.calls("sbatch")
    last_s = job.kill_at_ms // 1000 - 3
    for option in ("--no-requeue", "--time=2", f"--deadline=uts{last_s}", "--ntasks-per-node=4"):
        assert option in call.split()
    assert "job_id=7" in (job.folder / "batch" / "submitted").read_text()


def test_a_job_that_slurm_knows_by_name_is_not_submitted_again(
    slurm: FakeSlurm, job: NativeJob
) -> None:
    slurm.says("squeue", row(job, "PENDING"))
    slurm.executor().submit(job)
    assert slurm.calls("sbatch") == []


def test_a_refusal_is_final_and_the_job_never_runs(slurm: FakeSlurm, job: NativeJob) -> None:
    message = "sbatch: error: Batch job submission failed: Invalid partition name specified"
    slurm.says("sbatch", err=message, code=1)
    with pytest.raises(ExecutorError, match="Invalid partition name") as caught:
        slurm.executor().submit(job)
    assert (caught.value.code, caught.value.transient) == ("slurm-refused", False)
    assert (read_marker(job) or {})["holder"] == "daemon"


@pytest.mark.parametrize(
    "message",
    [
        "Unable to contact slurm controller (connect failure)",
        "Socket timed out on send/recv operation",
        "slurm_load_jobs error: Slurm backup controller in standby mode",
        'Munge encode failed: Failed to access "/run/munge/munge.socket.2"',
    ],
)
def test_a_slurm_that_cannot_be_reached_is_waited_for_without_asking_all_the_time(
    slurm: FakeSlurm, job: NativeJob, message: str
) -> None:
    slurm.says("squeue", err=f"sbatch: error: {message}", code=1)
    executor = slurm.executor()
    for _ in range(3):
        with pytest.raises(ExecutorError) as caught:
            executor.poll((job,))
        assert (caught.value.code, caught.value.transient) == ("slurm-unreachable", True)
    assert len(slurm.calls("squeue")) == 1
    assert read_marker(job) is None
    assert REST_S > 0


def test_a_command_that_hangs_is_given_up(slurm: FakeSlurm, job: NativeJob) -> None:
    (slurm.folder / "squeue").write_text("#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(ExecutorError, match="no answer in 1 s"):
        slurm.executor(timeout_s=1).poll((job,))


def test_missing_commands_have_a_code(slurm: FakeSlurm, job: NativeJob) -> None:
    (slurm.folder / "squeue").unlink()
    with pytest.raises(ExecutorError) as caught:
        slurm.executor().poll((job,))
    assert (caught.value.code, caught.value.transient) == ("slurm-command", True)


# Judging


def test_one_bad_job_never_hides_the_others(slurm: FakeSlurm, open_folder: Path) -> None:
    good, bad, new = (make_job(open_folder, name) for name in ("good", "bad", "new"))
    for job in (good, bad, new):
        mark_begun(job)
    lines = row(good, "RUNNING"), f"7|RUNNING|{bad.name}\n", row(new, "HIBERNATING")
    slurm.says("squeue", "".join(lines))
    found = slurm.executor().poll((bad, good, new))
    assert {name: status.state for name, status in found.items()} == {
        good.name: NativeState.RUNNING
    }


def test_a_job_whose_end_cannot_be_read_is_looked_at_again(
    slurm: FakeSlurm, job: NativeJob
) -> None:
    mark_begun(job)
    slurm.says("squeue", row(job, "COMPLETED"))
    slurm.says("scontrol", "JobId=7 of a new kind\n")
    executor = slurm.executor()
    with pytest.raises(ExecutorError, match="slurm-output"):
        executor.poll((job,))
    slurm.says("scontrol", DETAILS.format(state="COMPLETED", exit="0:0", start=START_S))
    status = polled(executor, job)
    assert status is not None and status.outcome is Outcome.COMPLETED


def test_a_job_that_was_purged_is_found_in_accounting(slurm: FakeSlurm, job: NativeJob) -> None:
    mark_begun(job)
    slurm.says("config", SLURMDBD)
    executor = slurm.executor()
    # slurmdbd is late: the job is not known to be over.
    slurm.says("sacct", "7|RUNNING|1795445091|Unknown|0:0|4||\n")
    assert polled(executor, job) is None
    ended = (
        "7|FAILED|1795445091|1795445999|3:0|4||\n7.batch|FAILED|1795445091|1795445999|3:0|4|9M|\n"
    )
    slurm.says("sacct", ended)
    status = polled(executor, job)
    assert status is not None
    assert (status.outcome, status.exit_code) == (Outcome.FAILED, 3)
    assert (status.started_ms, status.ended_ms) == (START_S * 1000, 1_795_445_999_000)
    assert status.memory_mib_max == 9
    slurm.says("sacct", "")
    assert polled(slurm.executor(), job) == status


def test_a_job_that_nobody_remembers_is_lost_only_when_its_lease_is_over(
    slurm: FakeSlurm, open_folder: Path
) -> None:
    young = make_job(open_folder, "young")
    mark_begun(young)
    assert polled(slurm.executor(), young) is None
    old = NativeJob(
        name="p2pfed-test.old",
        folder=open_folder / "old",
        script="job.sh",
        nodes=1,
        cores_per_node=1,
        memory_mib_per_node=64,
        walltime_s=60,
        begin_before_ms=0,
        kill_at_ms=now_ms() - 10_000,
    )
    old.folder.mkdir()
    mark_begun(old)
    status = polled(slurm.executor(), old)
    assert status is not None and status.outcome is Outcome.NODE_FAILURE


@pytest.mark.parametrize("state", ["BOOT_FAIL", "NODE_FAIL", "REVOKED", "DEADLINE", "COMPLETED"])
def test_a_job_that_ended_without_a_start_has_not_started(
    slurm: FakeSlurm, job: NativeJob, state: str
) -> None:
    slurm.says("squeue", row(job, state))
    slurm.says("scontrol", DETAILS.format(state=state, exit="0:0", start=START_S))
    status = polled(slurm.executor(), job)
    assert status is not None
    assert status.outcome is Outcome.NOT_STARTED
    assert status.started_ms == status.ended_ms


def test_a_second_begin_tells_nothing_of_the_first(slurm: FakeSlurm, job: NativeJob) -> None:
    mark_begun(job)
    executor = slurm.executor()
    slurm.says("squeue", row(job, "RUNNING"))
    assert polled(executor, job) == NativeStatus(
        name=job.name, state=NativeState.RUNNING, started_ms=START_S * 1000
    )
    slurm.says("squeue", row(job, "PENDING", start="N/A"))
    waiting = polled(executor, job)
    assert waiting is not None and waiting.state is NativeState.RUNNING
    assert slurm.calls("scancel") == []
    slurm.says("squeue", row(job, "COMPLETED", start=str(START_S + 99)))
    slurm.says("scontrol", DETAILS.format(state="COMPLETED", exit="0:0", start=START_S + 99))
    status = polled(executor, job)
    assert status is not None and status.outcome is Outcome.NODE_FAILURE


def test_of_two_jobs_of_one_name_the_markers_holder_counts(
    slurm: FakeSlurm, job: NativeJob
) -> None:
    mark_begun(job, job_id="8")
    slurm.says("squeue", row(job, "RUNNING", "8") + row(job, "COMPLETED", "9"))
    status = polled(slurm.executor(), job)
    assert status is not None and status.state is NativeState.RUNNING


@pytest.mark.parametrize("forged", ["removed", "holder=daemon\n", "pipe", "folder", "link"])
def test_a_guest_cannot_hide_that_its_job_has_begun(
    slurm: FakeSlurm, job: NativeJob, forged: str
) -> None:
    mark_begun(job)
    executor = slurm.executor()
    slurm.says("squeue", row(job, "RUNNING"))
    polled(executor, job)
    marker = job.folder / "control" / f"started-{job.name}"
    marker.unlink()
    if forged == "pipe":
        os.mkfifo(marker)
    elif forged == "folder":
        marker.mkdir()
    elif forged == "link":
        marker.symlink_to("/etc/passwd")
    elif forged != "removed":
        marker.write_text(forged)
    status = polled(executor, job)
    assert status is not None and status.state is NativeState.RUNNING
    slurm.says("squeue", row(job, "FAILED"))
    slurm.says("scontrol", DETAILS.format(state="FAILED", exit="3:0", start=START_S))
    status = polled(executor, job)
    assert status is not None and (status.outcome, status.exit_code) == (Outcome.FAILED, 3)


def test_a_script_that_is_not_on_the_list_is_refused(slurm: FakeSlurm, job: NativeJob) -> None:
    digest = hashlib.sha256(b"#!/bin/sh\n").hexdigest()
    slurm.executor(scripts=(digest,)).submit(job)
    (job.folder / "work" / "job.sh").write_text("#!/bin/sh\nrm -rf /\n")
    with pytest.raises(ExecutorError) as caught:
        slurm.executor(scripts=(digest,)).submit(job)
    assert (caught.value.code, caught.value.transient) == ("slurm-script", False)


def test_a_cancel_that_slurm_did_not_hear_is_told_again(slurm: FakeSlurm, job: NativeJob) -> None:
    slurm.says("scancel", err="scancel: error: Unable to contact slurm controller", code=1)
    with pytest.raises(ExecutorError):
        slurm.executor().cancel(job)
    slurm.says("scancel")
    slurm.says("squeue", row(job, "PENDING"))
    polled(slurm.executor(), job)
    assert len(slurm.calls("scancel")) == 2


def test_a_job_past_its_lease_is_ended_by_the_daemon_too(
    slurm: FakeSlurm, open_folder: Path
) -> None:
    job = make_job(open_folder, "late")
    object.__setattr__(job, "kill_at_ms", now_ms() - 10_000)
    mark_begun(job)
    slurm.says("squeue", row(job, "RUNNING"))
    polled(slurm.executor(), job)
    assert len(slurm.calls("scancel")) == 1
