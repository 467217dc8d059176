"""Users keep `sbatch`: jobs that wait at a congested centre run elsewhere, and come home.

And what administrators order: a withdrawal with guests running, and the books compared.
"""

from __future__ import annotations

import pwd
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.executor import is_alive
from tests.e2e.federation import Federation
from tests.e2e.slurm.bed import CLUSTERS, GUEST, RESIDENT, require_clusters, slurm
from tests.e2e.slurm.centres import (
    RULES,
    end_controller,
    outcomes,
    running,
    start_controller,
    until_line,
    use_slurm,
    witnesses,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

GO = "while [ ! -e {witness}/go ]; do sleep 0.1; done\n"


@pytest.fixture(scope="module")
def founded_s() -> int:
    """When the federation began; what other federations had on these clusters ended before."""
    require_clusters(*CLUSTERS)
    for cluster in CLUSTERS:
        slurm(cluster, "scancel", f"--user={GUEST}")
        slurm(cluster, "scancel", f"--user={RESIDENT}")
    for cluster in CLUSTERS:
        wait_until(lambda: not slurm(cluster, "squeue", "-h"), f"{cluster} to be idle", 60)  # noqa: B023
    # The clusters' own records are in whole seconds.
    return int(time.time()) + 1


@pytest.fixture(scope="module")
def federation(founded_s: int) -> Iterator[Federation]:
    """Alpha sends jobs out, beta and gamma take guests."""
    rules = {**RULES, "accept_wait_ms": 30_000, "claim_wait_ms": 10_000}
    with Federation.found(*CLUSTERS, cores=4, rules=rules, opened=CLUSTERS[1:]) as made:
        made.root.chmod(0o711)
        for centre in made:
            use_slurm(centre)
        alpha = made["alpha"]
        alpha.edit_config("# partitions = []", 'partitions = ["federated"]')
        alpha.edit_config('# after_wait = "10m"', 'after_wait = "1s"')
        alpha.edit_config('# interval = "10s"', 'interval = "1s"')
        made.start()
        made.until_offers(2)
        yield made


@pytest.fixture
def witness() -> Iterator[Path]:
    """A folder in which guests leave signs of life."""
    with witnesses() as folder:
        yield folder


@pytest.fixture
def home(witness: Path) -> Path:
    """A folder of the resident's."""
    folder = witness / "home"
    folder.mkdir(mode=0o700)
    shutil.chown(folder, RESIDENT, RESIDENT)
    return folder


@pytest.fixture
def congestion() -> Iterator[str]:
    """A local job that holds all of alpha's nodes."""
    local = ("sbatch", "--parsable", "--partition=local", "--nodes=4", "--exclusive", "--time=15")
    text = slurm(
        "alpha",
        *local,
        "--chdir=/",
        "--output=/dev/null",
        user=RESIDENT,
        script="#!/bin/sh\nsleep 900\n",
    )
    wait_until(lambda: state("alpha", text.strip()) == "RUNNING", "congestion", 60)
    yield text.strip()
    slurm("alpha", "scancel", text.strip())


def state(cluster: str, job_id: str) -> str:
    return slurm(cluster, "squeue", "-h", "--states=all", f"--jobs={job_id}", "--format=%T").strip()


def comment(job_id: str) -> str:
    return slurm("alpha", "squeue", "-h", "--states=all", f"--jobs={job_id}", "--format=%k").strip()


def until_comment(job_id: str, part: str) -> str:
    """Waits until `squeue` tells something of a job of alpha's; the whole comment."""
    return str(wait_until(lambda: part in (c := comment(job_id)) and c, f"{part!r} in squeue", 90))


def sbatch(home: Path, script: str, *options: str) -> str:
    """Submits as the resident, in its folder; the job's number."""
    command = ("sbatch", "--parsable", "--partition=federated", "--time=5", f"--chdir={home}")
    text = slurm("alpha", *command, *options, user=RESIDENT, script=script)
    return text.strip()


@pytest.mark.usefixtures("congestion")
def test_a_job_that_waits_runs_elsewhere_whatever_is_killed_meanwhile(
    federation: Federation, home: Path, witness: Path
) -> None:
    alpha = federation["alpha"]
    (home / "data.txt").write_text("42\n")
    script = (
        "#!/bin/sh\n#P2PFED --input data.txt --fetch 'new/*.csv'\n"
        f"echo ran >>{witness}/ran\ncat data.txt\necho $SLURM_CLUSTER_NAME\nid -un\n"
        "echo $P2PFED_USER\necho oops >&2\n"
        f"mkdir new\necho 1,2 >new/a.csv\n{GO.format(witness=witness)}exit 3\n"
    )
    job_id = sbatch(home, script, "--output=out-%j.txt", "--error=err-%j.txt")
    said = until_comment(job_id, "runs at")
    host = said.split("runs at ")[1].split(",")[0]
    until_line(witness / "ran")
    alpha.kill()
    end_controller("alpha", signal.SIGKILL)
    start_controller("alpha")
    assert state("alpha", job_id) == "PENDING"
    (witness / "go").touch()
    # What is out is brought home by a daemon that lets nothing more out.
    alpha.edit_config('partitions = ["federated"]', "partitions = []")
    alpha.start()
    said = until_comment(job_id, "exit code 3")
    assert f"failed at {host}" in said
    wait_until(lambda: state("alpha", job_id) == "CANCELLED", "the end of the local job", 30)
    alpha.edit_config("partitions = []", 'partitions = ["federated"]')
    assert alpha.cli("reload").code == 0
    out = home / f"out-{job_id}.txt"
    data, cluster, account, pseudonym = out.read_text().splitlines()
    assert (data, cluster, account) == ("42", host, GUEST)
    (view,) = alpha.jobs().values()
    assert (view["user"], view["pseudonym"]) == (RESIDENT, pseudonym)
    assert RESIDENT.encode() not in alpha.export().read_bytes()
    assert (home / f"err-{job_id}.txt").read_text() == "oops\n"
    assert (home / "new" / "a.csv").read_text() == "1,2\n"
    assert out.stat().st_uid == pwd.getpwnam(RESIDENT).pw_uid
    assert (witness / "ran").read_text() == "ran\n"


def test_a_job_that_may_start_at_home_after_all_runs_once(
    federation: Federation, home: Path, witness: Path, congestion: str
) -> None:
    job_id = sbatch(home, f"#!/bin/sh\necho ran >>{witness}/ran\nhostname\n")
    until_comment(job_id, "p2pfed: ")
    slurm("alpha", "scancel", congestion)
    until_line(witness / "ran")
    wait_until(
        lambda: state("alpha", job_id) in ("COMPLETED", "CANCELLED"), "the end of the job", 120
    )
    federation["alpha"].until(
        lambda client: all(view["final"] for view in client.jobs()), "the end of its copy"
    )
    assert (witness / "ran").read_text() == "ran\n"
    assert (home / f"slurm-{job_id}.out").read_text()


@pytest.mark.usefixtures("congestion")
def test_a_cancel_by_its_user_ends_the_copy_wherever_it_runs(
    federation: Federation, home: Path, witness: Path
) -> None:
    script = f"#!/bin/sh\nsetsid sleep 600 &\necho $! >{witness}/began\nsleep 600\n"
    job_id = sbatch(home, script)
    pid = int(until_line(witness / "began"))
    slurm("alpha", "scancel", job_id, user=RESIDENT)
    wait_until(lambda: not is_alive(pid), "the end of its processes", 60)
    wait_until(lambda: running("beta") == running("gamma") == [], "the end of the copy", 60)
    federation["alpha"].until(
        lambda client: all(view["final"] for view in client.jobs()), "the end of its copy"
    )


@pytest.mark.usefixtures("congestion")
def test_each_task_of_an_array_goes_out_by_itself(federation: Federation, home: Path) -> None:
    script = "#!/bin/sh\n#P2PFED --env GREETING=hello\necho $GREETING $SLURM_ARRAY_TASK_ID\n"
    array = sbatch(home, script, "--array=3,5", "--output=out-%A-%a.txt")
    tasks = [f"{array}_{number}" for number in (3, 5)]
    for task in tasks:
        until_comment(task, "exit code 0")
        wait_until(lambda: state("alpha", task) == "CANCELLED", "the end of the task", 30)  # noqa: B023
    written = [(home / f"out-{array}-{number}.txt").read_text() for number in (3, 5)]
    assert written == ["hello 3\n", "hello 5\n"]


@pytest.mark.usefixtures("congestion")
def test_a_job_that_can_not_go_out_says_why_and_stays(federation: Federation, home: Path) -> None:
    missing = sbatch(home, "#!/bin/sh\n#P2PFED --input absent.txt\ntrue\n")
    local = sbatch(home, "#!/bin/sh\n#P2PFED --local\ntrue\n")
    follower = sbatch(home, "#!/bin/sh\ntrue\n", f"--dependency=afterok:{local}")
    counting = sbatch(home, "#!/bin/sh\necho $SLURM_ARRAY_TASK_MAX\n", "--array=7")
    limited = sbatch(home, "#!/bin/sh\ntrue\n", "--array=7%1")
    own = sbatch(home, "#!/bin/sh\ntrue\n", f"--dependency=afterok:{local}", "--comment=mine")
    assert "absent.txt" in until_comment(missing, "stays here")
    assert "--local" in until_comment(local, "stays here")
    assert "dependency" in until_comment(follower, "stays for now")
    assert "SLURM_ARRAY_TASK_MAX" in until_comment(f"{counting}_7", "stays here")
    assert "1 tasks at a time" in until_comment(f"{limited}_7", "stays here")
    assert comment(own) == "mine"
    assert f"local job {own} stays for now" in federation["alpha"].log
    stays = (missing, local, follower, f"{counting}_7", f"{limited}_7", own)
    assert {state("alpha", job_id) for job_id in stays} == {"PENDING"}
    slurm("alpha", "scancel", *stays)


def beside(witness: Path) -> str:
    """A line of a guest's script that submits another job."""
    return (
        "sbatch --partition=guest --nodes=1 --time=10 --output=/dev/null "
        f"--wrap='echo $$ >>{witness}/stray; exec sleep 600' || exit 9\n"
    )


def test_what_a_guest_submits_itself_does_not_outlive_it(
    federation: Federation, witness: Path
) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    script = f"#!/bin/sh\n{beside(witness)}{GO.format(witness=witness)}"
    job_id = alpha.submit(script, allow=["beta"], walltime_s=300)
    pid = int(until_line(witness / "stray"))
    wait_until(lambda: not is_alive(pid), "the end of what the guest submitted", 60)
    # The guest itself goes on; what ended may be completing still.
    wait_until(lambda: len(running("beta")) == 1, "the guest to be alone", 30)
    (witness / "go").touch()
    assert alpha.until_over([job_id])[job_id]["state"] == "completed"
    (ended,) = [
        d for d in beta.cli("decisions", "--json").json["decisions"] if d["action"] == "end stray"
    ]
    assert ended["who"] == "daemon"
    assert "wrap" in ended["why"]


def test_no_guest_outlives_a_withdrawal(federation: Federation, witness: Path) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    script = (
        f"#!/bin/sh\nsetsid sleep 600 &\necho $! >{witness}/began\n"
        f"while [ ! -e {witness}/again ]; do sleep 0.1; done\n{beside(witness)}sleep 600\n"
    )
    job_id = alpha.submit(script, allow=["beta"], walltime_s=900)
    pid = int(until_line(witness / "began"))
    (witness / "again").touch()
    stray = int(until_line(witness / "stray"))
    for name in ("alpha", "gamma"):
        federation[name].kill()  # it needs nobody
    said = beta.cli("withdraw", "--now", "--reason", "cooling failed").out
    assert said == "withdrawn; 0 guests run\n"
    assert running("beta") == []
    assert not is_alive(pid)
    assert not is_alive(stray)
    federation.start("alpha", "gamma")
    alpha.until(lambda _: outcomes(alpha, job_id)[0] == "preempted", "word of the end")
    alpha.cli("cancel", job_id)
    (order,) = [
        d
        for d in beta.cli("decisions", "--json").json["decisions"]
        if d["action"].startswith("withdraw")
    ]
    assert (order["who"], order["action"], order["why"]) == (
        "root",
        "withdraw --now",
        "cooling failed",
    )
    beta.cli("resume")
    assert any(offer["open"] for offer in beta.cli("offer", "list", "--json").json["offers"])


def test_the_books_agree_and_the_doctor_is_content(federation: Federation, founded_s: int) -> None:
    federation.until_settled()
    since = f"{int(time.time()) - founded_s}s"
    claims = 0
    for name in CLUSTERS[1:]:
        wait_until(lambda: not slurm(name, "squeue", "-h"), f"{name} to be idle", 60)  # noqa: B023
        found = federation[name].cli("reconcile", "--json", "--since", since, code=None).json
        # What guests submitted themselves ran a little, and no claim stands for it.
        strays = [gap for gap in found["gaps"] if gap["native_name"] == "wrap"]
        assert found["gaps"] == strays
        assert {gap["kind"] for gap in strays} <= {"ledger-missing"}
        claims += found["claims"]
    assert claims >= 4
    assert "failed" not in federation["gamma"].cli("doctor").out
