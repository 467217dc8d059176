"""Why a template offers nothing, in words."""

from __future__ import annotations

from typing import Any

from p2pfed.shell.capacity.plan import Books, plan
from p2pfed.shell.capacity.reasons import why_nothing
from tests.unit.shell.capacity.worlds import NOW_MS, SITE, node, seen, template, wish


def why(*nodes: Any, wishes: Any = (), **changes: Any) -> str:
    mine = template(**changes)
    parts = plan([mine], seen(*nodes, wishes=wishes), Books(), NOW_MS, SITE)
    return why_nothing(mine, parts, len(wishes), NOW_MS, SITE)


def test_nothing_idle_is_told_with_what_was_seen() -> None:
    assert "0 nodes of its shape are idle" in why(node(1, idle=0))
    assert "1 local jobs wait for capacity" in why(node(1), wishes=(wish(),))


def test_what_is_kept_free_is_named() -> None:
    assert "1 nodes are kept free" in why(node(1), keep_free=1)
    assert "fewer than 2 nodes are wholly idle" in why(node(1), keep_free=2)


def test_capacity_that_must_first_show_that_it_stays_is_named() -> None:
    assert why(node(1)) == "1 nodes are free for it, and it waits whether they stay so"


def test_closed_windows_are_named() -> None:
    assert "windows are closed" in why(node(1), windows=("Sun 00:00-01:00",))
