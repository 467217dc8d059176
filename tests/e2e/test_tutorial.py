"""The tutorial works: its commands are run as they stand, and print what it says they print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from p2pfed.errors import ControlError
from p2pfed.shell.client import Client
from tests.e2e.federation import free_port
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "tutorial" / "first-federation.md"
PORTS = ("7411", "7412", "7413")
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ID = re.compile(r"\b(?:alpha|beta|gamma)\.\d+\.0\b")
_MASKS = (
    (re.compile(r"[0-9a-f]{12,}"), "HEX"),
    (re.compile(r"\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b\d+(?:ms|s|m|h|d)\b(?: \d\d[smh]\b)?"), "DURATION"),
    (re.compile(r"[+-]?\d[\d.,]*"), "N"),
    (re.compile(r"─+"), "LINE"),
    (re.compile(r"\b(?:to|from) it\b"), "LINKED"),
    (re.compile(r"\s+"), " "),
)
_VARIES = re.compile(r"TIME (claimed|accepted|leased|started|ended) at")
"""Moments that a watcher may be too late for."""
EXACT = ("78498 primes", "complete:", "still missing:")
"""Lines that are compared as they stand."""


def masked(line: str) -> str:
    line = line.strip()
    if line.startswith(EXACT):
        return line
    for pattern, word in _MASKS:
        line = pattern.sub(word, line)
    return line


def steps() -> Iterator[tuple[str, list[str]]]:
    """Each command of the page and the lines below it."""
    command, below = "", list[str]()
    for block in _BLOCK.findall(PAGE.read_text()):
        inside = False
        for line in block.splitlines():
            if inside:
                command += f"\n{line}"
                inside = line != "END"
            elif line.startswith("$ "):
                if command:
                    yield command, below
                command, below = line[2:], []
                inside = command.endswith("<<END")
            else:
                below.append(line)
    yield command, below


class Reader:
    """Somebody who follows the tutorial in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.own = {port: str(free_port()) for port in PORTS}
        folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment = {"PATH": ":".join(folders), "TMPDIR": str(folder), "COLUMNS": "200"}

    def follow(self, command: str, below: list[str]) -> None:
        typed = command
        for said, mine in self.own.items():
            typed = re.sub(rf"\b{re.escape(said)}(?![\d.])", mine, typed)
        if typed.endswith(" &"):
            self.daemons.append(self._start("exec " + typed.removesuffix(" &")))
            return
        if typed.startswith("kill "):
            self.stop()
            return
        if typed.startswith("p2pfed peers"):
            wait_until(self._linked, "links between the daemons")
        if typed.startswith("p2pfed explain"):
            wait_until(lambda: "score" in self._run(typed), "the first round that sees the job")
        if typed.startswith("p2pfed offers"):
            wait_until(lambda: self._run(typed).count(" open ") == 2, "both offers")
        printed = self._run(typed)
        stated = next(iter(_ID.findall(below[0])), None) if below else None
        if stated is not None and not command.startswith("p2pfed explain"):
            found = _ID.search(printed)
            assert found is not None, printed
            self.own[stated] = found[0]
        lines = [masked(line) for line in printed.splitlines()]
        for line in map(masked, below):
            if line not in ("", "...") and not _VARIES.match(line):
                assert line in lines, f"{command}: no {line!r} in\n{printed}"

    def stop(self) -> None:
        for daemon in self.daemons:
            daemon.terminate()
        for daemon in self.daemons:
            assert daemon.wait(30) == 0
        self.daemons = []

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, (command, done.stdout)
        return done.stdout

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["bash", "-c", command], cwd=self.folder, env=self.environment)

    def _linked(self) -> bool:
        for centre in ("alpha", "beta", "gamma"):
            try:
                with Client(self.folder / centre / "run" / "control.sock") as client:
                    if any(peer["offset_ms"] is None for peer in client.peers()):
                        return False
            except ControlError:
                return False
        return True


@pytest.fixture
def reader() -> Iterator[Reader]:
    with tempfile.TemporaryDirectory(prefix="p2t-") as path:
        shutil.copy(REPOSITORY / "examples" / "primes.sh", path)
        found = Reader(Path(path))
        yield found
        for daemon in found.daemons:
            with suppress(ProcessLookupError):
                daemon.kill()
            daemon.wait()


def test_who_follows_the_tutorial_sees_what_it_says(reader: Reader) -> None:
    followed = list(steps())
    assert len(followed) > 20
    for command, below in followed:
        reader.follow(command, below)
    assert reader.daemons == []
