"""The commands that ask a daemon, against a served door: what people see, and exact JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pfed.cli.main import main
from p2pfed.shell.answers import JobView, Notice
from tests.unit.shell.doors import NOW_MS, MemoryDoor, job_view, served

SCRIPT = "#!/bin/bash\n#SBATCH -n 4 -t 10 -p long\necho hello\n"


@pytest.fixture
def door(tmp_path: Path) -> MemoryDoor:
    return MemoryDoor(tmp_path)


@pytest.fixture(autouse=True)
def _daemon(door: MemoryDoor, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with served(door) as client:
        monkeypatch.setenv("P2PFED_SOCKET", str(client.path))
        monkeypatch.chdir(door.folder)
        (door.folder / "job.sh").write_text(SCRIPT)
        yield


Capture = pytest.CaptureFixture[str]


def run(capfd: Capture, *arguments: str, code: int = 0) -> str:
    assert main(arguments) == code
    found = capfd.readouterr()
    return found.out if code == 0 else found.err


JSON = {
    "status": "centre",
    "peers": "peers",
    "members": "members",
    "offers": "offers",
    "offer list": "offers",
    "balance": "balances",
    "jobs --scope all --state queued": "jobs",
    "job alpha.4.0": "attempts",
    "explain alpha.4.0": "offers",
    "cancel alpha.4.0": "jobs",
    "offer open night --nodes 1 --for 2h": "offer",
    "offer close --all": "closed",
    "submit --json job.sh": "job",
}


@pytest.mark.parametrize("command", JSON)
def test_every_command_prints_json(command: str, capfd: Capture) -> None:
    options = [] if "--json" in command else ["--json"]
    assert JSON[command] in json.loads(run(capfd, *command.split(), *options))


TABLES = {
    "status": ["example (abababababab)", "1 of 1 connected", "-2 ms", "the disk is nearly full"],
    "peers": ["beta", "127.0.0.1:7001", "1s ago"],
    "members": ["alpha", "member"],
    "offers": ["beta.2.0", "night", "8 cores", "2 x 4", "2h 00m"],
    "offer list": [
        "this centre has made no offer",
        "template night offers nothing now: its windows are closed now",
    ],
    "balance": ["alpha", "-25.0000 %", "cpu: gave 0, took 90 core-s"],
    "jobs": ["alpha.4.0", "count", "queued", "1s"],
    "job alpha.4.0": ["count", "1 nodes x 1 cores", "alpha.5.0", "signed"],
    "explain alpha.4.0": ["no offer fits", "483 = class 500 + waiting 3 + balance -20", "has 4"],
    "cancel alpha.4.0": ["alpha.4.0 is cancelled"],
    "offer open night": ["opened beta.2.0"],
    "offer close beta.2.0 --reason maintenance": ["closed beta.2.0"],
    "submit job.sh": ["alpha.4.0"],
}


@pytest.mark.parametrize("command", TABLES)
def test_every_command_speaks_to_people(command: str, capfd: Capture) -> None:
    said = run(capfd, *command.split())
    for part in TABLES[command]:
        assert part in said


def test_what_the_daemon_refuses_is_told_as_it_said_it(capfd: Capture) -> None:
    said = run(capfd, "job", "alpha.9.0", code=3)
    assert said == ("error: there is no job alpha.9.0 [job-unknown]\n  to do: see p2pfed jobs\n")
    assert "[result-not-ready]" in run(capfd, "output", "alpha.4.0", code=3)
    assert "[job-class]" in run(capfd, "submit", "--class", "none", "job.sh", code=2)
    assert "[position]" in run(capfd, "job", "alpha", code=2)


def test_an_error_is_json_where_json_was_asked_for(capfd: Capture) -> None:
    assert json.loads(run(capfd, "job", "--json", "alpha.9.0", code=3)) == {
        "code": "job-unknown",
        "what": "there is no job alpha.9.0",
        "where": "",
        "remedy": "see p2pfed jobs",
    }


def test_an_offer_ends_when_it_was_said(door: MemoryDoor, capfd: Capture) -> None:
    run(capfd, "offer", "open", "night", "--nodes", "1", "--for", "1d")
    [request] = door.opened
    assert (request.template, request.nodes) == ("night", 1)
    assert request.until_ms is not None


def test_terms_can_come_from_a_file(door: MemoryDoor, capfd: Capture) -> None:
    terms = {
        "resource_class": "cpu",
        "nodes": 1,
        "cores_per_node": 2,
        "memory_mib_per_node": 512,
        "walltime_max_s": 60,
    }
    (door.folder / "terms.json").write_text(json.dumps(terms))
    run(capfd, "offer", "open", "--terms", "terms.json")
    assert door.opened[0].terms is not None
    assert door.opened[0].terms.cores_per_node == 2


def test_a_submission_carries_inputs_and_overrides(door: MemoryDoor, capfd: Capture) -> None:
    (door.folder / "in.csv").write_text("1\n")
    said = run(capfd, "submit", "-N", "2", "--input", "in.csv", "job.sh", "--fast", "7")
    assert said == "alpha.4.0\n"
    [(submission, files)] = door.submitted
    assert files == {"job.sh": SCRIPT.encode(), "in.csv": b"1\n"}
    assert submission.request.nodes == 2
    assert submission.request.arguments == ("--fast", "7")


def test_output_is_printed_exactly_or_saved(door: MemoryDoor, capfd: Capture) -> None:
    door.view = job_view(result="ready", state="completed", final=True)
    result = door.folder / "result"
    (result / "sub").mkdir()
    (result / "stdout.txt").write_text("größe\n")
    (result / "stderr.txt").write_text("careful\n")
    (result / "sub" / "out.csv").write_text("1\n")
    assert run(capfd, "output", "alpha.4.0") == "größe\n"
    assert run(capfd, "output", "--stderr", "alpha.4.0") == "careful\n"
    assert "sub/out.csv" in run(capfd, "output", "--list", "alpha.4.0")
    run(capfd, "output", "--files", "saved", "alpha.4.0")
    saved = door.folder / "saved"
    assert (saved / "sub" / "out.csv").read_text() == "1\n"
    assert sorted(p.name for p in saved.iterdir()) == ["stderr.txt", "stdout.txt", "sub"]
    assert "[file-exists]" in run(capfd, "output", "--files", "saved", "alpha.4.0", code=2)
    run(capfd, "output", "--files", "saved", "--force", "alpha.4.0")


def test_the_ledger_is_written_whole_and_never_over_another_file(
    door: MemoryDoor, capfd: Capture
) -> None:
    assert "13 B" in run(capfd, "ledger", "export", "all.p2pfed")
    assert (door.folder / "all.p2pfed").read_bytes() == b"p2pfed-ledger"
    assert "[file-exists]" in run(capfd, "ledger", "export", "all.p2pfed", code=2)
    assert run(capfd, "ledger", "export", "-") == "p2pfed-ledger"
    left = [path.name for path in door.folder.iterdir() if path.name.startswith(".")]
    assert left == []


def notice(view: JobView) -> Notice:
    return {
        "kind": "job",
        "at_ms": NOW_MS,
        "level": 0,
        "code": "job",
        "text": "",
        "job": view,
    }


ENDS: dict[str, tuple[dict[str, Any], int]] = {
    "success": ({"state": "completed", "outcome": "completed", "exit_code": 0}, 0),
    "an exit code": ({"state": "failed", "outcome": "failed", "exit_code": 3}, 3),
    "a signal": ({"state": "failed", "outcome": "failed", "signal": 9}, 137),
    "a timeout": ({"state": "failed", "outcome": "timeout"}, 124),
    "a cancellation": ({"state": "cancelled", "outcome": "cancelled"}, 125),
    "too many attempts": ({"state": "failed", "outcome": "node-failure"}, 1),
}


@pytest.mark.parametrize("phrase", ENDS)
def test_waiting_shows_each_change_and_exits_as_the_job(
    phrase: str, door: MemoryDoor, capfd: Capture
) -> None:
    changes, code = ENDS[phrase]

    def go_on() -> None:
        for view in (
            job_view("alpha.3.0", state="failed", final=True, result="none"),
            job_view(state="claimed", host="beta"),
            job_view(state="started", host="beta"),
            job_view(host="beta", final=True, result="waiting", **changes),
            job_view(host="beta", final=True, result="ready", **changes),
        ):
            door.notices.publish(notice(view))

    door.on_watch = go_on
    assert main(["submit", "--wait", "job.sh"]) == code
    said = capfd.readouterr()
    assert said.out == "alpha.4.0\n"
    remark, *lines = said.err.splitlines()
    assert "--partition is ignored" in remark
    lines = [line[len("12:34:56 ") :] for line in lines]
    assert lines[:3] == [
        "queued",
        "claimed at beta",
        "started at beta",
    ]
    assert lines[3].startswith(str(changes["state"]))
    assert "p2pfed output alpha.4.0" in said.err


def test_waiting_goes_on_when_the_daemon_comes_back(
    door: MemoryDoor, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfed.cli.submit._WAIT_S", 0)

    def come_back() -> None:
        door.view = job_view(state="completed", outcome="completed", exit_code=0, final=True)

    def go_away() -> None:
        door.on_watch = come_back
        door.notices.close()

    door.on_watch = go_away
    assert main(["submit", "--wait", "job.sh"]) == 0
    said = [line[len("12:34:56 ") :] for line in capfd.readouterr().err.splitlines()[1:]]
    assert said == [
        "queued",
        "the daemon is away; waiting for it",
        "completed after 1s of waiting",
    ]


def test_completion_is_offered_for_shells() -> None:
    # docs/how-to/shell-completion.md tells how to install what this prints.
    done = subprocess.run(
        [sys.executable, "-m", "p2pfed"],
        env={"_P2PFED_COMPLETE": "bash_source"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "_p2pfed_completion" in done.stdout
