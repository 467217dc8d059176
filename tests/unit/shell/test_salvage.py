"""The control socket of a `centre.toml` that can't be read as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfed.shell.salvage import salvaged_socket

RIGHT = 'name = "alpha"\n[control]\nsocket = "/run/p2pfed/alpha.sock"\n'

TEXTS = {
    "is empty": ("", "run/control.sock"),
    "is TOML with a key that nobody knows": ("nmae = 1\n" + RIGHT, "/run/p2pfed/alpha.sock"),
    "is no TOML further up": ("name = \n" + RIGHT, "/run/p2pfed/alpha.sock"),
    "is no TOML further down": (RIGHT + "[[offer\n", "/run/p2pfed/alpha.sock"),
    "is no TOML, and comments its header": (
        "[control]  # the door\n  socket = 'door.sock' # here\n[[offer\n",
        "door.sock",
    ),
    "is no TOML, and names another socket": ('[other]\nsocket = "x"\n[offer\n', "run/control.sock"),
    "is no TOML, and has the socket in a list": (
        '[[control]]\nsocket = "x"\n[offer\n',
        "run/control.sock",
    ),
    "names a number": ("[control]\nsocket = 7\n", "run/control.sock"),
    "has control as a list": ("control = [1]\n", "run/control.sock"),
    "is not text": ("[control]\nsocket = 'a.sock'\n\udcff\n", "a.sock"),
}


@pytest.mark.parametrize("phrase", TEXTS)
def test_the_socket_of_a_file_that(phrase: str, tmp_path: Path) -> None:
    text, socket = TEXTS[phrase]
    path = tmp_path / "centre.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert salvaged_socket(path) == salvaged_socket(tmp_path) == tmp_path / socket


def test_a_folder_without_the_file_has_the_usual_socket(tmp_path: Path) -> None:
    assert salvaged_socket(tmp_path) == tmp_path / "run" / "control.sock"
    assert salvaged_socket(tmp_path / "centre.toml") == tmp_path / "run" / "control.sock"
