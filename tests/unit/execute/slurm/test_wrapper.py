"""The batch script, run by a shell as Slurm would run it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from p2pfed.execute import notices
from p2pfed.execute.interface import NativeJob
from p2pfed.execute.jobs import read_marker
from p2pfed.execute.slurm.settings import SlurmSettings
from p2pfed.execute.slurm.wrapper import batch_script

SETTINGS = SlurmSettings(partition="guest")


@pytest.fixture
def job(tmp_path: Path) -> NativeJob:
    for name in ("work", "tmp", "control"):
        (tmp_path / name).mkdir()
    now_ms = time.time_ns() // 1_000_000
    return NativeJob(
        name="p2pfed-test.1",
        folder=tmp_path,
        script="job.sh",
        nodes=1,
        cores_per_node=1,
        memory_mib_per_node=64,
        walltime_s=60,
        begin_before_ms=now_ms + 60_000,
        kill_at_ms=now_ms + 120_000,
    )


def begin(job: NativeJob, body: str, settings: SlurmSettings = SETTINGS, job_id: str = "7") -> int:
    """Runs the job's batch script to its end; returns the exit code, or minus the signal."""
    path = job.folder / "work" / job.script
    path.write_text(body)
    path.chmod(0o700)
    script = batch_script(job, settings, user="guest", shared=False)
    file = job.folder / "batch.sh"
    file.write_bytes(script)
    file.chmod(0o700)
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": job_id, "SUDO_USER": "daemon"}
    return subprocess.run([file], env=environment, cwd="/", check=False, timeout=60).returncode


def output(job: NativeJob) -> str:
    return (job.folder / "work" / job.stdout).read_text()


def test_it_becomes_the_script_and_leaves_a_marker(job: NativeJob) -> None:
    assert begin(job, "#!/bin/sh\necho ran >>runs; env; exit 3\n") == 3
    marker = read_marker(job)
    assert marker is not None
    assert (marker["holder"], marker["job_id"]) == ("slurm", "7")
    assert "SLURM_JOB_ID=7" in output(job)
    assert "SUDO_USER" not in output(job)


def test_a_second_begin_of_the_same_slurm_job_runs_nothing(job: NativeJob) -> None:
    for _ in range(2):
        assert begin(job, "#!/bin/sh\necho ran >>runs\n") == 0
    assert (job.folder / "work" / "runs").read_text() == "ran\n"


def test_it_gives_up_without_a_marker_when_it_is_too_late(job: NativeJob) -> None:
    late = replace(job, begin_before_ms=time.time_ns() // 1_000_000)
    assert begin(late, "#!/bin/sh\necho ran >>runs\n") == 0
    assert read_marker(job) is None
    assert not (job.folder / "work" / "runs").exists()


def test_it_runs_nothing_when_the_daemon_holds_the_marker(job: NativeJob) -> None:
    assert notices.take_marker(str(job.folder / "control"), job.name, {"holder": "daemon"})
    assert begin(job, "#!/bin/sh\necho ran >>runs\n") == 0
    assert not (job.folder / "work" / "runs").exists()


def test_it_dies_of_the_scripts_own_signal(job: NativeJob) -> None:
    assert begin(job, "#!/bin/sh\nkill -KILL $$\n") == -signal.SIGKILL
    assert not (job.folder / "control" / f"overdue-{job.name}").exists()


def test_its_watch_ends_a_script_that_outlives_its_walltime(job: NativeJob) -> None:
    short = replace(job, walltime_s=1)
    assert begin(short, "#!/bin/sh\nexec sleep 600\n") == -signal.SIGTERM
    assert (job.folder / "control" / f"overdue-{job.name}").exists()


@pytest.mark.slow
def test_its_watch_kills_a_script_that_will_not_end(job: NativeJob) -> None:
    short = replace(job, walltime_s=1)
    body = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n"
    assert begin(short, body) == -signal.SIGKILL


def test_a_sites_wrapper_stands_in_front_of_the_script(job: NativeJob) -> None:
    wrapper = job.folder / "site"
    wrapper.write_text('#!/bin/sh\necho "site $#"\nexec "$@"\n')
    wrapper.chmod(0o700)
    settings = replace(SETTINGS, wrapper=str(wrapper))
    asked = replace(job, arguments=("a b", "c\rd\r\n"))
    assert begin(asked, '#!/bin/sh\nprintf "%s|" "$@"\n', settings) == 0
    raw = (job.folder / "work" / job.stdout).read_bytes()
    assert raw == b"site 3\na b|c\rd\r\n|"


def test_no_line_of_it_ends_as_on_dos(job: NativeJob) -> None:
    # sbatch refuses such a script.
    asked = replace(job, arguments=("a\r\nb",))
    assert b"\r" not in batch_script(asked, SETTINGS, user="guest", shared=False)


def test_a_container_image_stands_in_front_of_the_script(job: NativeJob) -> None:
    settings = replace(SETTINGS, image="/images/base image.sif")
    last = batch_script(job, settings, user="guest", shared=False).splitlines()[-1].decode()
    work = job.folder / "work"
    assert f"apptainer exec --contain --no-home --pwd={work} --bind {work}" in last
    assert last.endswith("'/images/base image.sif' ./job.sh")
