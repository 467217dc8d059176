"""The rules that a person wrote, from a file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from p2pfed.cli.session import read_text
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError


def read_rules(path: Path | None) -> Rules:
    """The rules of a TOML file, or the defaults without one.

    Raises:
        InputError: `file-unreadable`, `rules-syntax`, or as `Rules.from_mapping`.
    """
    return Rules() if path is None else read_changes(path, {})


def read_changes(path: Path, held: Mapping[str, object]) -> Rules:
    """The rules that hold, with what a TOML file says in their place.

    Raises:
        InputError: as `read_rules`.
    """
    try:
        return Rules.from_mapping({**held, **tomllib.loads(read_text(path, "the rules"))})
    except tomllib.TOMLDecodeError as error:
        raise InputError("rules-syntax", f"not valid TOML: {error}", where=str(path)) from None
    except InputError as error:
        error.where = f"{path}: {error.where}" if error.where else str(path)
        raise
