"""What a daemon needs to start with a long ledger, and the memory of one with many live jobs.

A ledger of whole job lifecycles lies in the folder of a centre; its daemon starts, and is ready
when its control API answers (the ledger is replayed then) and may write when its one peer, which
has the same ledger and runs already, has been asked. The baseline is what no start can save: all
rows read from the same SQLite file and their records read from CBOR once.

The first start folds all blocks; in its first round it keeps a snapshot. Then it is killed, and the
second start takes up the snapshot. Nothing is written at the end of a daemon that a start needs.
"""

from __future__ import annotations

import argparse
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator

import cbor2

from p2pfed.core.blocks import Block, split_block
from scripts.benchmarks.centres import Centre, Federation, cpu_s, memory_mib, progress
from scripts.benchmarks.ledgers import RECORDS_A_JOB, History, store

_BARE = """
import p2pfed.shell.daemon
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")][0])
"""


def bare_memory_mib() -> float:
    """Of a Python process that has imported all that a daemon imports, and nothing more."""
    done = subprocess.run([sys.executable, "-c", _BARE], capture_output=True, check=True, text=True)
    return int(done.stdout) / 1024


def bare_read_s(centre: Centre) -> float:
    """Seconds to read all rows and the CBOR of their records."""
    start_s = time.perf_counter()
    with sqlite3.connect(f"file:{centre.database}?mode=ro", uri=True) as ledger:
        for (data,) in ledger.execute("SELECT data FROM blocks ORDER BY admission"):
            _, records = split_block(data)
            cbor2.loads(records)
    ledger.close()
    return time.perf_counter() - start_s


def counted(blocks: Iterator[Block], total: int) -> Iterator[Block]:
    """The same blocks, with a word on standard error now and then."""
    records = 0
    shown_s = time.monotonic()
    for block in blocks:
        records += len(block.records)
        if time.monotonic() - shown_s > 10:
            shown_s = time.monotonic()
            progress(f"{records:,} of {total:,} records written")
        yield block


def start(centre: Centre) -> tuple[float, float, float]:
    """Starts the daemon: seconds until it answers and may write, CPU seconds till then."""
    start_s = time.monotonic()
    centre.begin()
    centre.until(lambda _: True, "an answer")
    answers_s = time.monotonic() - start_s
    centre.until(lambda s: not s["recovering"], "the right to write")
    return answers_s, time.monotonic() - start_s, cpu_s(centre.pid)


def until_matched(centre: Centre) -> None:
    """Waits until the daemon has computed a round since it started, then one more."""
    first = centre.until(lambda s: max(0, s["round"]), "a round")
    centre.until(lambda s: s["round"] > first, "one more round")


def bench_restart(records: int, per_block: int) -> None:
    """A line of the first table."""
    with Federation.found(2) as federation:
        centre, peer = federation
        history = History(federation, records // per_block)
        blocks = history.lifecycles(records // RECORDS_A_JOB, per_block)
        written, size = store(counted(blocks, records), [centre, peer])
        bare_s = bare_read_s(centre)
        progress("starting the peer")
        start(peer)
        progress("starting")
        counts = f"{written:>9,} {per_block:>9,} {size / 2**20:>6.0f}"
        for what in ("blocks", "snapshot"):
            answers_s, writes_s, used_s = start(centre)
            until_matched(centre)
            times = f"{answers_s:>10.1f} {writes_s:>10.1f} {used_s:>7.1f} {bare_s:>7.2f}"
            resident = f"{memory_mib(centre.pid):>9.0f} {memory_mib(centre.pid, 'VmHWM'):>6.0f}"
            ratio = f"{answers_s / bare_s:>6.1f}x"
            print(f"{counts} {what:>9} {times} {ratio} {resident}", flush=True)
            centre.end(signal.SIGKILL)


def bench_memory(jobs: int) -> None:
    """A line of the second table."""
    with Federation.found(2) as federation:
        centre, peer = federation
        history = History(federation, jobs // 100)
        store(history.queued(jobs, 100), [centre, peer])
        progress(f"starting with {jobs:,} live jobs")
        answers_s, writes_s, _ = start(centre)
        until_matched(centre)
        print(
            f"{jobs:>9,} {answers_s:>10.1f} {writes_s:>10.1f} {memory_mib(centre.pid):>9.0f}"
            f" {memory_mib(centre.pid, 'VmHWM'):>6.0f}",
            flush=True,
        )


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--per-block", type=int, default=100)
    parser.add_argument("--jobs", type=int, nargs="*", default=[10_000, 100_000])
    options = parser.parse_args()
    print("restart after a history of jobs that are over; times in seconds from the start")
    print(
        f"{'records':>9} {'per block':>9} {'MiB':>6} {'from':>9} {'answers':>10} {'may write':>10}"
        f" {'CPU':>7} {'bare':>7} {'ratio':>7} {'resident':>9} {'peak':>6}"
    )
    for records in options.records:
        bench_restart(records, options.per_block)
    print("bare: every row read from SQLite, its records from CBOR. resident, peak: MiB.\n")
    print("live jobs, all queued at one centre, none fits")
    print(f"{'jobs':>9} {'answers':>10} {'may write':>10} {'resident':>9} {'peak':>6}")
    for jobs in options.jobs:
        bench_memory(jobs)
    print(f"a process that has only imported the daemon: {bare_memory_mib():.0f} MiB")


if __name__ == "__main__":
    main()
