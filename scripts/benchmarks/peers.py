"""Peers of benchmarks: other people's programs, each in a venv that is thrown away afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def make_peer(folder: Path, package: str) -> Path | None:
    """The Python of a fresh venv with a package of the index; None if it can't be installed."""
    python = folder / "bin" / "python"
    steps = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", package],
    )
    for step in steps:
        if subprocess.run(step, capture_output=True, check=False).returncode:
            return None
    return python


def run_peer(
    python: Path, script: str, words: Sequence[str] = (), *, given: str = ""
) -> dict[str, float] | None:
    """What a script beside this one answers, as JSON on its last line; None if it fails.

    Args:
        python: of the peer's venv.
        script: its file name.
        words: its arguments.
        given: its standard input.
    """
    path = Path(__file__).with_name(script)
    command = [str(python), "-W", "ignore", str(path), *words]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-400:])
        return None
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer
