"""What guests cost local jobs: their waiting times on a real Slurm without and with a federation.

The same seeded local jobs are submitted to a cluster of `scripts/slurm-testbed` three times: alone;
with as many preemptible guests of a second centre as fit, Slurm taking nodes back; and with guests,
the daemon taking them back because Slurm is told not to. Waiting times are Slurm's own, in whole
seconds. Needs root and the cluster `beta`.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.centres import Federation, progress, quantile

CLUSTER = "beta"
CONF = Path("/var/lib/slurm-testbed") / CLUSTER / "etc" / "slurm.conf"
NODES, CORES = 4, 4
JOBS, SEED = 14, 7
GUESTS = 40
RULES = """\
round_ms = 1000
settle_ms = 300
heartbeat_ms = 1000
offer_lease_ms = 10000
clock_error_ms = 1000
claim_wait_ms = 5000
queue_ms = 60000
kill_grace_ms = 15000
"""
TEMPLATE = f"""
[[offer]]
name = "idle"
follow = true
nodes = {NODES}
cores_per_node = {CORES}
memory_mib_per_node = 1000
walltime_max = "50m"
walltime_min = "1m"
preemptible = true
notice = "1s"
"""
SCRIPT = "#!/bin/sh\nexec sleep {}\n"


@dataclass(frozen=True, slots=True)
class Local:
    """One local job: when it comes, after the run's begin, how wide and how long it is."""

    at_s: float
    nodes: int
    run_s: int


def local_jobs() -> list[Local]:
    """The same jobs in every run: some two fifths of the cluster, coming at random."""
    rng = random.Random(SEED)
    found, at_s = [], 0.0
    for _ in range(JOBS):
        at_s += rng.expovariate(1 / 6)
        found.append(Local(at_s, rng.choice([1, 1, 2, 3]), rng.randint(2, 8)))
    return found


def slurm(*command: str, user: str = "root", script: str = "") -> str:
    """What one of Slurm's commands printed, run as an account of the machine."""
    result = subprocess.run(
        command,
        input=script,
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "SLURM_CONF": str(CONF), "SLURM_TIME_FORMAT": "%s"},
        user=user,
        group=user,
        extra_groups=[],
        timeout=60,
        check=True,
    )
    return result.stdout.strip()


def waiting_times() -> list[int]:
    """Submits the local jobs when they come; returns how long each waited, in seconds."""
    begin = time.monotonic()
    ids = []
    for job in local_jobs():
        time.sleep(max(0.0, begin + job.at_s - time.monotonic()))
        options = (f"--nodes={job.nodes}", "--exclusive", "--time=1", "--chdir=/")
        command = ("sbatch", "--parsable", "--partition=local", "--output=/dev/null", *options)
        ids.append(slurm(*command, user="resident", script=SCRIPT.format(job.run_s)))
    while slurm("squeue", "--noheader", "--user=resident", "--states=PD,R,CG"):
        time.sleep(0.5)
    listed = slurm("squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", "-o", "%V %S")
    rows = [line.split() for line in listed.splitlines()]
    return [int(start) - int(submitted) for submitted, start in rows]


def with_guests(*, by_slurm: bool) -> tuple[list[int], int, int]:
    """Waiting times beside guests; guests' core seconds and how often one was sent away."""
    mode = "requeue" if by_slurm else "off"
    slurm("scontrol", "update", "partitionname=guest", f"preemptmode={mode}")
    with Federation.found(2, rules=RULES) as federation:
        home, host = federation
        federation.root.chmod(0o711)
        configure(host.folder)
        federation.start()
        script = home.folder / "guest.sh"
        script.write_text(SCRIPT.format(8))
        fields = {"cores_per_node": CORES, "memory_mib_per_node": 100, "walltime_s": 60}
        with home.client() as client:
            for _ in range(GUESTS):
                client.submit(dict(fields), script, {})
        host.until(lambda s: s["hosted"].get("started", 0) >= NODES, "guests on every node")
        waited = waiting_times()
        with home.client() as client:
            outcomes = [
                (attempt["outcome"], attempt["core_s"] or 0)
                for view in client.jobs()
                for attempt in client.job(view["job_id"])["attempts"]
            ]
    slurm("scancel", "--user=fedguest")
    done = sum(core_s for outcome, core_s in outcomes if outcome == "completed")
    return waited, done, sum(outcome == "preempted" for outcome, _ in outcomes)


def configure(folder: Path) -> None:
    """Makes a centre's executor the cluster, with one offer that follows it."""
    path = folder / "centre.toml"
    text = path.read_text()
    for old, new in (
        ("# Nodes that it commands.\nnodes = 1", f"# Nodes that it commands.\nnodes = {NODES}"),
        ('# kind = "local"', 'kind = "slurm"'),
        ('# run_as = ""', 'run_as = "fedguest"'),
        ('required.\n# partition = ""', 'required.\npartition = "guest"'),
        ('# conf = ""', f'conf = "{CONF}"'),
    ):
        text = text.replace(old, new, 1)
    path.write_text(text + TEMPLATE)
    for name in ("", "spool", "spool/claims"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(0o711)


def show(name: str, waited: list[int], note: str = "") -> None:
    """One line of figures."""
    mean = sum(waited) / len(waited)
    median, high = quantile(waited, 0.5), quantile(waited, 0.95)
    print(
        f"{name:28} mean {mean:5.1f} s   median {median:3.0f}   95 % {high:3.0f}   "
        f"longest {max(waited):3.0f}   {note}",
        flush=True,
    )


def main() -> int:
    """Runs the three cases."""
    if os.geteuid() != 0 or shutil.which("sinfo") is None or not CONF.exists():
        print("left out: it needs root and a cluster, scripts/slurm-testbed up beta")
        return 0
    try:
        progress("local jobs alone")
        show("alone", waiting_times())
        for name, by_slurm in (("guests, Slurm takes back", True), ("guests, daemon", False)):
            progress(name)
            waited, core_s, evicted = with_guests(by_slurm=by_slurm)
            show(name, waited, f"guests {core_s} core-s, {evicted} sent away")
    finally:
        slurm("scontrol", "update", "partitionname=guest", "preemptmode=requeue")
    return 0


if __name__ == "__main__":
    sys.exit(main())
