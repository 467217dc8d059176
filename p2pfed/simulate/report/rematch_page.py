"""The page of a replay under proposed rules: who would have waited less or more, with plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from p2pfed.draw.html import figure, wrap
from p2pfed.draw.svg import (
    INK,
    PALETTE,
    Linear,
    Panel,
    duration,
    duration_ticks,
    element,
    heading,
    label,
    legend,
    picture,
    round_ticks,
    titled,
)
from p2pfed.simulate.history import History
from p2pfed.simulate.rematch import CentreChange

_WIDTH = 900
_HEAD = 70
_LEFT = 150
_BAR = 14
_GAP = 18
_NAMES = ("rules that hold", "proposed rules")


def render_rematch(
    title: str, history: History, changed: Sequence[str], centres: Sequence[CentreChange]
) -> str:
    """The page; equal results give equal bytes."""
    rules = "".join(f"<li>{escape(line)}</li>" for line in changed) or "<li>nothing</li>"
    lead = (
        f"{len(history.jobs)} jobs of this federation that ran, matched again by the same function."
        f" {history.left_out} jobs that never ran are left out."
    )
    parts = [
        "<h1>What would it have changed?</h1>",
        f'<p class="lead">{escape(title)}: {lead}</p>',
        f"<h2>Proposed</h2><ul>{rules}</ul>",
        figure(draw_waits(centres), "waits"),
        figure(draw_balances(centres), "balances"),
        _table(centres),
    ]
    return wrap(f"What would it have changed? {title}", "".join(parts))


def draw_waits(centres: Sequence[CentreChange]) -> str:
    """Mean wait of each centre's jobs under both rules."""
    pairs = [(c.centre, (c.wait_held_ms / 1000, c.wait_proposed_ms / 1000)) for c in centres]
    high = max((max(values) for _, values in pairs), default=0.0) or 1.0
    x = Linear(0, high * 1.02, _LEFT, _WIDTH - 110)
    panel = _panel(x, len(pairs), duration_ticks(high))
    text = heading("Mean waiting time of each centre's jobs", "shorter is better")
    return _bars(pairs, panel, x, text, duration)


def draw_balances(centres: Sequence[CentreChange]) -> str:
    """Balance of each centre at the end under both rules, in percent."""
    pairs = [(c.centre, (c.balance_held / 10_000, c.balance_proposed / 10_000)) for c in centres]
    x = Linear(-100, 100, _LEFT, _WIDTH - 110)
    ticks = [(value, f"{value:.0f} %") for value in round_ticks(-100, 100)]
    text = heading("Balance of each centre at the end", "above zero: it has given more")
    return _bars(pairs, _panel(x, len(pairs), ticks), x, text, lambda value: f"{value:+.1f} %")


def _panel(x: Linear, rows: int, ticks: Sequence[tuple[float, str]]) -> Panel:
    height = _HEAD + 34 + rows * (2 * _BAR + _GAP) + 30
    y = Linear(0, 1, height - 34, _HEAD + 24)
    return Panel(x=x, y=y, x_ticks=ticks, y_ticks=())


def _bars(
    pairs: Sequence[tuple[str, tuple[float, float]]],
    panel: Panel,
    x: Linear,
    text: str,
    words: Callable[[float], str],
) -> str:
    marks = []
    at = _HEAD + 34.0
    for name, values in pairs:
        marks.append(
            label(_LEFT - 12, at + _BAR + 4, name, size=14, fill=INK, anchor="end", weight="500")
        )
        for index, value in enumerate(values):
            left, right = sorted((x(0), x(value)))
            top = at + index * _BAR
            bar = element(
                "rect",
                x=left,
                y=top,
                width=max(1.0, right - left),
                height=_BAR - 2,
                fill=PALETTE[index],
                rx=1.5,
            )
            marks.append(titled(bar, f"{name}, {_NAMES[index]}: {words(value)}"))
            marks.append(label(right + 6, top + _BAR - 3, words(value), size=11))
        at += 2 * _BAR + _GAP
    entries = [(name, PALETTE[index]) for index, name in enumerate(_NAMES)]
    body = text + legend(_LEFT, _HEAD + 12, entries) + panel.draw("".join(marks))
    return picture(_WIDTH, at + 30, body, "By centre, under the rules that hold and the proposed")


def _table(centres: Sequence[CentreChange]) -> str:
    head = (
        "centre", "jobs", "mean wait", "proposed", "less", "more", "not started", "proposed",
        "balance", "proposed",
    )  # fmt: skip
    rows = [
        (
            c.centre,
            c.jobs,
            duration(c.wait_held_ms / 1000),
            duration(c.wait_proposed_ms / 1000),
            c.less,
            c.more,
            c.waiting_held,
            c.waiting_proposed,
            f"{c.balance_held / 10_000:+.1f} %",
            f"{c.balance_proposed / 10_000:+.1f} %",
        )
        for c in centres
    ]
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"
