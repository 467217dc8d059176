"""Centres over real clusters: what the tests of whole federations have in common."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.executor import is_alive
from tests.e2e.federation import Centre
from tests.e2e.slurm.bed import GUEST, ROOT, shared_folder, slurm, slurm_conf
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[3]
RULES = {"queue_ms": 60_000, "fetch_ms": 30_000, "kill_grace_ms": 15_000}


def use_slurm(centre: Centre) -> None:
    """Turns a centre of local processes into one of its cluster."""
    centre.edit_config('# kind = "local"', 'kind = "slurm"')
    centre.edit_config('# run_as = ""', f'run_as = "{GUEST}"')
    centre.edit_config('required.\n# partition = ""', 'required.\npartition = "guest"')
    centre.edit_config('# conf = ""', f'conf = "{slurm_conf(centre.name)}"')
    for folder in (centre.folder, centre.folder / "spool", centre.folder / "spool" / "claims"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)


def running(cluster: str) -> list[str]:
    """The guests' jobs that a cluster has not ended."""
    return slurm(cluster, "squeue", "--noheader", f"--user={GUEST}", "--format=%j").split()


def until_line(path: Path) -> str:
    """Waits until a guest has written a line to a file."""

    def line() -> str:
        text = path.read_text() if path.exists() else ""
        return text if text.endswith("\n") else ""

    return wait_until(line, str(path), 90)


def end_controller(cluster: str, number: signal.Signals) -> None:
    """Ends a cluster's slurmctld by a signal, and waits until it is gone."""
    pid = int((ROOT / cluster / "run" / "slurmctld.pid").read_text())
    os.kill(pid, number)
    wait_until(lambda: not is_alive(pid), "the end of slurmctld", 10)


def start_controller(cluster: str) -> None:
    """Starts what is missing of a cluster."""
    testbed = REPOSITORY / "scripts" / "slurm-testbed"
    subprocess.run([testbed, "up", cluster, "--root", ROOT], check=True)


def outcomes(home: Centre, job_id: str) -> list[str | None]:
    """How the attempts of a job ended."""
    return [attempt["outcome"] for attempt in home.job(job_id)["attempts"]]


@contextmanager
def witnesses() -> Iterator[Path]:
    """A folder in which guests leave signs of life."""
    with shared_folder() as folder:
        folder.chmod(0o1777)
        yield folder
