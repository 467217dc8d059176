"""How many jobs a second a federation of real daemons carries, and what it does beyond that.

Every centre of the federation has an offer, and as many callers as `--callers` says post jobs that
end at once, at all centres in turn, each as soon as its last was acknowledged. So the rate is what
the daemons take, and what they can't take they hold back. Half-way through the memory of each
daemon is noted, and at the end again: what is kept for a job is all that it may grow by. Then
nothing is posted any more, and every job that was acknowledged must come to its end.

The queue of a centre holds `live_jobs_max` jobs. With a small one (`--queue`) the refusal of what
is beyond it is seen: `job-queue-full`, which a caller answers by waiting a moment.

The bare cost beside it is one durable write of a block of that size for each acknowledged job, on
the same disk, by one process.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

from p2pfed.errors import ControlError, P2pfedError
from scripts.benchmarks.centres import Centre, Federation, cpu_s, memory_mib, progress

REST_S = 0.2
"""How long a caller waits who was told that the queue is full."""
BLOCK_BYTES = 600
RULES = """
round_ms = 2000
settle_ms = 500
heartbeat_ms = 1000
"""
TERMS = {
    "resource_class": "cpu",
    "name": "all",
    "nodes": 1,
    "cores_per_node": 8,
    "memory_mib_per_node": 4096,
    "walltime_max_s": 60,
}
REQUEST = {"memory_mib_per_node": 16, "walltime_s": 10}


class Callers:
    """Threads that post jobs; what they were told is counted."""

    def __init__(self, centres: list[Centre], script: Path) -> None:
        self.told: Counter[str] = Counter()
        self.waited_s: list[float] = []
        self.posted: dict[str, list[str]] = {centre.name: [] for centre in centres}
        self._script = script
        self._centres = centres
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, count: int) -> None:
        """Each caller posts at one centre."""
        for centre, _ in zip(cycle(self._centres), range(count), strict=False):
            thread = threading.Thread(target=self._post, args=(centre,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Returns when nobody posts any more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    def _post(self, centre: Centre) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                with centre.client() as client:
                    view, _ = client.submit(dict(REQUEST), self._script, {})
            except P2pfedError as error:
                self.told[error.code] += 1
                self._stop.wait(REST_S)
            else:
                self.told["accepted"] += 1
                self.posted[centre.name].append(view["job_id"])
                self.waited_s.append(time.monotonic() - began_s)


def over(centre: Centre, job_ids: list[str]) -> Counter[str]:
    """The states of these jobs now."""
    with centre.client() as client:
        views = {v["job_id"]: v["state"] for v in client.jobs(limit=10_000)}
    return Counter(views.get(job_id, "missing") for job_id in job_ids)


def until_over(federation: Federation, callers: Callers, deadline_s: float) -> Counter[str]:
    """The states of all jobs, when all are over or the time is up."""
    give_up_s = time.monotonic() + deadline_s
    while True:
        found: Counter[str] = Counter()
        for centre in federation:
            try:
                found += over(centre, callers.posted[centre.name])
            except ControlError:
                found["unanswered"] += 1
        if set(found) <= {"completed"} or time.monotonic() > give_up_s:
            return found
        time.sleep(1)


def bare_s(folder: Path, count: int) -> float:
    """Seconds for so many durable writes, one after the other."""
    began_s = time.monotonic()
    with (folder / "bare").open("wb") as file:
        for _ in range(count):
            file.write(bytes(BLOCK_BYTES))
            file.flush()
            os.fsync(file.fileno())
    return time.monotonic() - began_s


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="scripts/bench load")
    parser.add_argument("--centres", type=int, default=16)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--queue", type=int, default=100_000, help="the rule live_jobs_max")
    parser.add_argument("--drain", type=float, default=300, help="seconds for the end of all jobs")
    options = parser.parse_args()
    rules = f"{RULES}live_jobs_max = {options.queue}\n"
    with Federation.found(options.centres, rules=rules) as federation:
        federation.start()
        script = federation.root / "job.sh"
        script.write_text("#!/bin/sh\ntrue\n")
        for centre in federation:
            with centre.client() as client:
                client.open_offer(terms=TERMS)
        federation.until_equal()
        progress("all daemons are linked and have an offer")
        callers = Callers(list(federation), script)
        cpu_before = sum(cpu_s(centre.pid) for centre in federation)
        began_s = time.monotonic()
        callers.begin(options.callers)
        time.sleep(options.seconds / 2)
        middle = max(memory_mib(centre.pid) for centre in federation)
        accepted_middle = callers.told["accepted"]
        time.sleep(options.seconds / 2)
        callers.end()
        took_s = time.monotonic() - began_s
        last = max(memory_mib(centre.pid) for centre in federation)
        used_s = sum(cpu_s(centre.pid) for centre in federation) - cpu_before
        accepted = callers.told["accepted"]
        progress("nothing is posted any more")
        states = until_over(federation, callers, options.drain)
        drained_s = time.monotonic() - began_s - took_s
        waited = sorted(callers.waited_s)
        print(f"{options.centres} daemons, {options.callers} callers, {took_s:.0f} s:")
        print(f"  acknowledged   {accepted} jobs, {accepted / took_s:.1f} a second")
        print(f"  refused        {dict(callers.told - Counter(accepted=accepted)) or 'none'}")
        if waited:
            tail = waited[int(0.99 * (len(waited) - 1))]
            print(f"  to an answer   median {waited[len(waited) // 2]:.2f} s, 99 % {tail:.2f} s")
        print(f"  CPU            {used_s / took_s:.2f} cores by all daemons of {os.cpu_count()}")
        grown = 1024 * (last - middle) / max(1, accepted - accepted_middle)
        print(f"  memory         {middle:.0f} MiB half-way, {last:.0f} at the end at most,")
        print(f"                 {grown:.1f} KiB for each job of the federation")
        print(f"  afterwards     {dict(states)} after {drained_s:.0f} s")
        print(f"  bare writes    {accepted / bare_s(federation.root, accepted):.0f} a second")


if __name__ == "__main__":
    main()
