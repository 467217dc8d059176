"""Replayed jobs per second: EASY alone, the ideal queue, the federation; AccaSim on the same jobs.

The traces are those of `../shared/traces` (or `$P2PFED_SHARED/traces`) if they are there, else the
small ones in `examples/traces`. Parsing is left out of our figures and stands in a column of its
own; AccaSim reads while it simulates, so its figure holds both. AccaSim is installed from the
package index into a venv that is thrown away afterwards; without it (no network) that is said.

Its mean waits differ from ours because its backfilling does: its scheduler hands its allocator an
empty list of reserved nodes (`EASYBackfilling.scheduling_method` of 1.1.3), so any waiting job may
pass that fits now, and the first one can be delayed. Ours are checked job by job against an
independent EASY in tests/properties.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from p2pfed.core.ids import CentreName
from p2pfed.simulate.workload.federated import run_federated
from p2pfed.simulate.workload.ideal import run_ideal, run_isolated
from p2pfed.simulate.workload.outcome import Outcome
from p2pfed.simulate.workload.reading import read_trace
from p2pfed.simulate.workload.trace import Trace
from p2pfed.simulate.workload.workload import make_workload
from scripts.benchmarks.peers import make_peer, run_peer

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PEER = "accasim==1.1.3"


def trace_files() -> list[Path]:
    """The SWF files to replay."""
    shared = Path(os.environ.get("P2PFED_SHARED", ROOT.parent / "shared")) / "traces"
    return sorted(shared.glob("*.swf.gz")) or sorted((ROOT / "examples" / "traces").glob("*.swf"))


def timed(work: Callable[[], T], runs: int = 3) -> tuple[float, T]:
    """The least CPU time of some runs, and what that one gave."""
    found = []
    for _ in range(runs):
        began_s = time.process_time()
        answer = work()
        found.append((time.process_time() - began_s, answer))
    return min(found, key=lambda run: run[0])


def mean_wait_s(outcome: Outcome) -> float:
    """Over all jobs."""
    return sum(outcome.wait_ms) / len(outcome.wait_ms) / 1_000


def replay_by_peer(python: Path, trace: Trace, folder: Path) -> dict[str, float] | None:
    """What AccaSim says about a trace; None if it fails."""
    plain = folder / "trace.swf"
    with plain.open("w") as file:
        for number, job in enumerate(trace.jobs, start=1):
            known = f"{number} {job.submit_s} -1 {job.run_s} {job.procs} -1 -1 {job.procs}"
            file.write(f"{known} {job.walltime_s} -1 1 1 1 1 1 1 -1 -1\n")
    return run_peer(python, "peer_accasim.py", (str(plain), str(trace.procs)))


def main() -> None:
    """Prints one line for each trace, and the federation of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-peer", action="store_true", help="leave AccaSim out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = None if options.no_peer else make_peer(folder / "venv", PEER)
        if python is None:
            print("without AccaSim: left out, or it can't be installed")
        print(
            f"{'':16} {'jobs':>8} {'reading s':>10} {'EASY s':>8} {'jobs/s':>9} {'mean wait':>10}"
            f" {'AccaSim s':>10} {'jobs/s':>8} {'mean wait':>10} {'ratio':>7}"
        )
        traces = []
        for path in trace_files():
            centre = CentreName(path.name.split(".")[0])
            reading_s, trace = timed(lambda p=path, c=centre: read_trace(p, c), runs=1)  # type: ignore[misc]
            traces.append(trace)
            workload = make_workload([trace])
            took_s, outcome = timed(lambda w=workload: run_isolated(w))  # type: ignore[misc]
            count = len(workload)
            line = (
                f"{centre:16} {count:>8,} {reading_s:>10.2f} {took_s:>8.3f} {count / took_s:>9,.0f}"
            )
            line += f" {mean_wait_s(outcome):>10,.0f}"
            peer = replay_by_peer(python, trace, folder) if python else None
            if peer:
                rate = peer["jobs"] / peer["cpu_s"]
                line += f" {peer['cpu_s']:>10.2f} {rate:>8,.0f} {peer['wait_mean_s']:>10,.0f}"
                line += f" {count / took_s / rate:>6.0f}x"
            print(line, flush=True)
    workload = make_workload(traces)
    for world, run in (("isolated", run_isolated), ("ideal", run_ideal)):
        took_s, _ = timed(lambda r=run: r(workload), runs=1)  # type: ignore[misc]
        print(
            f"all, {world:11} {len(workload):>8,} {took_s:>19.3f} {len(workload) / took_s:>9,.0f}"
        )
    took_s, outcome = timed(lambda: run_federated(workload), runs=1)
    count = len(workload)
    print(f"all, federated   {count:>8,} {took_s:>19.3f} {count / took_s:>9,.0f}", end="")
    print(f"   ({outcome.rounds:,} rounds computed, {outcome.claims:,} claims)")


if __name__ == "__main__":
    main()
