"""A daemon that is not root, with the sudo rules of the manual and nothing beside them.

The rules are read from docs/how-to/run-a-slurm-site.md, and only the accounts' names are replaced.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.executor import is_alive
from tests.e2e.federation import Centre, Federation
from tests.e2e.slurm.bed import DAEMON, GUEST, RESIDENT, require_clusters, slurm
from tests.e2e.slurm.centres import (
    REPOSITORY,
    RULES,
    outcomes,
    running,
    until_line,
    use_slurm,
    witnesses,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

RULES_FILE = Path("/etc/sudoers.d/p2pfed-testbed")
NAMES = ("alpha", "beta")


def manual_rules() -> str:
    """The sudo rules of the manual, for this machine's accounts."""
    page = (REPOSITORY / "docs" / "how-to" / "run-a-slurm-site.md").read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    text = "".join(block for block in blocks if "NOPASSWD" in block)
    assert text.count("NOPASSWD") == 3, "the manual's rules are elsewhere now"
    text = re.sub(r"\bp2pfed ALL", f"{DAEMON} ALL", text)
    text = text.replace("Defaults:p2pfed", f"Defaults:{DAEMON}")
    return text.replace("fedguest", GUEST).replace("hpc-users", RESIDENT)


def reason_to_skip() -> str:
    """What is missing for a daemon without root; empty if nothing is."""
    if os.geteuid() != 0:
        return "only root can start a daemon as another account"
    if shutil.which("sudo") is None or shutil.which("visudo") is None:
        return "sudo is not installed; run scripts/slurm-testbed up"
    try:
        pwd.getpwnam(DAEMON)
    except KeyError:
        return f"there is no account {DAEMON}; run scripts/slurm-testbed up"
    if not interpreter():
        return f"{DAEMON} can reach no Python, or not {REPOSITORY}"
    return ""


PYTHONPATH = os.pathsep.join([str(REPOSITORY), sysconfig.get_path("purelib")])
"""This program and what it needs, also for a Python that is not this one."""


@cache
def interpreter() -> str:
    """A Python of this version that the daemon's account may run; empty if there is none."""
    for python in (sys.executable, "/usr/bin/python3"):
        version = f"assert sys.version_info[:2] == {sys.version_info[:2]}"
        with suppress(OSError):
            tried = subprocess.run(
                [python, "-c", f"import sys, p2pfed.shell.daemon; {version}"],
                cwd="/",
                env={"PYTHONPATH": PYTHONPATH},
                preexec_fn=become_daemon,
                capture_output=True,
                check=False,
            )
            if not tried.returncode:
                return python
    return ""


