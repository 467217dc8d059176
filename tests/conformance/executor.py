"""What every executor must do, as tests: subclass `ExecutorSuite` and give it a `bench`.

    class TestLocalExecutor(ExecutorSuite):
        @pytest.fixture
        def bench(self, tmp_path: Path) -> Bench:
            return Bench(folder=tmp_path, start=lambda: LocalExecutor(...))

The jobs are real scripts that run for real. `bench.start` makes the executor anew over the same
batch system, as a daemon does that was killed and started again. Nothing here depends on how fast
the batch system is; `walltime_step_s` is the shortest walltime that it enforces.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p2pfed.core.records import Outcome
from p2pfed.errors import ExecutorError
from p2pfed.execute.interface import Executor, NativeJob, NativeState, NativeStatus
from p2pfed.execute.notices import take_marker
from p2pfed.execute.processes import look_up
from tests.waiting import wait_until

LONG = "exec sleep 600"
_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One batch system on trial.

    Attributes:
        folder: where the jobs' folders are made.
        start: a new executor over the same batch system.
        walltime_step_s: the shortest walltime that is enforced.
        start_s: what a job that ends at `kill_at_ms` may lose before its script begins.
        deadline_s: how long a short job may take from `submit` to its end, at the very most.
    """

    folder: Path
    start: Callable[[], Executor]
    walltime_step_s: int = 1
    start_s: int = 2
    deadline_s: float = 120.0

    def job(self, body: str, /, **changes: Any) -> NativeJob:
        """A job of one core whose script is `/bin/sh` with this body; nothing is submitted."""
        number = next(_numbers)
        folder = self.folder / f"claim-{number}"
        (folder / "work").mkdir(parents=True)
        path = folder / "work" / "job.sh"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o700)
        now_ms = time.time_ns() // 1_000_000
        job = NativeJob(
            name=f"p2pfed-test.{os.getpid()}.{number}",
            folder=folder,
            script="job.sh",
            nodes=1,
            cores_per_node=1,
            memory_mib_per_node=64,
            walltime_s=600,
            begin_before_ms=now_ms + 600_000,
            kill_at_ms=now_ms + 3_600_000,
        )
        return dataclasses.replace(job, **changes)

    def end_of(self, job: NativeJob, executor: Executor | None = None) -> NativeStatus:
        """Waits until the job is over and returns how."""
        asked = executor or self.start()

        def ended() -> NativeStatus | None:
            status = asked.poll((job,)).get(job.name)
            over = status is not None and status.state in (NativeState.ENDED, NativeState.NOT_FOUND)
            return status if over else None

        status = wait_until(ended, f"the end of {job.name}", self.deadline_s)
        assert status is not None
        return status

    def run(self, job: NativeJob) -> NativeStatus:
        """Submits the job and waits for its end."""
        executor = self.start()
        executor.submit(job)
        return self.end_of(job, executor)

    def file(self, job: NativeJob, name: str) -> str:
        """Waits until the job has written a line to the file, and returns the text."""
        path = job.folder / "work" / name

        def content() -> str:
            text = path.read_text() if path.exists() else ""
            return text if text.endswith("\n") else ""

        return wait_until(content, f"{name} of {job.name}", self.deadline_s)


def output(job: NativeJob, name: str = "stdout.txt") -> str:
    """What the job has written to a file of its working folder."""
    return (job.folder / "work" / name).read_text()


def runs(job: NativeJob) -> int:
    """How often a script that says `echo ran >> runs` has run."""
    path = job.folder / "work" / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


def is_alive(pid: int) -> bool:
    """True if a process with this id runs."""
    process = look_up(pid)
    return process is not None and not process.is_dead


