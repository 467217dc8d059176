"""The real clusters of `scripts/slurm-testbed up`, for tests.

`P2PFED_TESTBED` names the folder of another test bed (`--root`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2pfed.execute.slurm.executor import SlurmExecutor
from p2pfed.execute.slurm.settings import SlurmSettings

ROOT = Path(os.environ.get("P2PFED_TESTBED", "/var/lib/slurm-testbed"))
GUEST = "fedguest"
RESIDENT = "resident"
DAEMON = "fedaemon"
CLUSTERS = ("alpha", "beta", "gamma")


def require_clusters(*names: str) -> None:
    """Skips the test unless these clusters answer; with P2PFED_SLURM=1 it fails instead."""
    for name in names:
        why = ""
        if os.geteuid() != 0:
            why = "real Slurm clusters are run as root"
        elif shutil.which("sinfo") is None:
            why = "Slurm is not installed; run scripts/slurm-testbed up"
        elif not slurm_conf(name).exists() or not slurm(name, "sinfo", "-h", check=False):
            why = f"the cluster {name} is not up; run scripts/slurm-testbed up"
        if why and os.environ.get("P2PFED_SLURM") == "1":
            pytest.fail(why)
        if why:
            pytest.skip(why)


def slurm_conf(cluster: str) -> Path:
    """What SLURM_CONF names."""
    return ROOT / cluster / "etc" / "slurm.conf"


def slurm(
    cluster: str, *command: str, user: str = "root", script: str = "", check: bool = True
) -> str:
    """What one of Slurm's commands printed, run as an account of the machine."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "SLURM_CONF": str(slurm_conf(cluster)),
        "SLURM_TIME_FORMAT": "%s",
    }
    result = subprocess.run(
        command,
        input=script,
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
        user=user,
        group=user,
        extra_groups=[],
        timeout=60,
    )
    assert not check or result.returncode == 0, result.stderr
    return result.stdout


def executor(cluster: str) -> SlurmExecutor:
    """An executor as a daemon of this cluster makes it at its start."""
    conf = str(slurm_conf(cluster))
    return SlurmExecutor(SlurmSettings(partition="guest", run_as=GUEST, conf=conf))


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder that guests can reach, as the spool of a daemon must be."""
    scratch = ROOT / "scratch"
    scratch.mkdir(mode=0o755, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=scratch))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