def become_daemon() -> None:
    """Turns this process, forked and not yet what it shall be, into one of the account."""
    account = pwd.getpwnam(DAEMON)
    os.initgroups(DAEMON, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


@pytest.fixture(scope="module")
def _rules() -> Iterator[None]:
    require_clusters(*NAMES)
    why = reason_to_skip()
    if why and os.environ.get("P2PFED_SLURM") == "1" and "reach" not in why:
        pytest.fail(why)
    if why:
        pytest.skip(why)
    RULES_FILE.touch(mode=0o440)
    RULES_FILE.write_text(manual_rules())
    try:
        subprocess.run(["visudo", "--check", "--file", RULES_FILE], check=True)
        yield
    finally:
        RULES_FILE.unlink()


@pytest.fixture(scope="module")
def federation(_rules: None) -> Iterator[Federation]:
    """Alpha sends jobs out, beta takes guests, neither is root."""
    for name in NAMES:
        slurm(name, "scancel", f"--user={GUEST}")
        slurm(name, "scancel", f"--user={RESIDENT}")
    rules = {**RULES, "accept_wait_ms": 30_000, "claim_wait_ms": 10_000}
    with Federation.found(*NAMES, cores=4, rules=rules, opened=["beta"]) as made:
        made.root.chmod(0o711)
        for centre in made:
            use_slurm(centre)
        alpha = made["alpha"]
        alpha.edit_config("# partitions = []", 'partitions = ["federated"]')
        alpha.edit_config('# after_wait = "10m"', 'after_wait = "1s"')
        alpha.edit_config('# interval = "10s"', 'interval = "1s"')
        for centre in made:
            subprocess.run(["chown", "-R", f"{DAEMON}:{DAEMON}", centre.folder], check=True)
            centre.python, centre.environment = interpreter(), {"PYTHONPATH": PYTHONPATH}
            centre.begin(become_daemon)
            centre.wait_answering()
        made.until_offers(1)
        yield made


@pytest.fixture
def witness() -> Iterator[Path]:
    """A folder in which guests leave signs of life."""
    with witnesses() as folder:
        yield folder


def programs_of_daemon() -> list[str]:
    """The command lines of all processes of the daemon's account."""
    uid = pwd.getpwnam(DAEMON).pw_uid
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and path.stat().st_uid == uid:
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended meanwhile
    return found


def test_a_guest_runs_as_the_guests_account_and_a_cancel_ends_it(
    federation: Federation, witness: Path
) -> None:
    alpha = federation["alpha"]
    script = f"#!/bin/sh\nid -un >{witness}/who\nsleep 600 &\necho $! >{witness}/began\nwait\n"
    job_id = alpha.submit(script, walltime_s=900)
    pid = int(until_line(witness / "began"))
    assert Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam(GUEST).pw_uid
    assert (witness / "who").read_text().strip() == GUEST
    programs = programs_of_daemon()
    assert any("p2pfed daemon" in program for program in programs)
    assert not [program for program in programs if "sleep" in program or "job.sh" in program]
    alpha.cli("cancel", job_id)
    view = alpha.until_over([job_id], deadline_s=90)[job_id]
    assert (view["state"], outcomes(alpha, job_id)) == ("cancelled", ["cancelled"])
    assert running("beta") == []
    assert not is_alive(pid)


def test_a_local_job_goes_out_and_its_output_comes_home_to_its_user(
    federation: Federation, witness: Path
) -> None:
    home = witness / "home"
    home.mkdir(mode=0o700)
    (home / "data.txt").write_text("42\n")
    for path in (home, home / "data.txt"):
        shutil.chown(path, RESIDENT, RESIDENT)
    local = ("sbatch", "--parsable", "--partition=local", "--nodes=4", "--exclusive", "--time=15")
    busy = slurm(
        "alpha", *local, "--chdir=/", "--output=/dev/null", user=RESIDENT,
        script="#!/bin/sh\nsleep 900\n",
    ).strip()  # fmt: skip
    try:
        text = slurm(
            "alpha", "sbatch", "--parsable", "--partition=federated", "--time=5",
            f"--chdir={home}", "--output=out.txt", user=RESIDENT,
            script="#!/bin/sh\n#P2PFED --input data.txt --fetch made\ncat data.txt\nid -un\n"
            "echo more >made\n",
        )  # fmt: skip
        wait_until((home / "made").exists, "the output at home", 120)
        wait_until(
            lambda: (
                "exit code 0"
                in slurm("alpha", "squeue", "-h", "-t", "all", f"--jobs={text.strip()}", "-o", "%k")
            ),
            "the end in the comment",
            60,
        )
    finally:
        slurm("alpha", "scancel", busy)
    assert (home / "out.txt").read_text().split() == ["42", GUEST]
    assert (home / "made").read_text() == "more\n"
    assert (home / "made").stat().st_uid == pwd.getpwnam(RESIDENT).pw_uid


def test_the_doctor_is_content_with_the_rules_and_names_those_that_lack(
    federation: Federation,
) -> None:
    alpha, beta = federation["alpha"], federation["beta"]

    def doctor(centre: Centre) -> str:
        result = subprocess.run(
            [interpreter(), "-m", "p2pfed", "doctor", "--config", centre.config],
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": PYTHONPATH},
            preexec_fn=become_daemon,
            capture_output=True,
            text=True,
            check=False,
        )
        return result.stdout + result.stderr

    for centre in (alpha, beta):
        assert "failed" not in doctor(centre), doctor(centre)
    RULES_FILE.write_text("".join(manual_rules().splitlines(keepends=True)[:2]))
    try:
        assert "may not run /usr/bin/scontrol hold 1 as slurm" in doctor(alpha)
    finally:
        RULES_FILE.write_text(manual_rules())
