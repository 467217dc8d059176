"""The rules that a person wrote, from a file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from p2pfed.cli.session import read_text
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError


def read_rules(path: Path | None) -> Rules:
    """The rules of a TOML file, or the defaults without one.

    Raises:
        InputError: `file-unreadable`, `rules-syntax`, or as `Rules.from_mapping`.
    """
    if path is None:
        return Rules()
    try:
        return Rules.from_mapping(tomllib.loads(read_text(path, "the rules")))
    except tomllib.TOMLDecodeError as error:
        raise InputError("rules-syntax", f"not valid TOML: {error}", where=str(path)) from None
    except InputError as error:
        error.where = f"{path}: {error.where}" if error.where else str(path)
        raise