class ExecutorSuite:
    """The contract of p2pfed/execute/interface.py, one test for each promise."""

    # How a job ends

    def test_a_script_that_succeeds_is_completed(self, bench: Bench) -> None:
        before_ms = time.time_ns() // 1_000_000
        job = bench.job("echo out; echo err >&2")
        status = bench.run(job)
        assert status.name == job.name
        assert status.state is NativeState.ENDED
        assert status.outcome is Outcome.COMPLETED
        assert (status.exit_code, status.signal) == (0, 0)
        # Batch systems tell times in whole seconds.
        assert before_ms - 1000 <= status.started_ms <= status.ended_ms
        assert (output(job), output(job, "stderr.txt")) == ("out\n", "err\n")

    def test_an_exit_code_is_reported(self, bench: Bench) -> None:
        status = bench.run(bench.job("exit 3"))
        assert (status.outcome, status.exit_code, status.signal) == (Outcome.FAILED, 3, 0)

    def test_a_signal_of_its_own_making_is_reported(self, bench: Bench) -> None:
        status = bench.run(bench.job("kill -KILL $$"))
        assert (status.outcome, status.signal) == (Outcome.FAILED, signal.SIGKILL)

    def test_the_walltime_is_enforced_on_the_whole_tree(self, bench: Bench) -> None:
        job = bench.job(
            f"setsid sh -c 'echo $$ > escaped; {LONG}' &\n{LONG}", walltime_s=bench.walltime_step_s
        )
        status = bench.run(job)
        assert status.outcome is Outcome.TIMEOUT
        assert not is_alive(int(output(job, "escaped")))

    def test_no_process_lives_past_kill_at(self, bench: Bench) -> None:
        now_ms = time.time_ns() // 1_000_000
        kill_at_ms = now_ms + (bench.walltime_step_s + bench.start_s) * 1000
        job = bench.job(
            "trap '' TERM; echo $$ > pid; while :; do sleep 1; done",
            begin_before_ms=kill_at_ms,
            kill_at_ms=kill_at_ms,
        )
        status = bench.run(job)
        assert status.outcome is Outcome.TIMEOUT
        assert not is_alive(int(output(job, "pid")))

    def test_what_the_script_leaves_behind_is_killed_when_it_ends(self, bench: Bench) -> None:
        job = bench.job(f"(setsid sh -c '{LONG}' & echo $! > left) ; exit 0")
        status = bench.run(job)
        assert status.outcome is Outcome.COMPLETED
        assert not is_alive(int(output(job, "left")))

    def test_an_end_stays_as_it_was_told(self, bench: Bench) -> None:
        job = bench.job("exit 4")
        first = bench.run(job)
        bench.start().cancel(job)
        bench.start().submit(job)
        assert bench.start().poll((job,)) == {job.name: first}

    # Once, and only once

    def test_two_submits_of_one_name_run_it_once(self, bench: Bench) -> None:
        job = bench.job("echo ran >> runs")
        bench.start().submit(job)
        bench.start().submit(job)
        assert bench.end_of(job).outcome is Outcome.COMPLETED
        bench.start().submit(job)
        assert bench.end_of(job).outcome is Outcome.COMPLETED
        assert runs(job) == 1

    def test_a_job_that_was_never_submitted_is_not_found_and_never_runs(self, bench: Bench) -> None:
        job = bench.job("echo ran >> runs")
        executor = bench.start()
        assert executor.poll((job,))[job.name].state is NativeState.NOT_FOUND
        executor.submit(job)
        assert bench.end_of(job).state is NativeState.NOT_FOUND
        assert runs(job) == 0

    def test_a_job_whose_marker_is_taken_never_runs(self, bench: Bench) -> None:
        job = bench.job("echo ran >> runs")
        control = job.folder / "control"
        control.mkdir()
        assert take_marker(str(control), job.name, {"holder": "daemon"})
        bench.run(job)
        assert runs(job) == 0

    def test_a_job_that_comes_too_late_never_runs(self, bench: Bench) -> None:
        now_ms = time.time_ns() // 1_000_000
        job = bench.job("echo ran >> runs", begin_before_ms=now_ms)
        status = bench.run(job)
        assert status.outcome is Outcome.NOT_STARTED
        assert status.started_ms == status.ended_ms
        assert runs(job) == 0

    # Cancelling

    def test_cancel_ends_the_whole_tree_escaped_daemons_included(self, bench: Bench) -> None:
        job = bench.job(
            f"setsid sh -c 'trap \"\" TERM; echo $$ > session; {LONG}' &\n"
            f"(setsid sh -c '(env -i sleep 600 & echo $! > daemon) &' &) &\n"
            f"echo $$ > script\n{LONG}"
        )
        executor = bench.start()
        executor.submit(job)
        pids = [int(bench.file(job, name)) for name in ("session", "daemon", "script")]
        executor.cancel(job)
        status = bench.end_of(job, executor)
        assert status.outcome is Outcome.CANCELLED
        assert [pid for pid in pids if is_alive(pid)] == []

    def test_a_script_may_clean_up_when_it_is_cancelled(self, bench: Bench) -> None:
        job = bench.job(
            "trap 'echo tidy > tidy; exit 0' TERM\necho up > up\nwhile :; do sleep 0.1; done"
        )
        executor = bench.start()
        executor.submit(job)
        bench.file(job, "up")
        executor.cancel(job)
        executor.cancel(job)
        assert bench.end_of(job, executor).outcome is Outcome.CANCELLED
        assert output(job, "tidy") == "tidy\n"

    def test_a_job_that_was_cancelled_before_it_was_submitted_never_runs(
        self, bench: Bench
    ) -> None:
        job = bench.job("echo ran >> runs")
        bench.start().cancel(job)
        status = bench.run(job)
        assert status.outcome in (Outcome.CANCELLED, None)
        assert runs(job) == 0

    def test_cancelling_an_unknown_job_is_fine(self, bench: Bench) -> None:
        job = bench.job("true")
        bench.start().cancel(dataclasses.replace(job, folder=bench.folder / "nowhere"))

    # Local jobs first

    def test_an_evicted_job_is_told_saves_its_state_and_is_preempted(self, bench: Bench) -> None:
        job = bench.job(
            "trap 'echo saved > saved; exit 0' USR1\necho up > up\nwhile :; do sleep 0.1; done",
            signal=signal.SIGUSR1,
        )
        executor = bench.start()
        executor.submit(job)
        bench.file(job, "up")
        bench.start().evict(job, 60)
        executor.evict(job, 60)
        assert bench.end_of(job, executor).outcome is Outcome.PREEMPTED
        assert output(job, "saved") == "saved\n"

    def test_an_evicted_job_that_stays_is_ended_when_its_notice_is_over(self, bench: Bench) -> None:
        job = bench.job("trap '' USR1\necho $$ > up\nwhile :; do sleep 0.1; done", signal=10)
        executor = bench.start()
        executor.submit(job)
        pid = int(bench.file(job, "up"))
        executor.evict(job, 2)
        assert bench.end_of(job, executor).outcome is Outcome.PREEMPTED
        assert not is_alive(pid)

    def test_an_evicted_job_that_ends_by_itself_within_its_notice_is_completed(
        self, bench: Bench
    ) -> None:
        job = bench.job("echo up > up\nwhile [ ! -e go ]; do sleep 0.1; done")
        executor = bench.start()
        executor.submit(job)
        bench.file(job, "up")
        executor.evict(job, 60)
        (job.folder / "work" / "go").touch()
        assert bench.end_of(job, executor).outcome is Outcome.COMPLETED

    def test_what_is_seen_is_what_there_is(self, bench: Bench) -> None:
        executor = bench.start()
        has, seen = executor.capacity(), executor.observe()
        assert len(seen.nodes) >= has.nodes
        assert max(node.cores for node in seen.nodes) == has.cores_per_node
        assert all(node.idle_cores <= node.cores for node in seen.nodes)
        now_s = time.time_ns() // 1_000_000_000
        start_s = executor.expected_start_s(queue="", nodes=1, cores_per_node=1, walltime_s=60)
        assert start_s is not None and start_s >= now_s - 60

    # A daemon that was away

    def test_a_running_job_is_found_again(self, bench: Bench) -> None:
        job = bench.job("echo up > up; while [ ! -e go ]; do sleep 0.05; done; exit 5")
        bench.start().submit(job)
        bench.file(job, "up")
        again = bench.start()
        status = again.poll((job,))[job.name]
        assert status.state is NativeState.RUNNING
        assert status.started_ms > 0
        again.submit(job)
        (job.folder / "work" / "go").touch()
        status = bench.end_of(job, again)
        assert (status.outcome, status.exit_code) == (Outcome.FAILED, 5)

    def test_an_end_during_the_absence_is_found_with_its_exit_code(self, bench: Bench) -> None:
        job = bench.job("echo $$ > pid; exit 6")
        bench.start().submit(job)
        pid = int(bench.file(job, "pid"))
        wait_until(lambda: not is_alive(pid), "the script's end", bench.deadline_s)
        status = bench.end_of(job)
        assert (status.outcome, status.exit_code) == (Outcome.FAILED, 6)

    def test_jobs_are_told_apart(self, bench: Bench) -> None:
        jobs = tuple(bench.job(f"exit {code}") for code in range(3))
        executor = bench.start()
        for job in jobs:
            executor.submit(job)
        assert [bench.end_of(job, executor).exit_code for job in jobs] == [0, 1, 2]
        found = executor.poll(jobs)
        assert [found[job.name].exit_code for job in jobs] == [0, 1, 2]

    # What the script sees

    def test_the_environment_is_clean(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("P2PFED_TEST_SECRET", "secret")
        monkeypatch.setenv("PYTHONPATH", "/nowhere")
        own = (("GREETING", "two\nlines = äöü"), ("P2PFED_USER", "0" * 32))
        job = bench.job("env -0", environment=own)
        assert bench.run(job).outcome is Outcome.COMPLETED
        seen = dict(item.split("=", 1) for item in output(job).split("\0") if item)
        assert seen["GREETING"] == "two\nlines = äöü"
        assert (seen["P2PFED_JOB_ID"], seen["P2PFED_USER"]) == (job.name, "0" * 32)
        assert (seen["P2PFED_NODES"], seen["P2PFED_CORES"], seen["OMP_NUM_THREADS"]) == ("1",) * 3
        assert "/usr/bin" in seen["PATH"].split(":")
        assert seen["HOME"] == str(job.folder / "work")
        assert "P2PFED_TEST_SECRET" not in seen
        assert "PYTHONPATH" not in seen

    def test_the_pseudonym_of_its_user_is_passed_on(self, bench: Bench) -> None:
        job = bench.job('echo "$P2PFED_USER"', environment=(("P2PFED_USER", "1a2b"),))
        assert bench.run(job).outcome is Outcome.COMPLETED
        assert output(job) == "1a2b\n"

    def test_it_runs_in_its_folder_with_nothing_on_stdin(self, bench: Bench) -> None:
        job = bench.job('pwd -P; wc -c; echo x > "$TMPDIR/x" && cat "$TMPDIR/x"')
        assert bench.run(job).outcome is Outcome.COMPLETED
        assert output(job).split() == [str((job.folder / "work").resolve()), "0", "x"]

    def test_arguments_arrive_as_they_were_given(self, bench: Bench) -> None:
        arguments = ("", "a b", "$HOME", "`id`", "'\"", "new\nline", "äöü", "*", "--x=y;z")
        job = bench.job('for a; do printf "%s|" "$a"; done', arguments=arguments)
        assert bench.run(job).outcome is Outcome.COMPLETED
        assert output(job) == "".join(f"{argument}|" for argument in arguments)

    def test_output_files_are_where_they_were_asked_for(self, bench: Bench) -> None:
        job = bench.job("echo one; echo two >&2", stdout="logs/all.txt", stderr="logs/all.txt")
        assert bench.run(job).outcome is Outcome.COMPLETED
        assert output(job, "logs/all.txt") == "one\ntwo\n"

    def test_any_bytes_may_be_written(self, bench: Bench) -> None:
        job = bench.job("head -c 300000 /dev/zero; printf '\\377\\000'")
        assert bench.run(job).outcome is Outcome.COMPLETED
        assert (job.folder / "work" / "stdout.txt").read_bytes() == bytes(300_000) + b"\xff\0"

    # What can't be run

    @pytest.mark.parametrize(
        ("flaw", "content", "mode"),
        [
            ("not executable", b"#!/bin/sh\necho ran >> runs\n", 0o600),
            ("interpreter missing", b"#!/no/such/interpreter\n", 0o700),
            ("neither script nor program", b"\0\1\2\3", 0o700),
            ("empty", b"", 0o700),
        ],
    )
    def test_a_script_that_cannot_be_executed_has_failed(
        self, bench: Bench, flaw: str, content: bytes, mode: int
    ) -> None:
        job = bench.job("")
        script = job.folder / "work" / job.script
        script.write_bytes(content)
        script.chmod(mode)
        status = bench.run(job)
        assert status.outcome is Outcome.FAILED, flaw
        assert status.exit_code != 0

    def test_a_job_larger_than_the_machine_is_refused_for_good(self, bench: Bench) -> None:
        executor = bench.start()
        largest = executor.capacity()
        assert min(largest.nodes, largest.cores_per_node) > 0
        job = bench.job("echo ran >> runs", nodes=largest.nodes + 1)
        with pytest.raises(ExecutorError) as caught:
            executor.submit(job)
        assert not caught.value.transient
        assert bench.end_of(job, executor).state is NativeState.NOT_FOUND
        assert runs(job) == 0

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": "../x"},
            {"name": "UPPER"},
            {"stdout": "../out"},
            {"stderr": "/tmp/out"},
            {"script": ""},
            {"script": "../job.sh"},
            {"arguments": ("nul\0",)},
            {"arguments": ("\ud800",)},
            {"environment": (("A=B", "x"),)},
            {"environment": (("P2PFED_JOB_ID", "x"),)},
            {"environment": (("A", "\0"),)},
        ],
        ids=repr,
    )
    def test_a_job_that_is_malformed_is_refused_for_good(
        self, bench: Bench, changes: dict[str, Any]
    ) -> None:
        job = bench.job("echo ran >> runs", **changes)
        with pytest.raises(ExecutorError) as caught:
            bench.start().submit(job)
        assert not caught.value.transient
        assert runs(job) == 0
