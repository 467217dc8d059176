"""What the local executor promises beyond the contract, and how it meets its own failures."""

from __future__ import annotations

import dataclasses
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2pfed.core.records import Outcome
from p2pfed.errors import ExecutorError
from p2pfed.execute import notices
from p2pfed.execute.interface import NativeJob, NativeState
from p2pfed.execute.local import LocalExecutor, this_machine
from p2pfed.execute.processes import look_up
from tests.conformance.executor import LONG, Bench, is_alive, output, runs
from tests.waiting import wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def new_executor(run_as: str | None = None) -> LocalExecutor:
    return LocalExecutor(
        nodes=2, cores_per_node=2, memory_mib_per_node=256, run_as=run_as, grace_s=2
    )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(folder=tmp_path, start=new_executor)


def marker_path(job: NativeJob) -> str:
    return str(job.folder / "control" / f"started-{job.name}")


def supervisor_of(job: NativeJob) -> int:
    marker = notices.read(marker_path(job))
    assert marker is not None
    return int(marker["pid"])


def kill_supervisor(job: NativeJob) -> None:
    pid = supervisor_of(job)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the supervisor's death")


# When the supervisor dies


def test_a_killed_supervisor_is_a_node_failure_and_leaves_nothing_alive(bench: Bench) -> None:
    job = bench.job(
        f"setsid sh -c 'trap \"\" TERM; echo $$ > escaped; {LONG}' &\necho $$ > script\n{LONG}"
    )
    executor = bench.start()
    executor.submit(job)
    pids = [int(bench.file(job, name)) for name in ("escaped", "script")]
    kill_supervisor(job)
    status = bench.end_of(job, executor)
    assert status.outcome is Outcome.NODE_FAILURE
    assert 0 < status.started_ms <= status.ended_ms
    assert [pid for pid in pids if is_alive(pid)] == []
    assert bench.start().poll((job,)) == {job.name: status}


def test_the_kernel_kills_the_script_of_a_killed_supervisor_without_the_daemon(
    bench: Bench,
) -> None:
    job = bench.job(f"echo $$ > script\n{LONG}")
    bench.start().submit(job)
    script = int(bench.file(job, "script"))
    kill_supervisor(job)
    wait_until(lambda: not is_alive(script), "the script's death")


def test_what_cleared_its_environment_is_found_through_its_session(bench: Bench) -> None:
    job = bench.job(f"setsid sh -c 'env -i sleep 600 & echo $! > cleared; {LONG}' &\n{LONG}")
    executor = bench.start()
    executor.submit(job)
    cleared = int(bench.file(job, "cleared"))
    kill_supervisor(job)
    assert bench.end_of(job, executor).outcome is Outcome.NODE_FAILURE
    assert not is_alive(cleared)


