"""What a centre takes from a peer to begin with a checkpoint, beside the live state itself.

Two of three centres have a history of jobs that are over, and jobs that wait; they cosign a
checkpoint. The third, with an empty folder, runs `p2pfed catchup` and then its daemon. Shipped are
the bytes of the transfer; the live state is the sections under the checkpoint's hash, uncompressed.
The baseline of the time is a start of the same centre from the whole history.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from itertools import chain

from p2pfed.shell.bearings_file import unpack_bearings
from scripts.benchmarks.centres import Federation, progress
from scripts.benchmarks.ledgers import RECORDS_A_JOB, History, store


def bench(jobs: int, waiting: int, per_block: int) -> None:
    """One line of the table."""
    with Federation.found(3, rules="checkpoint_ms = 1000") as federation:
        first, second, third = federation
        history = History(federation, (jobs * RECORDS_A_JOB + waiting) // per_block)
        blocks = chain(history.lifecycles(jobs, per_block), history.queued(waiting, per_block))
        records, size = store(blocks, [first, second])
        for centre in (first, second):
            centre.begin()
        progress("waiting for a cosigned checkpoint")
        first.until(lambda status: status["cosigned_ms"], "a cosigned checkpoint")
        bearings = first.folder / "state" / "bearings"
        first.until(lambda _: bearings.exists(), "the checkpoint for newcomers")
        start_s = time.monotonic()
        told = json.loads(
            subprocess.run(
                [sys.executable, "-m", "p2pfed", "catchup", "--config", third.folder, "--json"],
                capture_output=True,
                check=True,
                text=True,
            ).stdout
        )
        third.begin()
        third.until(lambda status: not status["recovering"], "the right to write")
        works_s = time.monotonic() - start_s
        third.until(lambda status: not status["warnings"], "the whole history", deadline_s=1200)
        all_s = time.monotonic() - start_s
        live = told["state_bytes"]
        plain = len(unpack_bearings(bearings.read_bytes()))
        print(
            f"{records:>9,} {waiting:>8,} {size / 2**20:>8.1f} {live / 2**20:>8.2f}"
            f" {plain / live:>8.3f} {told['shipped_bytes'] / live:>8.3f} {works_s:>8.1f}"
            f" {all_s:>8.1f}",
            flush=True,
        )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--waiting", type=int, nargs="*", default=[100, 10_000])
    parser.add_argument("--per-block", type=int, default=100)
    options = parser.parse_args()
    print("sizes in MiB, ratios to the live state; seconds from 'catchup' on")
    print(
        f"{'records':>9} {'waiting':>8} {'history':>8} {'state':>8} {'plain':>8} {'shipped':>8}"
        f" {'works':>8} {'all here':>8}"
    )
    for jobs, waiting in zip(options.jobs, options.waiting, strict=True):
        bench(jobs, waiting, options.per_block)


if __name__ == "__main__":
    main()
