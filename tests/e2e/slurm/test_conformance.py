"""The Slurm executor keeps the contract of every executor, on a real Slurm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.executor import Bench, ExecutorSuite
from tests.e2e.slurm.bed import executor, require_clusters, shared_folder


@pytest.mark.slow
class TestSlurmExecutor(ExecutorSuite):
    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        require_clusters("alpha")
        with shared_folder() as folder:
            yield Bench(
                folder=folder,
                start=lambda: executor("alpha"),
                walltime_step_s=60,
                start_s=20,
            )
