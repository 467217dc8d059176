"""How fast a block reaches every other daemon, and what daemons cost that have nothing to do.

Real daemons of one federation run on this machine with the default rules and talk over TLS on
loopback. One of them opens offers through its control API, one block each; every other daemon's
live feed says, by the clock of this machine, when it had admitted and stored the block and told
whoever watches. A way begins when its author seals the block. The baseline sends the same block
through as many processes that only make the calls that no daemon can save (`bare`).

Then the daemons are left alone, and `/proc` says what they use. The baseline is the CPU time of the
bare calls for one heartbeat of each centre. The difference is mostly Python's and trio's: waking
up, the round every ten seconds, the session that answers pings.
"""

from __future__ import annotations

import argparse
import sqlite3
import threading
import time
from collections import defaultdict
from contextlib import suppress

from p2pfed.core.rules import Rules
from p2pfed.errors import ControlError
from p2pfed.shell.client import Client
from scripts.benchmarks.bare import BareRun, run_bare
from scripts.benchmarks.centres import Centre, Federation, cpu_s, memory_mib, progress, quantile

TERMS = {
    "resource_class": "cpu",
    "nodes": 1,
    "cores_per_node": 1,
    "memory_mib_per_node": 16,
    "walltime_max_s": 60,
}
PAUSE_S = 0.1
"""Between two blocks, so that each finds the daemons at rest."""
ARRIVAL_S = 30.0
"""A block that has not come everywhere after this time never will."""


class Watchers:
    """Follows the live feeds of some daemons and notes when each admitted which offer."""

    def __init__(self, centres: list[Centre]) -> None:
        """Returns when every feed is open."""
        self._centres = len(centres)
        self._came: defaultdict[str, list[int]] = defaultdict(list)
        self._changed = threading.Condition()
        opened = threading.Semaphore(0)
        for centre in centres:
            threading.Thread(target=self._follow, args=(centre, opened), daemon=True).start()
        for _ in centres:
            opened.acquire()

    def _follow(self, centre: Centre, opened: threading.Semaphore) -> None:
        with suppress(ControlError), centre.client() as client, client.watch() as feed:
            opened.release()
            for notice in feed:
                if notice["kind"] == "offer":
                    with self._changed:
                        self._came[notice["text"]].append(notice["at_ms"])
                        self._changed.notify_all()

    def arrivals_ms(self, name: str) -> list[int]:
        """When the offer of that name had come to each; waits for the last of them."""

        def found() -> list[int]:
            return next((c for text, c in self._came.items() if f" offer {name}: open" in text), [])

        with self._changed:
            if not self._changed.wait_for(lambda: len(found()) == self._centres, ARRIVAL_S):
                raise RuntimeError(f"offer {name} came to {len(found())} of {self._centres}")
            return found()


def open_offer(client: Client, name: str) -> int:
    """Opens an offer; when its block was sealed, in ms."""
    return client.open_offer(terms={**TERMS, "name": name})["opened_ms"]


def measure_ways(federation: Federation, blocks: int) -> tuple[list[float], list[float]]:
    """For each block: its way to each other daemon, and to the last of them, in ms."""
    author, *others = federation
    watchers = Watchers(others)
    ways_ms: list[float] = []
    last_ms: list[float] = []
    with author.client() as client:
        for number in range(blocks):
            sealed_ms = open_offer(client, f"bench-{number}")
            came_ms = watchers.arrivals_ms(f"bench-{number}")
            ways_ms += [at_ms - sealed_ms for at_ms in came_ms]
            last_ms.append(max(came_ms) - sealed_ms)
            time.sleep(PAUSE_S)
        client.close_offers(None)
    return ways_ms, last_ms


def newest_offer_block(centre: Centre) -> bytes:
    """The newest stored block that opens an offer of this benchmark."""
    with sqlite3.connect(f"file:{centre.database}?mode=ro", uri=True) as ledger:
        rows = ledger.execute("SELECT data FROM blocks ORDER BY admission DESC").fetchall()
    ledger.close()
    return next(bytes(row[0]) for row in rows if b"bench-" in row[0])


def measure_idle(federation: Federation, seconds: int) -> tuple[list[float], list[float]]:
    """CPU seconds per wall second of each daemon, and its resident memory in MiB."""
    start_s = time.monotonic()
    before = {centre.name: cpu_s(centre.pid) for centre in federation}
    while (left_s := start_s + seconds - time.monotonic()) > 0:
        progress(f"{len(federation)} daemons idle, {left_s:.0f} s to go")
        time.sleep(min(left_s, 20.0))
    wall_s = time.monotonic() - start_s
    used = [(cpu_s(centre.pid) - before[centre.name]) / wall_s for centre in federation]
    return used, [memory_mib(centre.pid) for centre in federation]


def print_ways(name: str, ways_ms: list[float]) -> None:
    """A line of the first table."""
    figures = (quantile(ways_ms, 0.5), quantile(ways_ms, 0.95), max(ways_ms))
    print(f"{name:34} {len(ways_ms):>7,}", *(f"{figure:>8.1f}" for figure in figures))


def print_idle(used: list[float], resident: list[float], bare: BareRun) -> None:
    """A line of the second table."""
    beats = len(used) * 1000 / Rules().heartbeat_ms
    bare_s = (bare.author_cpu_s + bare.reader_cpu_s * (len(used) - 1)) * beats / len(used)
    mean = sum(used) / len(used)
    print(
        f"{len(used):>7} {mean * 100:>10.2f} {max(used) * 100:>10.2f} {bare_s * 100:>8.2f}"
        f" {mean / bare_s:>6.1f}x {max(resident):>8.0f}"
    )


def report_ways(federation: Federation, blocks: int) -> BareRun:
    """Prints the first table; the bare run is of use for the second as well."""
    ways_ms, last_ms = measure_ways(federation, blocks)
    block = newest_offer_block(next(iter(federation)))
    bare = run_bare(block, len(federation) - 1, blocks, PAUSE_S)
    count = len(bare.ways_ms) // blocks
    bare_last_ms = [max(bare.ways_ms[n * count : (n + 1) * count]) for n in range(blocks)]
    print(f"{len(federation)} daemons, a block of {len(block)} bytes with one record")
    print(f"{'from sealed to admitted, ms':34} {'ways':>7} {'median':>8} {'95 %':>8} {'most':>8}")
    print_ways("at each other daemon", ways_ms)
    print_ways("at the last of them", last_ms)
    print_ways("bare calls, each", bare.ways_ms)
    print_ways("bare calls, the last", bare_last_ms)
    ratio = quantile(last_ms, 0.5) / quantile(bare_last_ms, 0.5)
    print(f"at the last of them, medians: {ratio:.1f}x the bare calls\n", flush=True)
    return bare


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--daemons", type=int, nargs="*", default=[3, 16])
    parser.add_argument("--blocks", type=int, default=50)
    parser.add_argument("--idle", type=int, default=60, metavar="SECONDS")
    options = parser.parse_args()
    idle = []
    for count in options.daemons:
        with Federation.found(count) as federation:
            progress(f"starting {count} daemons")
            federation.start()
            progress("appending blocks")
            bare = report_ways(federation, options.blocks)
            idle.append((*measure_idle(federation, options.idle), bare))
    print("daemons  idle, % of a core:        bare            MiB")
    print("              mean       most    calls   ratio resident")
    for used, resident, bare in idle:
        print_idle(used, resident, bare)
    print("bare calls: for one heartbeat of each centre every ten seconds.")


if __name__ == "__main__":
    main()
