"""Tables, times and sizes for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 1000
"""Columns when nobody watches: nothing is wrapped or cut."""


def console(*, stderr: bool = False) -> Console:
    """A console that cuts nothing when its output goes into a file or a pipe."""
    found = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not found.is_terminal:
        found.width = PIPE_WIDTH
    return found


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str, title: str = ""
) -> None:
    """Prints a table, or `empty`; columns whose name ends in `>` are flush right."""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        right = column.endswith(">")
        table.add_column(
            Text(column.removesuffix(">")), justify="right" if right else "left", overflow="fold"
        )
    count = 0
    for row in rows:
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
        count += 1
    console().print(table if count else Text(empty))


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Prints names and values in two columns, leaving out what is None."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields:
        if value is not None:
            table.add_row(Text(name), Text(str(value)))
    console().print(table)


def show_duration(ms: int | None) -> str:
    """`350ms`, `12s`, `3m 05s`, `2h 07m`, `4d 03h`; `-` for None. Rounded down."""
    if ms is None:
        return "-"
    if ms < 0:
        return f"-{show_duration(-ms)}"
    seconds = ms // 1000
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if ms < 1000:
        return f"{ms}ms"
    if minutes == 0:
        return f"{seconds}s"
    if hours == 0:
        return f"{minutes}m {seconds % 60:02}s"
    if days == 0:
        return f"{hours}h {minutes % 60:02}m"
    return f"{days}d {hours % 24:02}h"


def show_time(ms: int | None) -> str:
    """Local date and time to the second; `-` for None."""
    return "-" if ms is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms // 1000))


def show_bytes(count: int) -> str:
    """`512 B`, `1.5 KiB`, `20.0 MiB`."""
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024 or unit == "TiB":
            break
    return f"{size:.1f} {unit}"


def show_mib(mib: int) -> str:
    """A size given in MiB."""
    return show_bytes(mib << 20)


def show_balance(ppm: int) -> str:
    """`+25.0000 %` for 250 000 millionths."""
    return f"{ppm / 10_000:+.4f} %"


def show_list(words: Iterable[str], *, empty: str = "-") -> str:
    """Words joined by commas."""
    return ", ".join(words) or empty


def short(digest: str | None) -> str:
    """The first twelve signs of a digest, enough for people to compare."""
    return "-" if digest is None else digest[:12]
