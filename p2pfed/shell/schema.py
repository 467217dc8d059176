"""Strict reading of TOML into frozen classes: the class is the schema.

A section of a configuration file is a frozen dataclass whose fields are declared with `key(about,
kind)`. The same declaration reads the file, writes the commented template, and is what the
reference page is checked against, so the three can't drift apart. Nothing is guessed: an unknown
key, a wrong type and a wrong unit each stop the reader, with the line, the key and the remedy.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from p2pfed.core.ids import CENTRE_NAME, CentreName
from p2pfed.errors import InputError
from p2pfed.shell.windows import parse_window

T = TypeVar("T")

_WORD = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}\Z")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?\Z")
_SIZE = re.compile(r"(\d+)\s*([kmgt])i?b?\Z", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9._-]{1,200})):(\d{1,5})\Z")
_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.-]+)\s*\]\]?")
_UNIT_S: Final = (86_400, 3600, 60, 1)
_SIZE_MIB: Final = {"m": 1, "g": 1 << 10, "t": 1 << 20}


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """The valid values of a key.

    Attributes:
        name: what the reference page and the messages call it.
        parse: the Python value of a TOML value; raises `InputError` without a place.
        dump: the value as TOML text, for the template.
    """

    name: str
    parse: Callable[[object], T]
    dump: Callable[[T], str]


@dataclass(frozen=True, slots=True)
class Key:
    """One declared key of a section, as the reader, the template and the docs see it."""

    attribute: str
    name: str
    about: str
    kind: Kind[Any]
    required: bool
    default: Any


def key(about: str, kind: Kind[T], *, toml: str = "", **options: T) -> T:
    """Declares a key of a section: its one-line description, kind and perhaps `default=`.

    Args:
        toml: the key's name in the file where it is not the attribute's.
    """
    metadata = {"about": about, "kind": kind, "toml": toml}
    if "default" in options:
        return dataclasses.field(default=options["default"], metadata=metadata)
    return cast(T, dataclasses.field(metadata=metadata))


def keys_of(section: type[Any]) -> tuple[Key, ...]:
    """The declared keys of a section, in their order in the template."""
    return tuple(
        Key(
            attribute=field.name,
            name=field.metadata["toml"] or field.name,
            about=field.metadata["about"],
            kind=field.metadata["kind"],
            required=field.default is MISSING,
            default=None if field.default is MISSING else field.default,
        )
        for field in dataclasses.fields(section)
        if "kind" in field.metadata
    )


@dataclass(frozen=True, slots=True)
class Source:
    """The file being read, to tell its reader where something is wrong."""

    path: Path
    text: str

    def place(self, table: str, index: int = 0, name: str = "") -> str:
        """`centre.toml:12: executor.nodes`; without the line if the text does not show it."""
        dotted = f"{table}.{name}" if table and name else table or name
        line = self._line(table, index, name)
        return f"{self.path}:{line}: {dotted}" if line else f"{self.path}: {dotted}"

    def _line(self, table: str, index: int, name: str) -> int:
        if name and not table:
            as_table = self._line(name, 0, "")
            if as_table:
                return as_table
        assigns = re.compile(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=")
        current, seen = "", 0
        for number, line in enumerate(self.text.splitlines(), start=1):
            header = _HEADER.match(line)
            if header:
                seen = seen + 1 if header[2] == current and header[1] == "[[" else 0
                current = header[2]
            if (current, seen) != (table, index):
                continue
            if header if not name else assigns.match(line):
                return number
        return 0


def read_section(
    section: type[T],
    items: Mapping[str, object],
    source: Source,
    *,
    table: str = "",
    index: int = 0,
    others: tuple[str, ...] = (),
) -> T:
    """The section that `items` states, paths resolved against the file's folder.

    Args:
        others: names that stand beside the section's own keys and are read elsewhere.

    Raises:
        InputError: `config-key-unknown`, `config-key-missing`, or what a key's kind raises.
    """
    keys = keys_of(section)
    known = [k.name for k in keys] + list(others)
    for name in items:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            guess = f", did you mean {close[0]!r}?" if close else ""
            raise InputError(
                "config-key-unknown",
                f"unknown key {name!r}{guess}",
                where=source.place(table, index, name),
                remedy=f"known here: {', '.join(sorted(known))}",
            )
    values: dict[str, object] = {}
    for k in keys:
        if k.name not in items:
            if k.required:
                raise InputError(
                    "config-key-missing",
                    f"the key {k.name!r} is missing",
                    where=source.place(table, index),
                    remedy=f"add {k.name} = ... ({k.about[0].lower()}{k.about[1:]})",
                )
            value = k.default
        else:
            try:
                value = k.kind.parse(items[k.name])
            except InputError as error:
                error.where = source.place(table, index, k.name)
                raise
        values[k.attribute] = source.path.parent / value if isinstance(value, Path) else value
    return section(**values)


# Kinds


def _wrong_type(value: object, wanted: str) -> InputError:
    names = {bool: "true or false", int: "a number", float: "a number with a point", str: "a text"}
    found = names.get(type(value), "a list" if isinstance(value, list) else "a table")
    shown = f" ({value!r})" if isinstance(value, (bool, int, float, str)) else ""
    return InputError("config-type", f"expected {wanted}, found {found}{shown}")


def _bad(value: object, wanted: str, remedy: str = "") -> InputError:
    return InputError("config-value", f"{value!r} is not {wanted}", remedy=remedy)


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def text(name: str, valid: Callable[[str], object], remedy: str = "") -> Kind[str]:
    """Texts that `valid` accepts."""

    def parse(value: object) -> str:
        if type(value) is not str:
            raise _wrong_type(value, name)
        if not value.isprintable() or not valid(value):
            raise _bad(value, name, remedy)
        return value

    return Kind(name, parse, _quote)


def integer(name: str, low: int, high: int) -> Kind[int]:
    """Integers from `low` to `high`, both included; never with a unit."""
    name = f"{name} from {low} to {high}"

    def parse(value: object) -> int:
        if type(value) is str and re.match(r"\s*\d", value):
            size = _SIZE.match(value.strip())
            scale = _SIZE_MIB.get(size[2].lower()) if size and "MiB" in name else None
            raise InputError(
                "config-unit",
                f"expected {name}, found {value!r}",
                remedy=f"write {int(size[1]) * scale}, without a unit"
                if size and scale
                else "write the number without quotes and without a unit",
            )
        if type(value) is not int:
            raise _wrong_type(value, name)
        if not low <= value <= high:
            raise InputError("config-value", f"{value} is out of range: {name}")
        return value

    return Kind(name, parse, str)


def list_of(kind: Kind[str]) -> Kind[tuple[str, ...]]:
    """Lists without repetition; kept in ascending order, as the records demand it."""

    def parse(value: object) -> tuple[str, ...]:
        if type(value) is not list:
            raise _wrong_type(value, f"a list, each item {kind.name}")
        found = tuple(sorted(kind.parse(item) for item in value))
        if len(set(found)) != len(found):
            raise InputError("config-value", f"{value!r} names something twice")
        return found

    return Kind(
        f"list, each item {kind.name}",
        parse,
        lambda value: f"[{', '.join(_quote(item) for item in value)}]",
    )


def _parse_flag(value: object) -> bool:
    if type(value) is not bool:
        raise _wrong_type(value, "true or false")
    return value


def parse_duration_s(value: object) -> int:
    """The seconds of `3600`, `"12h"`, `"90m"`, `"1d12h30m"`.

    Raises:
        InputError: `config-type`, `config-unit`.
    """
    if type(value) is int and value > 0:
        return value
    if type(value) is not str:
        raise _wrong_type(value, 'a duration such as "12h"')
    parts = _DURATION.match(value)
    if not value or not parts or not any(parts.groups()):
        raise InputError(
            "config-unit",
            f"{value!r} is not a duration",
            remedy='write "12h", "1d12h", "90m", or a number of seconds',
        )
    seconds = sum(int(n) * unit for n, unit in zip(parts.groups("0"), _UNIT_S, strict=True))
    if seconds == 0:
        raise _bad(value, "a duration of at least a second")
    return seconds


def format_duration(seconds: int) -> str:
    """`12h`, `1d12h30m`: what `parse_duration_s` reads back."""
    shown = ""
    for unit, letter in zip(_UNIT_S, "dhms", strict=True):
        count, seconds = divmod(seconds, unit)
        shown += f"{count}{letter}" if count else ""
    return shown or "0s"


def split_address(value: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[ipv6]:port`.

    Raises:
        InputError: `config-address`.
    """
    found = _ADDRESS.match(value)
    port = int(found[3]) if found else 0
    if not found or not 1 <= port <= 65535:
        raise InputError(
            "config-address",
            f"{value!r} is not an address",
            remedy="write host:port or [ipv6]:port, with a port from 1 to 65535",
        )
    return found[1] or found[2], port


