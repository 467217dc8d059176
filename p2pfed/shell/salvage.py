"""Where the daemon's control socket is, when `centre.toml` can't be read as it stands.

Theory of operation. A running daemon goes on with the configuration that it last found right, so
its door is open whatever has become of the file since. A centre's people must reach that door with
a file that they are in the middle of changing, or have just spoilt: withdrawing always works
(design invariant 9). So the socket is taken from as much of the file as can be understood: from its
`[control]` table if it is TOML at all, else from the line below that header, else the default.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from p2pfed.shell.sections import ControlConfig

_TABLE = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?\Z")
_SOCKET = re.compile(r"""\s*socket\s*=\s*(?:"([^"\\]+)"|'([^']+)')""")


def salvaged_socket(path: Path) -> Path:
    """The most likely place of the control socket; absolute.

    Args:
        path: `centre.toml`, or the folder that it lies in; neither needs to exist.
    """
    path = Path(os.path.abspath(path))
    if path.is_dir():
        path /= "centre.toml"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return path.parent / (_stated(text) or ControlConfig().socket)


def _stated(text: str) -> str | None:
    """The socket that a text names, whole TOML or not."""
    try:
        control = tomllib.loads(text).get("control")
    except tomllib.TOMLDecodeError:
        return _on_its_line(text)
    named = control.get("socket") if isinstance(control, dict) else None
    return named if isinstance(named, str) and named else None


def _on_its_line(text: str) -> str | None:
    table = ""
    for line in text.splitlines():
        if header := _TABLE.match(line):
            table = header[1]
        elif table == "control" and (found := _SOCKET.match(line)):
            return found[1] or found[2]
    return None
