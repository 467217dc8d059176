"""`p2pfed demo` as a user runs it: real daemons, real jobs, and somebody who disturbs them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfed.errors import ControlError
from p2pfed.shell.client import Client
from tests.e2e.federation import run_program
from tests.waiting import heed_interrupts, wait_until

TIMEOUT_S = 240


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="p2d-", ignore_cleanup_errors=True) as path:
        yield Path(path)


def start_demo(folder: Path, *options: str) -> subprocess.Popen[str]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    source = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "p2pfed", "demo", *options],
        cwd=folder,
        env=environment | {"TMPDIR": str(folder), "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509 - no threads run here
    )


def read_until(demo: subprocess.Popen[str], pattern: str) -> str:
    """The first line of its progress that holds the pattern."""
    assert demo.stderr is not None
    said = []
    for line in demo.stderr:
        said.append(line)
        if re.search(pattern, line):
            return line
    raise AssertionError(f"the demo ended without {pattern!r}: {''.join(said)}")


def processes_below(folder: Path) -> list[int]:
    """Processes that name the folder in their arguments or work in it, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
            if os.fsencode(folder) in arguments or (entry / "cwd").readlink().is_relative_to(
                folder
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def daemon_of(folder: Path, name: str) -> int:
    """The process id of that centre's daemon, as soon as there is one."""
    wanted = os.fsencode(folder / name / "centre.toml")

    def look() -> int | None:
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and wanted in (entry / "cmdline").read_bytes().split(b"\0"):
                    return int(entry.name)
            except OSError:
                continue
        return None

    return wait_until(look, f"the daemon of {name}") or 0


def test_every_job_runs_once_elsewhere_and_all_books_agree(folder: Path) -> None:
    demo = start_demo(folder, "--jobs", "10", "--keep", "kept", "--json")
    out, err = demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 0, err
    report = json.loads(out)
    assert (report["ok"], report["failures"], report["restarts"]) == (True, [], 0)
    assert [job["runs"] for job in report["jobs"]] == [1] * 10
    assert all(job["host"] not in (None, job["home"]) for job in report["jobs"])
    assert all(job["output"] == job["expected"] for job in report["jobs"])
    assert {centre["view_digest"] for centre in report["centres"]} == {report["view_digest"]}
    assert {centre["ledger_digest"] for centre in report["centres"]} == {report["view_digest"]}
    assert sum(centre["hosted"] for centre in report["centres"]) == 10
    by_centre = {line["centre"]: line for line in report["balances"]}
    assert by_centre["alpha"]["balance_ppm"] < 0 < by_centre["beta"]["balance_ppm"]
    assert "why primes-" in err
    assert processes_below(folder) == []
    the_kept_centres_can_be_used_by_hand(folder / "kept", report["jobs"][0]["job_id"])


def answers(socket: Path) -> bool:
    """True once a daemon answers; the socket's file is there a little earlier."""
    try:
        with Client(socket):
            return True
    except ControlError:
        return False


def the_kept_centres_can_be_used_by_hand(kept: Path, job_id: str) -> None:
    config = ("--config", str(kept / "alpha"))
    with (kept / "alpha" / "daemon.log").open("ab") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "p2pfed", "daemon", *config], stdout=log, stderr=log
        )
    try:
        socket = kept / "alpha" / "run" / "control.sock"
        wait_until(lambda: answers(socket), "an answer at the control socket")
        with Client(socket) as client:
            assert client.job(job_id)["job"]["state"] == "completed"
        said = run_program("output", *config, job_id, folder=kept)
        assert said.out.splitlines()[-1].endswith(" primes")
        run_program("ledger", "export", *config, "a.ledger", folder=kept)
        run_program("ledger", "verify", "a.ledger", "--charter", "charter.cbor", folder=kept)
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0


def test_members_decide_while_jobs_run_and_no_job_is_lost_or_runs_twice(folder: Path) -> None:
    demo = start_demo(folder, "--governance", "--jobs", "24", "--keep", "kept", "--json")
    out, err = demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 0, err
    report = json.loads(out)
    assert [line["ok"] for line in report["decisions"]] == [True] * 7, report["decisions"]
    assert [job["runs"] for job in report["jobs"]] == [1] * 24
    centres = {centre["centre"]: centre for centre in report["centres"]}
    assert sorted(centres) == ["alpha", "beta", "epsilon", "gamma", "zeta"]
    assert all(centre["ledger_ok"] for centre in centres.values())


def test_a_killed_daemon_is_started_again_and_nothing_is_lost(folder: Path) -> None:
    demo = start_demo(folder, "--jobs", "8", "--keep", "kept", "--json")
    kept = folder / "kept"
    os.kill(daemon_of(kept, "gamma"), signal.SIGKILL)
    read_until(demo, "gamma: its daemon died")
    read_until(demo, "alpha: .* started at beta")
    os.kill(daemon_of(kept, "beta"), signal.SIGKILL)
    os.kill(daemon_of(kept, "alpha"), signal.SIGKILL)
    out, err = demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 0, err
    report = json.loads(out)
    assert report["restarts"] == 3
    assert [job["runs"] for job in report["jobs"]] == [1] * 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_interrupts_it_finds_nothing_left(number: signal.Signals, folder: Path) -> None:
    demo = start_demo(folder, "--json")
    line = read_until(demo, "founding")
    place = Path(line.split(" in ")[1].strip())
    assert place.is_dir()
    read_until(demo, "started at")
    demo.send_signal(number)
    out, err = demo.communicate(timeout=TIMEOUT_S)
    assert (demo.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert not place.exists()
    assert processes_below(place) == []


def test_on_a_terminal_it_shows_what_happens_while_it_happens(folder: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(folder), "TERM": "xterm"}
    source = str(Path(__file__).parents[2])
    with os.fdopen(theirs, "wb") as terminal:
        demo = subprocess.Popen(
            [sys.executable, "-m", "p2pfed", "demo", "--centres", "2", "--jobs", "3"],
            env=environment | {"PYTHONPATH": source, "COLUMNS": "100", "LINES": "40"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as screen:
        try:
            while piece := screen.read(1 << 16):
                shown += piece
        except OSError:
            pass  # how Linux says that the other end was closed
    assert demo.wait(TIMEOUT_S) == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert re.search(r"beta +4 of 4 cores +[1-3]", text)
    assert re.search(r"jobs 0/3 .* 3 queued", text)
    assert "all 3 jobs ran exactly once, at another centre, with the right output" in text


def test_a_folder_in_use_is_refused_before_anything_is_made(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "file").write_text("x")
    said = run_program("demo", "--keep", "mine", folder=folder, code=2)
    assert "[demo-folder]" in said.err
    assert [path.name for path in (folder / "mine").iterdir()] == ["file"]
