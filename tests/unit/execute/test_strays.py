"""Guests of the local executor that nobody remembers are found and ended, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

from p2pfed.execute.interface import NativeJob, NativeState
from p2pfed.execute.strays import LocalGuests
from tests.conformance.executor import LONG, Bench, is_alive
from tests.unit.execute.test_local import new_executor, supervisor_of
from tests.waiting import wait_until


def begun(bench: Bench) -> tuple[NativeJob, int]:
    """A job that runs until it is ended, and the process of its script."""
    job = bench.job(f"echo $$ > script\n{LONG}")
    bench.start().submit(job)
    return job, int(bench.file(job, "script"))


def test_a_guest_whose_folder_is_lost_is_found_and_ended_and_the_known_one_runs_on(
    tmp_path: Path,
) -> None:
    bench = Bench(folder=tmp_path, start=new_executor)
    known, known_pid = begun(bench)
    lost, lost_pid = begun(bench)
    supervisor = supervisor_of(lost)
    assert known.folder.parent == lost.folder.parent
    shutil.rmtree(lost.folder)
    guests = LocalGuests(known.folder.parent)
    (stray,) = guests.look()({known.name: known.folder})
    assert stray == (str(supervisor), lost.folder.name)
    guests.end(stray)
    wait_until(lambda: not is_alive(lost_pid) and not is_alive(supervisor), "the end of the stray")
    assert guests.look()({known.name: known.folder}) == []
    guests.end(stray)  # once more is no error
    assert is_alive(known_pid)
    executor = bench.start()
    assert executor.poll((known,))[known.name].state is NativeState.RUNNING
    executor.cancel(known)
    bench.end_of(known, executor)


def test_guests_of_another_daemon_are_none_of_ours(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path / "one", start=new_executor)
    job, _ = begun(bench)
    assert LocalGuests(tmp_path / "two").look()({}) == []
    executor = bench.start()
    executor.cancel(job)
    bench.end_of(job, executor)
