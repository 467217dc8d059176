"""Three real daemons over three real Slurm clusters: guests come, run, and are sent away.

Each centre is named like its cluster, so that a job's own output tells where it ran.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.executor import is_alive
from tests.e2e.federation import Federation
from tests.e2e.slurm.bed import (
    CLUSTERS,
    GUEST,
    RESIDENT,
    require_clusters,
    slurm,
    slurm_conf,
)
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


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    require_clusters(*CLUSTERS)
    for cluster in CLUSTERS:
        slurm(cluster, "scancel", f"--user={GUEST}")
    with Federation.found(*CLUSTERS, cores=4, rules=RULES, opened=CLUSTERS) as made:
        made.root.chmod(0o711)
        for centre in made:
            use_slurm(centre)
        made.start()
        made.until_offers(3)
        yield made


@pytest.fixture
def witness() -> Iterator[Path]:
    """A folder in which guests leave signs of life."""
    with witnesses() as folder:
        yield folder


def test_jobs_cross_both_ways_and_run_as_guests_of_the_other_cluster(
    federation: Federation,
) -> None:
    script = "#!/bin/sh\nid -un\necho $SLURM_CLUSTER_NAME\n"
    jobs = {name: [federation[name].submit(script) for _ in range(2)] for name in CLUSTERS}
    for name, job_ids in jobs.items():
        views = federation[name].until_over(job_ids, deadline_s=120)
        for job_id, view in views.items():
            assert view["state"] == "completed", view
            assert view["host"] != name
            assert federation[name].output(job_id).split() == [GUEST, view["host"]]


def test_a_local_job_takes_its_nodes_back_and_the_guest_runs_again(
    federation: Federation, witness: Path
) -> None:
    alpha = federation["alpha"]
    script = f"#!/bin/sh\n[ -e {witness}/began ] && exit 0\necho $$ >{witness}/began\nsleep 600\n"
    job_id = alpha.submit(script, allow=["beta"], walltime_s=900)
    until_line(witness / "began")
    local = ("sbatch", "--partition=local", "--nodes=4", "--exclusive", "--output=/dev/null")
    slurm("beta", *local, "--time=1", "--chdir=/", user=RESIDENT, script="#!/bin/sh\nsleep 3\n")
    view = alpha.until_over([job_id], deadline_s=180)[job_id]
    assert view["state"] == "completed"
    first, *between, last = outcomes(alpha, job_id)
    assert (first, last) == ("preempted", "completed")
    assert set(between) <= {"preempted", "not-started"}  # it came back before the local job went


def test_a_job_that_outlives_its_walltime_or_its_memory_has_failed(federation: Federation) -> None:
    beta = federation["beta"]
    slow = beta.submit("#!/bin/sh\nexec sleep 600\n", walltime_s=5)
    greedy = beta.submit("#!/bin/sh\nhead -c 600m /dev/zero | tail >&2\n")
    views = beta.until_over([slow, greedy], deadline_s=120)
    assert (views[slow]["state"], views[slow]["outcome"]) == ("failed", "timeout")
    assert views[greedy]["state"] == "failed"
    conf = slurm_conf("alpha").read_text()
    if "ProctrackType=proctrack/cgroup" in conf:
        assert views[greedy]["outcome"] == "out-of-memory"


def test_a_cancel_from_home_leaves_nothing_behind(federation: Federation, witness: Path) -> None:
    alpha = federation["alpha"]
    script = f"#!/bin/sh\nsetsid sleep 600 &\necho $! >{witness}/began\nsleep 600\n"
    job_id = alpha.submit(script, allow=["gamma"])
    pid = int(until_line(witness / "began"))
    alpha.cli("cancel", job_id)
    view = alpha.until_over([job_id], deadline_s=60)[job_id]
    assert (view["state"], view["outcome"]) == ("cancelled", "cancelled")
    assert running("gamma") == []
    assert not is_alive(pid), Path(f"/proc/{pid}/stat").read_text()


def test_a_controller_that_was_away_costs_nothing(federation: Federation, witness: Path) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    script = (
        f"#!/bin/sh\necho ran >>{witness}/ran\nwhile [ ! -e {witness}/go ]; do sleep 0.1; done\n"
    )
    job_id = alpha.submit(script, allow=["beta"], walltime_s=300)
    until_line(witness / "ran")
    end_controller("beta", signal.SIGTERM)  # it saves its state
    (witness / "go").touch()
    # A second job comes while nobody can submit it, and the daemon goes on answering.
    second = alpha.submit("#!/bin/sh\necho second\n", allow=["beta"])
    beta.until(lambda _: "slurm-unreachable" in beta.log, "a complaint")
    assert beta.status()["round"] > 0
    start_controller("beta")
    views = alpha.until_over([job_id, second], deadline_s=180)
    assert {view["state"] for view in views.values()} == {"completed"}
    assert outcomes(alpha, job_id) == ["completed"]
    assert (witness / "ran").read_text() == "ran\n"


def test_a_controller_that_forgot_a_start_does_not_run_an_attempt_twice(
    federation: Federation, witness: Path
) -> None:
    alpha = federation["alpha"]
    job_id = alpha.submit(f"#!/bin/sh\necho ran >>{witness}/ran\n", allow=["beta"])
    until_line(witness / "ran")
    end_controller("beta", signal.SIGKILL)
    start_controller("beta")
    view = alpha.until_over([job_id], deadline_s=300)[job_id]
    slurm("beta", "scontrol", "update", "nodename=beta[1-4]", "state=resume", check=False)
    assert view["state"] == "completed"
    began = [o for o in outcomes(alpha, job_id) if o not in ("not-started", "not-found")]
    assert len((witness / "ran").read_text().splitlines()) == len(began)


def test_a_daemon_that_was_killed_finds_its_guests(federation: Federation, witness: Path) -> None:
    alpha, gamma = federation["alpha"], federation["gamma"]
    script = (
        f"#!/bin/sh\necho ran >>{witness}/ran\nwhile [ ! -e {witness}/go ]; do sleep 0.1; done\n"
        "exit 7\n"
    )
    job_id = alpha.submit(script, allow=["gamma"], walltime_s=300)
    until_line(witness / "ran")
    gamma.kill()
    (witness / "go").touch()
    wait_until(lambda: not running("gamma"), "the end of the job", 30)
    gamma.start()
    view = alpha.until_over([job_id], deadline_s=120)[job_id]
    assert (view["outcome"], view["exit_code"]) == ("failed", 7)
    assert (witness / "ran").read_text() == "ran\n"


def test_every_ledger_verifies_in_the_end(federation: Federation) -> None:
    federation.until_settled()
    for centre in federation:
        report = centre.audit()
        assert report.ok and not report.findings, report.findings