def test_a_stranger_with_the_supervisors_process_id_is_not_taken_for_it(bench: Bench) -> None:
    # The process id in the marker is alive, but it is this test's, started at another time.
    job = bench.job("true")
    control = job.folder / "control"
    control.mkdir()
    fields = {"holder": "supervisor", "pid": str(os.getpid()), "start_ticks": "1", "at_ms": "5"}
    fields["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert notices.take_marker(str(control), job.name, fields)
    assert bench.end_of(job).outcome is Outcome.NODE_FAILURE


def test_after_a_reboot_no_recorded_process_is_believed(bench: Bench) -> None:
    job = bench.job("true")
    control = job.folder / "control"
    control.mkdir()
    me = look_up(os.getpid())
    assert me is not None
    fields = {"holder": "supervisor", "pid": str(me.pid), "start_ticks": str(me.start_ticks)}
    fields |= {"boot": "another boot", "at_ms": "5"}
    assert notices.take_marker(str(control), job.name, fields)
    assert bench.end_of(job).outcome is Outcome.NODE_FAILURE


def test_a_stuck_supervisor_is_killed_with_its_tree_when_it_is_overdue(bench: Bench) -> None:
    job = bench.job(f"echo $$ > script\n{LONG}")
    executor = bench.start()
    executor.submit(job)
    script = int(bench.file(job, "script"))
    os.kill(supervisor_of(job), signal.SIGSTOP)
    assert executor.poll((job,))[job.name].state is NativeState.RUNNING
    overdue = dataclasses.replace(job, kill_at_ms=0)
    assert bench.end_of(overdue, executor).outcome is Outcome.NODE_FAILURE
    assert not is_alive(script)


def test_a_supervisor_that_is_told_to_end_gives_the_job_back_as_preempted(bench: Bench) -> None:
    job = bench.job(f"echo up > up\n{LONG}")
    executor = bench.start()
    executor.submit(job)
    bench.file(job, "up")
    os.kill(supervisor_of(job), signal.SIGTERM)
    assert bench.end_of(job, executor).outcome is Outcome.PREEMPTED


def test_a_supervisor_that_cannot_start_is_a_passing_error_and_nothing_runs(
    bench: Bench,
) -> None:
    # Where the orders are to be written there is a folder, which no rename can replace.
    job = bench.job("echo ran >> runs")
    (job.folder / "control" / "job" / "x").mkdir(parents=True)
    with pytest.raises(ExecutorError) as caught:
        bench.start().submit(job)
    assert caught.value.transient
    shutil.rmtree(job.folder / "control" / "job")
    assert bench.run(job).outcome is Outcome.COMPLETED
    assert runs(job) == 1


def test_a_damaged_status_is_a_node_failure_not_a_crash(bench: Bench) -> None:
    job = bench.job("exit 3")
    bench.run(job)
    (job.folder / "control" / "status").write_bytes(b"\xff\0outcome\nexit_code=-7\n=\n")
    status = bench.end_of(job)
    assert (status.outcome, status.exit_code) == (Outcome.NODE_FAILURE, 0)


def test_one_unreadable_folder_does_not_hide_the_other_jobs(bench: Bench) -> None:
    good, bad = bench.job("true"), bench.job("true")
    bench.run(good)
    shutil.rmtree(bad.folder)
    bad.folder.write_text("a file where the folder was")
    executor = bench.start()
    assert executor.poll((bad, good)).keys() == {good.name}
    with pytest.raises(ExecutorError) as caught:
        executor.poll((bad,))
    assert (caught.value.code, caught.value.transient) == ("executor-disk", True)


# Memory


def test_a_tree_that_uses_more_memory_than_was_claimed_is_killed(bench: Bench) -> None:
    grow = (
        f"exec {sys.executable} -I -S -c 'import signal; x = b\"x\" * (200 << 20); signal.pause()'"
    )
    job = bench.job(f"({grow}) &\nwait", memory_mib_per_node=100)
    status = bench.run(job)
    assert status.outcome is Outcome.OUT_OF_MEMORY
    assert status.memory_mib_max >= 100


def test_shared_memory_is_counted_once(bench: Bench) -> None:
    # Four processes share 60 MiB: 240 MiB if each page were counted for each of them.
    body = (
        "import os; x = b'x' * (60 << 20); children = [os.fork() for _ in range(2)]\n"
        "open(f'up{os.getpid()}', 'w').write('up')\n"
        "while not os.path.exists('go'): __import__('select').select([], [], [], 0.05)\n"
    )
    job = bench.job(f"exec {sys.executable} -I -S program.py", memory_mib_per_node=150)
    (job.folder / "work" / "program.py").write_text(body)
    executor = bench.start()
    executor.submit(job)
    work = job.folder / "work"
    wait_until(lambda: len(list(work.glob("up*"))) == 4, "four processes")
    supervisor = supervisor_of(job)
    # Little but samples costs a supervisor time: when it has used some, one was taken.
    before = cpu_ticks(supervisor)
    wait_until(lambda: cpu_ticks(supervisor) > before, "another sample")
    (work / "go").touch()
    assert bench.end_of(job, executor).outcome is Outcome.COMPLETED


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_the_largest_memory_is_reported(bench: Bench) -> None:
    grow = f"exec {sys.executable} -I -S -c 'b\"x\" * (90 << 20)'"
    job = bench.job(grow, memory_mib_per_node=256)
    status = bench.run(job)
    assert status.outcome is Outcome.COMPLETED
    assert 90 <= status.memory_mib_max <= 256


# A disk that is full


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = Path(tempfile.mkdtemp(prefix="p2pfed-test-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount).returncode != 0:
        folder.rmdir()
        pytest.skip("can't mount a small file system here")
    yield folder
    # Lazy: a supervisor has its log open for a moment after it told the end.
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


def test_the_end_is_recorded_although_the_disk_is_full(small_disk: Path) -> None:
    bench = Bench(folder=small_disk, start=new_executor)
    job, late = bench.job("cat /dev/zero > filler 2>&-; exit 9"), bench.job("true")
    status = bench.run(job)
    assert (status.outcome, status.exit_code) == (Outcome.FAILED, 9)
    with pytest.raises(ExecutorError) as caught:
        bench.start().submit(late)
    assert (caught.value.code, caught.value.transient) == ("executor-disk", True)
    (job.folder / "work" / "filler").unlink()
    assert bench.run(late).outcome is Outcome.COMPLETED


# Another account


@pytest.fixture
def open_bench() -> Iterator[Callable[[str], Bench]]:
    """Benches in a folder that every account may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="p2pfed-test-"))
    folder.chmod(0o711)
    yield lambda account: Bench(folder=folder, start=lambda: new_executor(run_as=account))
    shutil.rmtree(folder)


@needs_root
def test_a_job_runs_as_the_dedicated_account_and_as_nobody_else(
    open_bench: Callable[[str], Bench],
) -> None:
    account = pwd.getpwnam("daemon")
    bench = open_bench("daemon")
    job = bench.job(
        'id -u; id -g; id -G; echo "$USER"; echo x > "$TMPDIR/x"\n'
        "cat ../control/job && echo read; kill -0 $PPID && echo signalled; true"
    )
    (job.folder / "work" / "inputs").mkdir()
    (job.folder / "work" / "inputs" / "data").write_text("1")
    assert bench.run(job).outcome is Outcome.COMPLETED, output(job, "stderr.txt")
    lines = output(job).split("\n")[:-1]
    assert lines[:2] == [str(account.pw_uid), str(account.pw_gid)]
    groups = {int(group) for group in lines[2].split()}
    assert groups == set(os.getgrouplist("daemon", account.pw_gid))
    assert lines[3:] == ["daemon"]
    assert (job.folder / "work" / "inputs" / "data").stat().st_uid == account.pw_uid


@needs_root
def test_cancel_and_memory_reach_another_accounts_processes(
    open_bench: Callable[[str], Bench],
) -> None:
    bench = open_bench("daemon")
    job = bench.job(f"setsid sh -c 'trap \"\" TERM; echo $$ > escaped; {LONG}' &\n{LONG}")
    executor = bench.start()
    executor.submit(job)
    escaped = int(bench.file(job, "escaped"))
    executor.cancel(job)
    assert bench.end_of(job, executor).outcome is Outcome.CANCELLED
    assert not is_alive(escaped)


@needs_root
def test_a_folder_that_the_account_cannot_reach_is_refused_with_the_remedy(
    open_bench: Callable[[str], Bench],
) -> None:
    bench = open_bench("daemon")
    closed = bench.folder / "closed"
    closed.mkdir(mode=0o700)
    job = dataclasses.replace(bench, folder=closed).job("true")
    with pytest.raises(ExecutorError) as caught:
        bench.start().submit(job)
    assert caught.value.code == "executor-closed-folder"
    assert caught.value.remedy == f"chmod o+x {closed}"
    assert not caught.value.transient
    closed.chmod(0o711)
    assert bench.run(job).outcome is Outcome.COMPLETED


@needs_root
def test_a_daemon_can_ask_beforehand_whether_the_account_reaches_a_folder(
    open_bench: Callable[[str], Bench],
) -> None:
    folder = open_bench("daemon").folder
    new_executor(run_as="daemon").check_reach(folder)
    folder.chmod(0o700)
    new_executor().check_reach(folder)
    with pytest.raises(ExecutorError):
        new_executor(run_as="daemon").check_reach(folder)


@pytest.mark.parametrize("account", ["no-such-account", "root", ""])
def test_an_account_that_jobs_must_not_run_as_is_refused(account: str) -> None:
    with pytest.raises(ExecutorError) as caught:
        new_executor(run_as=account)
    assert caught.value.code == "executor-account"


def test_only_root_can_use_another_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ExecutorError) as caught:
        new_executor(run_as="daemon")
    assert caught.value.code == "executor-account"
    assert "root" in caught.value.remedy


# Details


def test_a_failure_to_execute_is_told_to_the_user_on_stderr(bench: Bench) -> None:
    job = bench.job("")
    (job.folder / "work" / job.script).write_text("no shebang\n")
    status = bench.run(job)
    assert status.exit_code == 126
    assert output(job, "stderr.txt") == "p2pfed: can't execute script: Exec format error: job.sh\n"
    assert status.detail == "can't execute script: Exec format error"


def test_a_script_that_is_missing_has_exit_code_127(bench: Bench) -> None:
    job = bench.job("", script="missing.sh")
    assert bench.run(job).exit_code == 127


def test_a_stopped_script_can_still_clean_up(bench: Bench) -> None:
    job = bench.job("trap 'echo tidy > tidy; exit 0' TERM; echo $$ > pid; kill -STOP $$")
    executor = bench.start()
    executor.submit(job)
    script = int(bench.file(job, "pid"))

    def is_stopped() -> bool:
        process = look_up(script)
        return process is not None and process.state == "T"

    wait_until(is_stopped, "the script's stop")
    executor.cancel(job)
    assert bench.end_of(job, executor).outcome is Outcome.CANCELLED
    assert output(job, "tidy") == "tidy\n"


def test_a_job_that_forks_without_end_is_ended(bench: Bench) -> None:
    # A chain: every process starts its successor in a new session and dies. No list of process
    # ids is ever complete.
    body = 'n=${1:-0}; [ "$n" = 5 ] && echo up > up; setsid sh ./job.sh $((n + 1)) & :'
    job = bench.job(f"trap '' TERM\n{body}\n[ $n = 0 ] && {LONG}")
    executor = bench.start()
    executor.submit(job)
    bench.file(job, "up")
    executor.cancel(job)
    assert bench.end_of(job, executor).outcome is Outcome.CANCELLED


def test_signals_have_their_usual_meaning_in_the_script(bench: Bench) -> None:
    # `yes` ends silently when nobody reads only if SIGPIPE is neither ignored nor blocked.
    job = bench.job("yes | head -n 1; grep -E 'SigBlk|SigIgn' /proc/self/status")
    assert bench.run(job).outcome is Outcome.COMPLETED
    assert output(job).split() == ["y", "SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
    assert output(job, "stderr.txt") == ""


def test_a_script_inherits_no_open_files(bench: Bench) -> None:
    job = bench.job("ls -l /proc/self/fd | grep -c -E 'socket|pipe|control'; true")
    assert bench.run(job).outcome is Outcome.COMPLETED
    # The listing's own pipe to grep is the one that is there.
    assert output(job) == "1\n"


def test_the_supervisor_is_not_the_daemons_child_and_in_a_session_of_its_own(
    bench: Bench,
) -> None:
    job = bench.job(LONG)
    executor = bench.start()
    executor.submit(job)
    supervisor = look_up(supervisor_of(job))
    assert supervisor is not None
    assert supervisor.parent != os.getpid()
    assert supervisor.session == supervisor.pid
    executor.cancel(job)
    bench.end_of(job, executor)


def test_a_supervisor_loads_little() -> None:
    code = "import p2pfed.execute.supervise, sys; print(*sorted(sys.modules))"
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(root)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(run.stdout.split())
    ours = {name for name in modules if name.startswith("p2pfed")}
    light = ("notices", "orders", "processes", "supervise")
    assert ours == {"p2pfed", "p2pfed.execute", *(f"p2pfed.execute.{name}" for name in light)}
    assert not modules & {"typing", "re", "subprocess", "pathlib", "dataclasses", "json", "socket"}


def test_this_machine_has_cores_and_memory() -> None:
    found = this_machine()
    assert found.nodes == 1
    assert found.cores_per_node >= 1
    assert found.memory_mib_per_node > 0
