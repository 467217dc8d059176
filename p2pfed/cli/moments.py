"""Times as people write them on a command line, and as they read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click

from p2pfed.core.units import DAY_MS

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_MS = re.compile(r"\d{9,15}\Z")


def first_moment(_ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A callback for options: ms since 1970 of a time; a date alone is its first moment."""
    return None if value is None else _parse(value, param)


def last_moment(_ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """As `first_moment`, but a date alone is its last moment."""
    if value is None:
        return None
    found = _parse(value, param)
    return found + DAY_MS - 1 if _DATE.match(value) else found


def _parse(text: str, param: click.Parameter) -> int:
    if _MS.match(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        what = f"{text!r} is not a time such as 2026-11-25 or 2026-11-25T12:00:00"
        raise click.BadParameter(what, param=param) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def show_moment(ms: int) -> str:
    """`2026-11-25 12:00:00` in UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
