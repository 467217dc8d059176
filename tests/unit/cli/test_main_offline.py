"""The program as a user starts it, without a daemon: `python -m p2pfed ...` in a folder."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = "#!/bin/bash\n#SBATCH -n 4 -t 10 -p long\necho hello\n"


class Program:
    """Runs the program in `folder`; remembers the last answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str, code: int = 0, **extra: str) -> str:
        kept = ("PATH", "HOME", "LANG")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "p2pfed", *arguments],
            cwd=self.folder,
            env=environment | {"TMPDIR": str(self.folder)} | extra,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def make_centre(program: Program, name: str, port: int) -> None:
    program("init", name, "--name", name, "--listen", f"127.0.0.1:{port}")


def test_a_federation_is_founded(program: Program) -> None:
    for port, name in enumerate(("alpha", "beta", "gamma"), start=7001):
        make_centre(program, name, port)
    assert stat.S_IMODE((program.folder / "alpha" / "key.pem").stat().st_mode) == 0o600
    (program.folder / "rules.toml").write_text("round_ms = 1_000\nsettle_ms = 300\n")
    cards = [f"{name}/card.json" for name in ("gamma", "alpha", "beta")]
    program("charter", "new", *cards, "--rules", "rules.toml", "--name", "example")
    copies = []
    for name in ("alpha", "beta", "gamma"):
        copies.append(f"{name}.cbor")
        program("charter", "sign", "charter.cbor", "-o", copies[-1], "--config", name)
    shown = program("charter", "show", "alpha.cbor", code=3)
    assert "missing signatures  beta, gamma" in shown
    program("charter", "merge", *copies, "-o", "whole.cbor")
    found = json.loads(program("charter", "show", "whole.cbor", "--json"))
    assert (found["name"], found["complete"]) == ("example", True)
    assert [f["centre"] for f in found["founders"]] == ["alpha", "beta", "gamma"]
    assert all(f["signed"] for f in found["founders"])
    assert (found["rules"]["round_ms"], found["rules"]["settle_ms"]) == (1000, 300)


def test_the_card_is_what_the_options_say(program: Program) -> None:
    program(
        *("init", "x", "--name", "alpha", "--listen", "0.0.0.0:7001"),
        *("--advertise", "alpha.example.org:7001", "--nodes", "4", "--cores-per-node", "8"),
        *("--memory-mib-per-node", "1024"),
    )
    card = json.loads((program.folder / "x" / "card.json").read_text())
    assert card["address"] == "alpha.example.org:7001"
    assert card["credit_line"] == 4 * 8 * 21_600


def test_a_key_with_a_passphrase_signs_when_it_is_given(program: Program) -> None:
    (program.folder / "secret").write_text("correct horse\n")
    listen = ("--listen", "127.0.0.1:7001")
    program("init", "alpha", "--name", "alpha", *listen, "--passphrase-file", "secret")
    make_centre(program, "beta", 7002)
    assert "ENCRYPTED" in (program.folder / "alpha" / "key.pem").read_text()
    program("charter", "new", "alpha/card.json", "beta/card.json")
    program("charter", "sign", "charter.cbor", P2PFED_CONFIG="alpha")
    (program.folder / "secret").write_text("wrong\n")
    said = program("charter", "sign", "charter.cbor", code=2, P2PFED_CONFIG="alpha")
    assert "[key-passphrase]" in said


