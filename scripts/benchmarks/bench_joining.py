"""What a centre takes from a peer to begin with a checkpoint, beside the live state itself.

A simulated federation of four with the daemon's own nodes posts jobs that wait, and cosigns a
checkpoint. The live state is the sections under the checkpoint's hash; `plain` is the bearings
beside it, `shipped` the file that crosses the wire, compressed.
"""

from __future__ import annotations

import argparse
import hashlib

from p2pfed.core.bearings import check_bearings
from p2pfed.core.ids import CentreName
from p2pfed.core.records import Job
from p2pfed.core.rules import Rules
from p2pfed.shell.bearings_file import pack_bearings
from p2pfed.simulate.world import World

RULES = Rules(
    round_ms=1_000,
    settle_ms=300,
    heartbeat_ms=1_000,
    offer_lease_ms=5_000,
    max_skew_ms=5_000,
    clock_error_ms=500,
    checkpoint_ms=10_000,
)
_LIMIT_MS = 120_000


def job(number: int) -> Job:
    """A job that no offer fits, with a payload digest of its own."""
    return Job(
        resource_class="cpu",
        nodes=1,
        cores_per_node=64,
        memory_mib_per_node=500,
        walltime_s=600,
        work_class="normal",
        payload_digest=hashlib.sha256(str(number).encode()).digest(),
        payload_bytes=1_000,
    )


def bench(waiting: int) -> None:
    """One line of the table."""
    world = World(1, 4, RULES)
    first = CentreName("c000")
    world.run(_LIMIT_MS, world.all_up)
    for number in range(waiting):
        world.submit(first, job(number))
    world.run(35_000)
    data = world.centres[first].disk.bearings
    assert data, "no checkpoint was cosigned"
    bearings = check_bearings(data, world.charter)
    live = sum(len(section.body) for section in bearings.sections)
    shipped = len(pack_bearings(data))
    blocks = sum(tree.size for tree in bearings.trees)
    print(
        f"{waiting:>8,} {blocks:>8,} {live:>10,} {len(data):>10,} {len(data) / live:>7.2f}"
        f" {shipped:>10,} {shipped / live:>7.2f}",
        flush=True,
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, nargs="*", default=[0, 200, 1_000])
    options = parser.parse_args()
    print("bytes, and ratios to the live state")
    print(
        f"{'waiting':>8} {'blocks':>8} {'state':>10} {'plain':>10} {'ratio':>7} {'shipped':>10}"
        f" {'ratio':>7}"
    )
    for waiting in options.waiting:
        bench(waiting)


if __name__ == "__main__":
    main()