def _parse_address(value: object) -> str:
    if type(value) is not str:
        raise _wrong_type(value, "host:port")
    split_address(value)
    return value


def _parse_optional_address(value: object) -> str:
    return "" if value == "" else _parse_address(value)


def _parse_addresses(value: object) -> tuple[tuple[CentreName, str], ...]:
    if not isinstance(value, dict):
        raise _wrong_type(value, "a table of centre = address")
    for name in value:
        if not CENTRE_NAME.match(name):
            raise _bad(name, "a centre name")
    return tuple((CentreName(name), _parse_address(value[name])) for name in sorted(value))


def _dump_addresses(value: tuple[tuple[CentreName, str], ...]) -> str:
    return "{" + ", ".join(f"{name} = {_quote(address)}" for name, address in value) + "}"


def _parse_path(value: object) -> Path:
    if type(value) is not str:
        raise _wrong_type(value, "a path")
    if not value or "\0" in value:
        raise _bad(value, "a path")
    return Path(value).expanduser()


def _parse_optional_path(value: object) -> Path | None:
    return None if value == "" else _parse_path(value)


def _parse_window(value: object) -> str:
    if type(value) is not str:
        raise _wrong_type(value, "a time window")
    parse_window(value)
    return value


def _is_zone(value: str) -> bool:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


