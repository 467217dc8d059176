"""Runs AccaSim's EASY on one SWF file; started by bench_simulator in a venv of its own.

AccaSim (Galleguillos, Kiziltan, Netti and Soto, "AccaSim: a customizable workload management
simulator", Cluster Computing 23, 2020) is an event-driven simulator of batch systems in Python. Its
last release is older than Python 3.10, which took names out of `collections`; they are put back.

    python peer_accasim.py TRACE.swf PROCESSORS  ->  one line of JSON
"""

from __future__ import annotations

import collections
import collections.abc
import json
import logging
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path


def main() -> None:
    """Replays the trace and prints the CPU time, the number of jobs and their mean wait."""
    for name in ("Mapping", "Iterable", "Sequence", "Callable"):
        setattr(collections, name, getattr(collections.abc, name))
    logging.disable(logging.CRITICAL)
    from accasim.base.allocator_class import FirstFit  # type: ignore[import-not-found]
    from accasim.base.scheduler_class import EASYBackfilling  # type: ignore[import-not-found]
    from accasim.base.simulator_class import Simulator  # type: ignore[import-not-found]

    trace, processors = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        machine = Path(folder) / "machine.json"
        description = {
            "groups": {"all": {"core": processors}},
            "resources": {"all": 1},
            "equivalence": {"processor": {"core": 1}},
            "start_time": 0,
        }
        machine.write_text(json.dumps(description))
        began_s = time.process_time()
        simulator = Simulator(
            trace,
            str(machine),
            EASYBackfilling(FirstFit()),
            statistics_output=False,
            show_statistics=False,
            RESULTS_FOLDER_PATH=folder,
        )
        (schedule,) = simulator.start_simulation().values()
        took_s = time.process_time() - began_s
        waits = [_wait_s(line) for line in Path(schedule).read_text().splitlines()]
    answer = {"cpu_s": took_s, "jobs": len(waits), "wait_mean_s": sum(waits) / len(waits)}
    print(json.dumps(answer))


def _wait_s(line: str) -> float:
    """The wait in a line `id;user;queued__nodes__started;ended;…`."""
    head, _, tail = line.split("__")
    queued = datetime.fromisoformat(head.split(";")[2])
    return (datetime.fromisoformat(tail.split(";")[0]) - queued).total_seconds()


if __name__ == "__main__":
    main()