def test_a_dry_run_shows_the_request_and_the_remarks(program: Program) -> None:
    (program.folder / "job.sh").write_text(SCRIPT)
    (program.folder / "data" / "deep").mkdir(parents=True)
    (program.folder / "data" / "deep" / "a.csv").write_text("1\n")
    (program.folder / "data" / "run").write_text("#!/bin/sh\n")
    (program.folder / "data" / "run").chmod(0o755)
    said = program(
        *("submit", "--dry-run", "-N", "2", "--mem=2G", "--input", "data", "--env", "A=1"),
        *("--fetch", "*.csv", "--class", "urgent", "--allow", "beta", "-o", "%x-%j.out"),
        *("job.sh", "--steps", "5"),
    )
    found = json.loads(said)
    request = found["request"]
    assert (request["nodes"], request["cores_per_node"], request["walltime_s"]) == (2, 2, 600)
    assert (request["memory_mib_per_node"], request["work_class"]) == (2048, "urgent")
    assert request["arguments"] == ["--steps", "5"]
    assert (request["environment"], request["stdout"]) == ({"A": "1"}, "job.sh-%j.out")
    assert (found["inputs"], request["executable"]) == (
        ["data/run", "data/deep/a.csv"],
        ["data/run"],
    )
    assert found["remarks"] == ["job.sh, line 2: --partition is ignored: the host decides"]


BAD_CALLS = {
    "no such command": (["nonsense"], 2, "No such command"),
    "no configuration": (["status"], 2, "[config-file-missing]"),
    "no daemon": (["status", "--socket", "none.sock"], 6, "[daemon-unreachable]"),
    "a name that is none": (
        ["init", "x", "--name", "Alpha", "--listen", "h:1"],
        2,
        "[centre-name]",
    ),
    "an address that is none": (
        ["init", "x", "--name", "a", "--listen", "7001"],
        2,
        "[config-address]",
    ),
    "an address nobody can dial": (
        ["init", "x", "--name", "a", "--listen", "0.0.0.0:7001"],
        2,
        "[init-address]",
    ),
    "a folder that is a centre": (
        ["init", "alpha", "--name", "a", "--listen", "h:1"],
        2,
        "[file-exists]",
    ),
    "a card that is none": (["charter", "new", "bad.toml"], 2, "[card"),
    "a card that is missing": (["charter", "new", "none.json"], 2, "[file-unreadable]"),
    "rules that are none": (
        ["charter", "new", "alpha/card.json", "--rules", "bad.toml"],
        2,
        "[rules-syntax]",
    ),
    "a charter that is none": (["charter", "show", "bad.toml"], 2, "bad.toml"),
    "a script that is missing": (["submit", "none.sh"], 2, "[file-unreadable]"),
    "a script that is a folder": (["submit", "alpha"], 2, "[file-unreadable]"),
    "a script without a shebang": (["submit", "bad.toml"], 2, "[script-shebang]"),
    "an impossible request": (["submit", "-N", "0", "job.sh"], 2, "--nodes"),
    "an input that is missing": (["submit", "--input", "none", "job.sh"], 2, "[input-file]"),
    "a variable that is none": (["submit", "--env", "1=2", "job.sh"], 2, "[script-option-value]"),
    "an offer of nothing": (["offer", "open"], 2, "name a template"),
    "a ledger that is missing": (["ledger", "verify", "none"], 2, "[file-unreadable]"),
}


def test_a_bad_call_is_answered_in_a_few_clear_lines(program: Program) -> None:
    make_centre(program, "alpha", 7001)
    (program.folder / "bad.toml").write_text("this is not = = TOML\n")
    (program.folder / "job.sh").write_text(SCRIPT)
    for phrase, (arguments, code, expected) in BAD_CALLS.items():
        said = program(*arguments, code=code)
        assert expected in said, (phrase, said)
        assert len(said.splitlines()) <= 6, (phrase, said)


def test_an_error_nobody_foresaw_is_saved_and_told_in_one_line(program: Program) -> None:
    (program.folder / "alpha").mkdir()
    code = (
        "import sys; from p2pfed.cli import main, session;"
        "session.Session.client = lambda self: 1 / 0;"
        "sys.exit(main.main(['status']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"TMPDIR": str(program.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "[internal-error]" in done.stderr
    assert "Traceback" not in done.stderr
    [trace] = program.folder.glob("p2pfed-trace-*.txt")
    assert "ZeroDivisionError" in trace.read_text()
