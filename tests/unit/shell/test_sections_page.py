"""The reference page of `centre.toml` lists what the parser takes, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2pfed.shell.schema import Key, keys_of
from p2pfed.shell.sections import LISTS, SECTIONS

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "centre-toml.md"
HEADINGS = {name: f"[[{name}]]" if name in LISTS else f"[{name}]" for name in SECTIONS if name}


def row(key: Key) -> str:
    """The page's row for a declared key."""
    default = "required" if key.required else f"`{key.kind.dump(key.default)}`"
    if key.default is None and not key.required and key.name == "min_balance":
        default = "as the rules say"
    return f"| `{key.name}` | {key.kind.name.replace('|', '')} | {default} | {key.about}. |"


@pytest.mark.parametrize("table", SECTIONS, ids=lambda name: name or "top")
def test_each_table_of_the_page_has_the_rows_of_its_section(table: str) -> None:
    heading = f"## `{HEADINGS[table]}`" if table else "## Before the first table"
    part = PAGE.read_text().partition(f"{heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in part.splitlines() if re.match(r"\| `", line)]
    assert rows == [row(key) for key in keys_of(SECTIONS[table])]
