"""What is asked of every job before a batch system sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfed.errors import ExecutorError
from p2pfed.execute.interface import NativeJob
from p2pfed.execute.jobs import check_job
from p2pfed.shell.owners import VARIABLE


def job(**environment: str) -> NativeJob:
    return NativeJob(
        name="p2pfed-alpha.1.0",
        folder=Path("job"),
        script="run.sh",
        stdout="out",
        stderr="err",
        nodes=1,
        cores_per_node=1,
        memory_mib_per_node=100,
        walltime_s=60,
        begin_before_ms=1,
        kill_at_ms=2,
        environment=tuple(environment.items()),
    )


def test_the_pseudonym_that_a_home_gives_its_user_may_be_set() -> None:
    check_job(job(**{VARIABLE: "a1b2c3"}))


def test_nothing_else_under_our_own_prefix_may_be_set() -> None:
    with pytest.raises(ExecutorError, match="P2PFED_CLAIM"):
        check_job(job(P2PFED_CLAIM="x"))
