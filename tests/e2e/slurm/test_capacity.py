"""Offers of a real daemon follow a real Slurm; local jobs come first."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from p2pfed.shell.client import Client
from tests.e2e.federation import Centre, Federation
from tests.e2e.slurm.bed import GUEST, RESIDENT, require_clusters, shared_folder, slurm
from tests.e2e.slurm.centres import (
    end_controller,
    outcomes,
    running,
    start_controller,
    until_line,
    use_slurm,
)
from tests.waiting import wait_until

CLUSTER = "beta"
RULES = {"queue_ms": 60_000, "fetch_ms": 30_000, "kill_grace_ms": 15_000}
TEMPLATE = """
[[offer]]
name = "idle"
follow = true
nodes = 4
cores_per_node = 4
memory_mib_per_node = 1000
walltime_max = "50m"
walltime_min = "1m"
preemptible = true
notice = "5s"
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def partition() -> Iterator[None]:
    """The guests' partition as it is, whatever a test makes of it."""
    require_clusters(CLUSTER)
    for user in (GUEST, RESIDENT):
        slurm(CLUSTER, "scancel", f"--user={user}")
    yield
    set_partition("preemptmode=requeue", "gracetime=0")
    slurm(CLUSTER, "scontrol", "update", f"nodename={CLUSTER}[1-4]", "state=resume", check=False)
    slurm(CLUSTER, "scancel", f"--user={RESIDENT}")


@pytest.fixture
def federation(partition: None) -> Iterator[Federation]:
    """Alpha has jobs, beta is the cluster."""
    with Federation.found("alpha", CLUSTER, cores=4, rules=RULES) as made:
        made.root.chmod(0o711)
        use_slurm(made[CLUSTER])
        about = "# Nodes that it commands.\n"
        made[CLUSTER].edit_config(f"{about}nodes = 1", f"{about}nodes = 4")
        text = made[CLUSTER].config.read_text()
        made[CLUSTER].config.write_text(text + TEMPLATE)
        yield made


def set_partition(*settings: str) -> None:
    """Changes the guests' partition."""
    slurm(CLUSTER, "scontrol", "update", "partitionname=guest", *settings)


def until_nodes(centre: Centre, nodes: int | None, deadline_s: float = 60) -> None:
    """Waits until the offer has so many nodes; None: until it is closed."""

    def look(client: Client) -> bool:
        open_offers = {o["name"]: o["nodes"] for o in client.offers(own=True) if o["open"]}
        return open_offers.get("idle") == nodes

    centre.until(look, f"an offer of {nodes} nodes", deadline_s)


def local_job(*options: str, seconds: int, minutes: int = 5) -> str:
    """Submits a resident's job; returns its id."""
    command = ["sbatch", "--parsable", "--partition=local", "--output=/dev/null", "--chdir=/"]
    script = f"#!/bin/sh\nsleep {seconds}\n"
    return slurm(
        CLUSTER, *command, f"--time={minutes}", *options, user=RESIDENT, script=script
    ).strip()


def state_of(job_id: str) -> str:
    """Slurm's word on a job."""
    return slurm(
        CLUSTER, "squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T"
    ).strip()


def test_offers_follow_load_drained_nodes_and_the_controller(federation: Federation) -> None:
    beta = federation[CLUSTER]
    federation.start()
    until_nodes(beta, 4)
    local = local_job("--nodes=2", "--exclusive", seconds=300)
    until_nodes(beta, 2)
    slurm(CLUSTER, "scontrol", "update", f"nodename={CLUSTER}4", "state=drain", "reason=test")
    until_nodes(beta, 1)
    # A local job that waits takes what is idle; it is not there for guests.
    waiting = local_job("--nodes=4", "--exclusive", seconds=1)
    until_nodes(beta, 0)
    slurm(CLUSTER, "scancel", local, waiting)
    slurm(CLUSTER, "scontrol", "update", f"nodename={CLUSTER}4", "state=resume")
    until_nodes(beta, 4)
    end_controller(CLUSTER, signal.SIGTERM)
    until_nodes(beta, None)
    assert any("does not answer" in warning for warning in beta.status()["warnings"])
    start_controller(CLUSTER)
    until_nodes(beta, 4, deadline_s=120)
    assert beta.status()["warnings"] == []