CENTRE: Final = text(
    "a centre name",
    CENTRE_NAME.match,
    "use a lower-case letter, then up to 30 lower-case letters, digits and hyphens",
)
WORD: Final = text(
    "a word", _WORD.match, "use lower-case letters, digits and . _ + -, at most 64 of them"
)
LINE: Final = text("a text", lambda value: True)
FLAG: Final = Kind("true or false", _parse_flag, lambda value: "true" if value else "false")
DURATION: Final = Kind(
    'a duration ("12h", "1d12h" or seconds)',
    parse_duration_s,
    lambda value: _quote(format_duration(value)),
)
WINDOW: Final = Kind('a time window such as "Mon-Fri 18:00-08:00"', _parse_window, _quote)
ZONE: Final = text(
    "a time zone such as Europe/Berlin", _is_zone, "see: ls /usr/share/zoneinfo; UTC is one too"
)
ADDRESS: Final = Kind("host:port", _parse_address, _quote)
OPTIONAL_ADDRESS: Final = Kind("host:port or empty", _parse_optional_address, _quote)
ADDRESSES: Final = Kind("a table of centre = host:port", _parse_addresses, _dump_addresses)
PATH: Final = Kind("a path", _parse_path, lambda value: _quote(str(value)))
OPTIONAL_PATH: Final = Kind(
    "a path or empty", _parse_optional_path, lambda value: _quote(str(value or ""))
)


def one_of(*words: str) -> Kind[str]:
    """One of these texts."""
    return text(" or ".join(_quote(word) for word in words), lambda value: value in words)
