"""The local executor keeps the contract of every executor."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfed.execute.local import LocalExecutor
from tests.conformance.executor import Bench, ExecutorSuite


class TestLocalExecutor(ExecutorSuite):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        return Bench(
            folder=tmp_path,
            start=lambda: LocalExecutor(
                nodes=2, cores_per_node=2, memory_mib_per_node=256, grace_s=2
            ),
        )