def test_a_gap_before_the_next_local_job_is_offered_until_then(federation: Federation) -> None:
    beta = federation[CLUSTER]
    federation.start()
    until_nodes(beta, 4)
    first = local_job("--nodes=3", "--exclusive", seconds=600, minutes=20)
    wait_until(lambda: state_of(first) == "RUNNING", "a running local job", 30)
    local_job("--nodes=4", "--exclusive", seconds=1, minutes=1)

    def gap(client: Client) -> int:
        offers = [o for o in client.offers(own=True) if o["open"] and o["name"] == "idle.gap"]
        return offers[0]["until_ms"] if offers and offers[0]["nodes"] == 1 else 0

    until_ms = beta.until(gap, "a gap", 90)
    left_s = until_ms / 1000 - time.time()
    assert 15 * 60 < left_s <= 20 * 60
    until_nodes(beta, 0)
    # A job that ends before the local one begins may use it.
    alpha = federation["alpha"]
    job_id = alpha.submit("#!/bin/sh\necho ran\n", walltime_s=120)
    view = alpha.until_over([job_id], deadline_s=120)[job_id]
    assert view["state"] == "completed"


def test_a_local_job_gets_its_nodes_back_from_the_daemon_within_seconds(
    federation: Federation,
) -> None:
    set_partition("preemptmode=off")
    alpha, beta = federation["alpha"], federation[CLUSTER]
    federation.start()
    until_nodes(beta, 4)
    with shared_folder() as witness:
        witness.chmod(0o1777)
        script = f"#!/bin/sh\n[ -e {witness}/go ] && exit 0\necho $$ >{witness}/$1\nsleep 600\n"
        jobs = [alpha.submit(script, f"w{n}", cores_per_node=4, walltime_s=900) for n in range(4)]
        for number in range(4):
            until_line(witness / f"w{number}")
        (witness / "go").touch()
        posted = time.monotonic()
        local = local_job("--nodes=1", "--exclusive", seconds=5, minutes=1)
        wait_until(lambda: state_of(local) in ("RUNNING", "COMPLETED"), "the local job", 60)
        assert time.monotonic() - posted < 30
        # Only as many went as were needed, and the others run on.
        assert len(running(CLUSTER)) >= 3
        went = alpha.until(
            lambda c: [v for v in c.jobs() if "preempted" in outcomes(alpha, v["job_id"])],
            "a preempted guest",
        )
        assert len(went) == 1
        view = alpha.until_over([went[0]["job_id"]], deadline_s=120)[went[0]["job_id"]]
        assert view["state"] == "completed"
        assert outcomes(alpha, view["job_id"])[0] == "preempted", beta.log[-4000:]
        for job_id in jobs:
            if job_id != view["job_id"]:
                alpha.cli("cancel", job_id)
        alpha.until_over(jobs, deadline_s=60)
        federation.until_settled()


def test_the_end_of_a_window_closes_what_follows(federation: Federation) -> None:
    beta = federation[CLUSTER]
    text = beta.config.read_text()
    federation.start()
    until_nodes(beta, 4)
    beta.config.write_text(text.replace('name = "idle"', 'name = "idle"\nwindows = ["2020-01-01"]'))
    beta.cli("reload")
    until_nodes(beta, None)


SAVING = """\
#!/bin/sh
if [ -e state ]; then
    echo "went on from $(cat state)"
    exit 0
fi
trap 'echo step-7 >state; exit 1' USR1
echo $$ >{witness}/began
while :; do sleep 0.1; done
"""


@pytest.mark.parametrize("by_slurm", [True, False], ids=["by Slurm", "by the daemon"])
def test_what_a_job_saved_travels_with_its_next_attempt(
    federation: Federation, *, by_slurm: bool
) -> None:
    mode = "requeue" if by_slurm else "off"
    set_partition(f"preemptmode={mode}", "gracetime=20")
    alpha, beta = federation["alpha"], federation[CLUSTER]
    federation.start()
    until_nodes(beta, 4)
    with shared_folder() as witness:
        witness.chmod(0o1777)
        job_id = alpha.submit(
            SAVING.format(witness=witness), checkpoint=["state"], signal=10, walltime_s=900
        )
        until_line(witness / "began")
        local_job("--nodes=4", "--exclusive", seconds=5, minutes=1)
        view = alpha.until_over([job_id], deadline_s=120)[job_id]
    assert view["state"] == "completed", beta.log[-4000:]
    assert alpha.output(job_id) == "went on from step-7\n"
    assert set(outcomes(alpha, job_id)) == {"preempted", "completed"}
    assert alpha.job(job_id)["attempts"][0]["core_s"] is not None
    federation.until_settled()
    assert alpha.audit().ok
