"""Matches jobs to offers by HTCondor's ClassAds; started by bench_htcondor in a venv of its own.

Reads JSON from standard input: `offers` and `jobs`, a list of attributes each, jobs in the order in
which they may choose. As in HTCondor's negotiator, jobs of the same requirements are one cluster:
what found nothing is not tried again. Each job takes the fitting offer with the least free cores;
what it takes is subtracted from the offer's ad, as from a partitionable slot. ClassAds are
evaluated by HTCondor's own C++ library, one call of `symmetricMatch` for a pair.
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Prints one line of JSON: CPU seconds, evaluations and placements."""
    import classad2  # type: ignore[import-not-found]

    given = json.load(sys.stdin)
    offer_requirements = classad2.ExprTree(
        "TARGET.Cores <= MY.FreeCores && TARGET.Nodes <= MY.FreeNodes"
        " && TARGET.Memory <= MY.FreeMemory && !member(TARGET.Home, MY.Deny)"
    )
    job_requirements = classad2.ExprTree(
        "MY.CoresPerNode <= TARGET.CoresPerNode && MY.MemoryPerNode <= TARGET.MemoryPerNode"
        " && MY.Walltime <= TARGET.WalltimeMax && MY.Home != TARGET.Host"
    )
    began_s = time.process_time()
    offers = [classad2.ClassAd(attributes) for attributes in given["offers"]]
    for offer in offers:
        offer["Requirements"] = offer_requirements
    clusters: dict[int, object] = {}
    failed: set[int] = set()
    evaluations = placements = 0
    for attributes in given["jobs"]:
        cluster = attributes["Cluster"]
        if cluster in failed:
            continue
        if cluster not in clusters:
            ad = classad2.ClassAd(attributes)
            ad["Requirements"] = job_requirements
            clusters[cluster] = ad
        job = clusters[cluster]
        evaluations += len(offers)
        fits = [offer for offer in offers if offer.symmetricMatch(job)]
        if not fits:
            failed.add(cluster)
            continue
        best = min(fits, key=lambda offer: int(offer["FreeCores"]))
        for free, taken in (
            ("FreeCores", "Cores"),
            ("FreeNodes", "Nodes"),
            ("FreeMemory", "Memory"),
        ):
            best[free] = best[free] - attributes[taken]
        placements += 1
    took_s = time.process_time() - began_s
    print(json.dumps({"cpu_s": took_s, "evaluations": evaluations, "placements": placements}))


if __name__ == "__main__":
    main()
