"""Processes are found by descent and signalled without hitting a stranger."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pfed.execute import processes
from p2pfed.execute.processes import Process
from tests.waiting import wait_until


@pytest.fixture
def waiter() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs and waits for its input to end."""
    with echo(["cat"]) as process:
        yield process
        process.kill()


def echo(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Starts a program that copies input to output, and returns when it does."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    assert process.stdin and process.stdout
    process.stdin.write(b"x")
    process.stdin.flush()
    assert process.stdout.read(1) == b"x"
    return process


def found(pid: int) -> Process:
    process = processes.look_up(pid)
    assert process is not None
    return process


def test_a_process_knows_its_parent_session_and_memory() -> None:
    me = found(os.getpid())
    assert (me.parent, me.session) == (os.getppid(), os.getsid(0))
    assert me.rss_bytes > 1 << 20
    assert me.start_ticks > 0
    assert not me.is_dead


def test_a_process_id_that_nobody_has_is_not_found() -> None:
    assert processes.look_up(1 << 30) is None


def test_a_command_name_may_hold_parentheses_spaces_and_newlines(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1\n(b c"
    shutil.copy("/bin/cat", program)
    with echo([str(program)]) as process:
        assert found(process.pid).parent == os.getpid()
        process.kill()


def test_descendants_are_all_generations_and_not_the_root() -> None:
    command = ["sh", "-c", "(sh -c 'echo up; read x; true'; true); true"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == b"up\n"
        tree = processes.descendants(os.getpid())
        below = processes.descendants(process.pid)
        assert {process.pid} | {p.pid for p in below} <= {p.pid for p in tree}
        assert process.pid not in {p.pid for p in below}
        assert len(below) >= 1
        process.stdin.write(b"\n")


def test_a_zombie_is_no_living_descendant(waiter: subprocess.Popen[bytes]) -> None:
    waiter.kill()
    os.waitid(os.P_PID, waiter.pid, os.WEXITED | os.WNOWAIT)
    assert found(waiter.pid).is_dead
    assert waiter.pid not in {p.pid for p in processes.descendants(os.getpid())}


def test_a_signal_does_not_reach_a_process_that_took_over_the_id(
    waiter: subprocess.Popen[bytes],
) -> None:
    process = found(waiter.pid)
    process.start_ticks -= 1
    processes.send(process, signal.SIGKILL)
    assert waiter.stdin
    waiter.stdin.close()
    assert waiter.wait() == 0


def test_a_signal_to_a_process_that_is_gone_is_lost(waiter: subprocess.Popen[bytes]) -> None:
    process = found(waiter.pid)
    waiter.kill()
    waiter.wait()
    processes.send(process, signal.SIGKILL)


def test_everything_is_stopped_before_anything_is_killed(waiter: subprocess.Popen[bytes]) -> None:
    calls = 0

    def find() -> list[Process]:
        nonlocal calls
        calls += 1
        if calls == 2:
            wait_until(lambda: found(waiter.pid).state == "T", "the stop")
        return [found(waiter.pid)]

    processes.kill_all(find)
    assert waiter.wait() == -signal.SIGKILL
    assert calls == 2


def test_waiting_for_an_end_ends_with_it_or_with_the_time(waiter: subprocess.Popen[bytes]) -> None:
    process = found(waiter.pid)
    assert not processes.await_end(process, 1)
    waiter.kill()
    assert processes.await_end(process, 60_000)
    waiter.wait()
    assert processes.await_end(process, 0)


def test_an_environment_entry_is_found_only_whole() -> None:
    environment = {"P2PFED_SUPERVISOR": "12.345", "OTHER": "x"}
    with echo(["cat"], env=environment) as process:
        assert processes.environment_has(process.pid, processes.tag(12, 345).encode())
        assert not processes.environment_has(process.pid, processes.tag(12, 34).encode())
        process.kill()
    assert not processes.environment_has(1 << 30, b"")


def test_shared_pages_make_the_divided_memory_smaller_than_the_resident() -> None:
    me = found(os.getpid())
    assert 0 < processes.shared_out_bytes(me.pid) <= me.rss_bytes * 2
    assert processes.shared_out_bytes(1 << 30) == 0
