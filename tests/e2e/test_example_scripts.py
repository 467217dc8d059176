"""The shipped example script computes what its table says, however it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from p2pfed.core.records import Outcome
from p2pfed.execute.local import LocalExecutor
from tests.conformance.executor import Bench, output

PRIMES = Path(__file__).parents[2] / "examples" / "primes.sh"


@pytest.mark.parametrize(
    ("first", "last", "primes"),
    [(1, 1, 0), (2, 2, 1), (1, 1000, 168), (1, 10_000, 1229), (9_999, 10_000, 0), (7, 6, 0)],
)
@pytest.mark.parametrize("cores", ["1", "3"])
def test_primes_are_counted_right_on_any_number_of_cores(
    tmp_path: Path, first: int, last: int, primes: int, cores: str
) -> None:
    run = subprocess.run(
        [PRIMES, str(first), str(last)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "P2PFED_CORES": cores},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == f"{primes} primes"
    assert list(tmp_path.iterdir()) == []


def test_it_runs_as_a_job_with_the_cores_that_it_claimed(tmp_path: Path) -> None:
    executor = LocalExecutor(nodes=1, cores_per_node=2, memory_mib_per_node=64)
    bench = Bench(folder=tmp_path, start=lambda: executor)
    job = bench.job("", arguments=("1", "100000"), cores_per_node=2)
    shutil.copy(PRIMES, job.folder / "work" / job.script)
    assert bench.run(job).outcome is Outcome.COMPLETED, output(job, "stderr.txt")
    assert output(job) == "from 1 to 100000:\n9592 primes\n"
