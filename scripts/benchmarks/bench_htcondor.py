"""One round of matching beside HTCondor's ClassAds, on the same jobs and the same offers.

ClassAds are the language in which HTCondor's jobs and machines say what they want of each other;
its negotiator evaluates each cluster of equal jobs against every machine. The peer does the same
with HTCondor's own library (package `htcondor`, installed into a venv that is thrown away). It
knows no balances, reservations or ties, so placements may differ by a few; ours do all of that in
the time given. Calls from Python into its library are part of its figure: the negotiator, all C++,
would be faster by some factor, but would make as many evaluations.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from p2pfed.core.matching import MatchInput, amount_of
from p2pfed.core.queue import Shape
from scripts.benchmarks.bench_matching import best_of
from scripts.benchmarks.matching_worlds import (
    CUT_MS,
    common_shape,
    make_input,
    make_queue,
    odd_shape,
)
from scripts.benchmarks.peers import make_peer, run_peer

PACKAGE = "htcondor==25.14.1"


def as_ads(given: MatchInput) -> str:
    """The round's offers and jobs as attributes of ClassAds."""
    offers = []
    for offer in given.offers.values():
        left_s = (offer.until_ms - CUT_MS) // 1_000 if offer.until_ms else offer.walltime_max_s
        offers.append(
            {
                "Host": offer.offer_id.centre,
                "FreeNodes": offer.free.nodes,
                "FreeCores": offer.free.cores,
                "FreeMemory": offer.free.memory_mib,
                "CoresPerNode": offer.terms.cores_per_node,
                "MemoryPerNode": offer.terms.memory_mib_per_node,
                "WalltimeMax": min(offer.walltime_max_s, left_s),
                "Deny": list(offer.terms.deny),
            }
        )
    clusters: dict[Shape, int] = {}
    jobs = []
    queue = given.queue
    queued = (job for home in queue.homes() for job in queue.in_order(home))
    for job in sorted(queued, key=queue.key):
        amount = amount_of(job.shape)
        jobs.append(
            {
                "Cluster": clusters.setdefault(job.shape, len(clusters)),
                "Home": job.shape.home,
                "Nodes": amount.nodes,
                "Cores": amount.cores,
                "Memory": amount.memory_mib,
                "CoresPerNode": job.shape.cores_per_node,
                "MemoryPerNode": job.shape.memory_mib_per_node,
                "Walltime": job.shape.walltime_s,
            }
        )
    return json.dumps({"offers": offers, "jobs": jobs})


def main() -> None:
    """Prints one line for each queue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 300, 1_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        python = make_peer(Path(name) / "venv", PACKAGE)
        if python is None:
            print(f"{PACKAGE} can't be installed: nothing to compare with")
            return
        print(
            f"{'':22} {'queued':>7} {'placed':>7} {'ms':>9} {'ClassAds placed':>16}"
            f" {'evaluations':>12} {'ms':>9} {'ratio':>7}"
        )
        for what, source in (("common shapes", common_shape), ("all shapes different", odd_shape)):
            for size in options.sizes:
                given = make_input(make_queue(1, size, source))
                took_s, matching = best_of(3, given)
                line = f"{what:22} {size:>7,} {len(matching.placements):>7,} {took_s * 1e3:>9.1f}"
                peer = run_peer(python, "peer_classad.py", given=as_ads(given))
                if peer:
                    line += f" {peer['placements']:>16,} {peer['evaluations']:>12,}"
                    line += f" {peer['cpu_s'] * 1e3:>9,.0f} {peer['cpu_s'] / took_s:>6.0f}x"
                print(line, flush=True)
    print("CPU time of one round, 1 000 offers, 200 homes.")


if __name__ == "__main__":
    main()
