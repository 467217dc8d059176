"""The shipped service unit starts a command that exists and leaves jobs alone when it stops."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

from p2pfed.cli.main import main

UNIT = Path(__file__).parents[3] / "config" / "p2pfed.service"


def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    unit.read_string(UNIT.read_text())
    return unit["Service"]


def test_the_command_line_is_one_that_the_program_has() -> None:
    _, *arguments = shlex.split(service()["ExecStart"])
    assert main([*arguments, "--help"]) == 0
    assert arguments[0] == "daemon" and arguments[1] == "--config"


def test_stopping_the_daemon_leaves_guests_jobs_running() -> None:
    assert service()["KillMode"] == "process"


def test_a_wrong_configuration_is_not_tried_again() -> None:
    assert service()["RestartPreventExitStatus"] == "2"
