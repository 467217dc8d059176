"""Invariant 2 of the design, at its last line of defence: one claim, at most one process.

However submits, polls and cancels of one claim fall on each other, by how many daemons, its script
runs at most once, and never after somebody was told that it is not there.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.records import Outcome
from p2pfed.execute.interface import NativeState
from p2pfed.execute.local import LocalExecutor
from p2pfed.execute.notices import take_marker
from tests.conformance.executor import Bench, runs

ACTIONS = ("submit", "submit", "poll", "cancel")


def start() -> LocalExecutor:
    return LocalExecutor(nodes=1, cores_per_node=1, memory_mib_per_node=256, grace_s=2)


@settings(max_examples=15)
@given(
    first=st.lists(st.sampled_from(ACTIONS), max_size=2),
    together=st.lists(st.sampled_from(ACTIONS), min_size=2, max_size=5),
)
def test_a_claim_runs_at_most_once(first: list[str], together: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder=Path(folder), start=start)
        job = bench.job("echo ran >> runs")
        told: list[NativeState] = []

        def act(action: str) -> None:
            executor = bench.start()
            match action:
                case "submit":
                    executor.submit(job)
                case "poll":
                    told.append(executor.poll((job,))[job.name].state)
                case "cancel":
                    executor.cancel(job)

        for action in first:
            act(action)
        barrier = Barrier(len(together))

        def act_with_the_others(action: str) -> None:
            barrier.wait()
            act(action)

        with ThreadPoolExecutor(len(together)) as pool:
            list(pool.map(act_with_the_others, together))
        status = bench.end_of(job)
        if NativeState.NOT_FOUND in (*told, status.state):
            assert status.state is NativeState.NOT_FOUND
            assert runs(job) == 0
        elif status.outcome is Outcome.COMPLETED:
            assert runs(job) == 1
        else:
            assert status.outcome is Outcome.CANCELLED
            assert runs(job) <= 1


@settings(max_examples=30)
@given(takers=st.integers(2, 8))
def test_a_marker_has_one_taker(takers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        barrier = Barrier(takers)

        def take(number: int) -> bool:
            barrier.wait()
            return take_marker(folder, "name", {"holder": str(number)})

        with ThreadPoolExecutor(takers) as pool:
            won = list(pool.map(take, range(takers)))
        assert won.count(True) == 1
        assert (Path(folder) / "started-name").read_text() == f"holder={won.index(True)}\n"
        assert len(list(Path(folder).iterdir())) == 1
