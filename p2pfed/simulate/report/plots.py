"""The pictures of the report, each a pure function of the report's values to one SVG.

One colour means one world everywhere: rust alone, blue federated, grey and dashed the ideal; guests
are a lighter blue. Titles say what the picture shows; the verdict stands on the page around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from p2pfed.draw.svg import (
    INK,
    LOG_DURATIONS,
    MUTED,
    PALETTE,
    Linear,
    Log,
    Panel,
    Tick,
    duration,
    duration_ticks,
    element,
    heading,
    label,
    legend,
    picture,
    round_ticks,
    rule,
    spread,
    text_width,
    time_ticks,
    titled,
)
from p2pfed.simulate.report.model import QUANTILES, CentreReport, Report

COLOURS: Final = {"isolated": "#c8553d", "federated": "#1f6fb2", "ideal": "#6f7d8c"}
NAMES: Final = {"isolated": "alone", "federated": "federated", "ideal": "one common queue"}
GUESTS: Final = "#9cc9ea"
DASH: Final = "5 4"
_WIDTH: Final = 960
_HEAD: Final = 66


def draw_waits(report: Report) -> str:
    """Mean wait of each centre's own jobs, in the three worlds."""
    rows = [(c.centre, c.worlds) for c in report.centres]
    if len(rows) > 1:
        rows.append(("all jobs", report.worlds))
    left, bar, gap = 150, 13, 20
    high = max((f.wait_mean_s for _, w in rows for f in w.values()), default=0.0) or 1.0
    height = _HEAD + 34 + len(rows) * (3 * bar + gap) + 30
    x = Linear(0, high * 1.02, left, _WIDTH - 110)
    y = Linear(0, 1, height - 34, _HEAD + 24)
    panel = Panel(x=x, y=y, x_ticks=duration_ticks(high), y_ticks=())
    marks = []
    at = _HEAD + 34.0
    for name, worlds in rows:
        strong = "700" if name == "all jobs" else "500"
        marks.append(
            label(
                left - 12, at + 1.5 * bar + 4, name, size=14, fill=INK, anchor="end", weight=strong
            )
        )
        for index, (world, figures) in enumerate(worlds.items()):
            top = at + index * bar
            marks.append(_bar(x, top, bar - 2, figures.wait_mean_s, world, name))
        at += 3 * bar + gap
    entries = [(NAMES[world], COLOURS[world]) for world in COLOURS]
    body = (
        heading(
            "Mean waiting time of each centre's own jobs",
            "from submission to the start; shorter is better",
        )
        + legend(left, _HEAD + 12, entries)
        + panel.draw("".join(marks))
    )
    return picture(_WIDTH, height, body, "Mean waiting time by centre, alone and federated")


def _bar(x: Linear, top: float, thickness: float, value: float, world: str, name: str) -> str:
    mark = element(
        "rect",
        x=x.start,
        y=top,
        width=max(1.0, x(value) - x.start),
        height=thickness,
        fill=COLOURS[world],
        rx=1.5,
    )
    weight = "650" if world == "federated" else "400"
    fill = INK if world == "federated" else MUTED
    text = label(
        x(value) + 6, top + thickness - 1.5, duration(value), size=11, fill=fill, weight=weight
    )
    return titled(mark, f"{name}, {NAMES[world]}: {duration(value)}") + text


def draw_distributions(report: Report) -> str:
    """For each centre: which part of its jobs waited no longer than so long."""
    centres = [c for c in report.centres if c.wait_quantiles.get("isolated")]
    columns, across, down = _grid(len(centres))
    rows = -(-len(centres) // columns) if centres else 0
    height = _HEAD + 10 + rows * down
    high = max((q[-1] for c in centres for q in c.wait_quantiles.values() if q), default=60)
    ticks = [t for t in LOG_DURATIONS if t[0] <= max(high, 3_600)]
    panels = []
    for index, centre in enumerate(centres):
        left = 48 + index % columns * across
        top = _HEAD + 58 + index // columns * down
        x = Log(60, max(high, 3_601), left, left + across - 70)
        y = Linear(0, 1, top + down - 88, top)
        shares: list[Tick] = [(v / 4, f"{v * 25} %") for v in range(5)]
        some = ticks if columns < 3 else ticks[::2]
        panel = Panel(x=x, y=y, x_ticks=some, y_ticks=shares, title=centre.centre)
        panels.append(panel.draw(_distribution(panel, centre)))
    body = (
        heading(
            "How long jobs wait",
            "share of a centre's own jobs that waited no longer; higher and further left is better",
        )
        + legend(0, _HEAD + 8, [(NAMES[w], c) for w, c in COLOURS.items()],
                 dashed=frozenset({NAMES["ideal"]}))
        + "".join(panels)
    )  # fmt: skip
    return picture(_WIDTH, height, body, "Distribution of waiting times by centre")


def _distribution(panel: Panel, centre: CentreReport) -> str:
    lines = []
    for world in ("ideal", "isolated", "federated"):
        values = centre.wait_quantiles.get(world, ())
        if not values:
            continue
        points = [(max(60.0, wait), share / QUANTILES) for share, wait in enumerate(values)]
        began = next((s for w, s in reversed(points) if w <= 60.0), 0.0)
        points = [(60.0, began), *(p for p in points if p[0] > 60.0), (panel.x.high, 1.0)]
        dash = DASH if world == "ideal" else ""
        lines.append(panel.line(points, COLOURS[world], width=2.4 if not dash else 1.6, dash=dash))
    return "".join(lines)


def _grid(count: int) -> tuple[int, int, int]:
    """Columns, width and height of small panels for so many centres."""
    columns = 1 if count <= 1 else 2 if count <= 4 else 3
    return columns, (_WIDTH + 22) // columns, 300 if columns == 1 else 250 if columns == 2 else 220


def draw_utilisation(report: Report) -> str:
    """For each centre: who uses its processors over time."""

    def marks(panel: Panel, centre: CentreReport) -> str:
        activity = centre.activity
        size = max(1, centre.processors)
        own = _points(activity.own, activity.step_s, size)
        both = [
            (at, level + guests / size)
            for (at, level), guests in zip(own, _double(activity.guests), strict=True)
        ]
        floor = [(at, 0.0) for at, _ in own]
        alone = _points(activity.isolated, activity.step_s, size)
        return (
            panel.area(both, own, GUESTS)
            + panel.area(own, floor, COLOURS["federated"])
            + panel.line(alone, COLOURS["isolated"], width=1.4)
        )

    entries = [
        ("its own jobs, federated", COLOURS["federated"]),
        ("guests", GUESTS),
        ("its own jobs, alone", COLOURS["isolated"]),
    ]
    shares: list[Tick] = [(v / 2, f"{v * 50} %") for v in range(3)]
    title = heading("Who uses the processors", "share of each machine in use")
    return _strips(report, title, entries, marks, {c.centre: (1.0, shares) for c in report.centres})


def draw_queues(report: Report) -> str:
    """For each centre: what its waiting jobs ask for over time, alone and federated."""

    def marks(panel: Panel, centre: CentreReport) -> str:
        activity = centre.activity
        size = max(1, centre.processors)
        alone = _points(activity.queue_isolated, activity.step_s, size)
        federated = _points(activity.queue_federated, activity.step_s, size)
        floor = [(at, 0.0) for at, _ in alone]
        return panel.area(alone, floor, "#efc8bf") + panel.line(
            federated, COLOURS["federated"], width=1.6
        )

    scales: dict[str, tuple[float, Sequence[Tick]]] = {}
    for centre in report.centres:
        levels = (*centre.activity.queue_isolated, *centre.activity.queue_federated)
        high = max(1.0, max(levels, default=0.0) / max(1, centre.processors))
        scales[centre.centre] = high, [(v, f"{v:g}×") for v in round_ticks(0, high, 3)]
    entries = [(NAMES["isolated"], "#efc8bf"), (NAMES["federated"], COLOURS["federated"])]
    title = heading(
        "How much work waits",
        "processors that each centre's waiting jobs ask for, in machines of its size",
    )
    return _strips(report, title, entries, marks, scales)


def _strips(
    report: Report,
    title: str,
    entries: Sequence[tuple[str, str]],
    marks: _Marks,
    scales: Mapping[str, tuple[float, Sequence[Tick]]],
) -> str:
    """One wide panel for each centre, all over the same time."""
    tall, left = 118, 60
    height = _HEAD + 30 + len(report.centres) * tall
    panels = []
    for index, centre in enumerate(report.centres):
        top = _HEAD + 50 + index * tall
        high, ticks = scales[centre.centre]
        panel = Panel(
            x=Linear(0, max(1, report.length_s), left, _WIDTH - 30),
            y=Linear(0, high, top + tall - 54, top),
            x_ticks=time_ticks(report.length_s),
            y_ticks=ticks,
            title=f"{centre.centre}, {centre.processors} processors",
        )
        panels.append(panel.draw(marks(panel, centre)))
    body = title + legend(left, _HEAD + 8, entries) + "".join(panels)
    return picture(_WIDTH, height, body, "Use and queue of each centre over time")


class _Marks(Protocol):
    """What draws one centre's data on its panel (a type for callers)."""

    def __call__(self, panel: Panel, centre: CentreReport) -> str: ...


def _points(levels: Sequence[float], step_s: int, size: int) -> list[tuple[float, float]]:
    """A staircase of levels, as parts of `size`."""
    found: list[tuple[float, float]] = []
    for index, level in enumerate(levels):
        found += [(index * step_s, level / size), ((index + 1) * step_s, level / size)]
    return found


def _double(levels: Sequence[float]) -> list[float]:
    return [level for level in levels for _ in range(2)]


def draw_balances(report: Report) -> str:
    """Every centre's balance over time, named at the end of its line."""
    height, left, right = 400, 60, _WIDTH - 130
    levels = [level for c in report.centres for _, level in _balances(c, report.length_s)]
    low, high = min([*levels, -10.0]), max([*levels, 10.0])
    panel = Panel(
        x=Linear(0, max(1, report.length_s), left, right),
        y=Linear(low * 1.05, high * 1.05, height - 40, _HEAD + 14),
        x_ticks=time_ticks(report.length_s),
        y_ticks=[(v, f"{v:+g} %" if v else "0") for v in round_ticks(low, high, 6)],
    )
    zero = panel.y(0)
    marks = [rule(left, zero, right, zero, stroke="#9aa7b4")]
    lines = [(centre, _balances(centre, report.length_s)) for centre in report.centres]
    lines = [(centre, points) for centre, points in lines if points]
    ends = spread([panel.y(points[-1][1]) for _, points in lines], 16, _HEAD + 14, height - 40)
    for index, ((centre, points), end) in enumerate(zip(lines, ends, strict=True)):
        colour = PALETTE[index % len(PALETTE)]
        line = panel.line(points, colour, width=2.2)
        marks.append(titled(line, f"{centre.centre}: {points[-1][1]:+.1f} % at the end"))
        marks.append(label(right + 10, end + 4, centre.centre, fill=colour, weight="650"))
    body = heading(
        "Who gives and who takes",
        "balance: recent contribution against recent usage; below zero a centre owes",
    ) + panel.draw("".join(marks))
    return picture(_WIDTH, height, body, "Balances over time")


def _balances(centre: CentreReport, length_s: int) -> list[tuple[float, float]]:
    """Its balance in percent till the last submission; after that, work only runs out."""
    return [(a.at_s, a.balance_ppm / 10_000) for a in centre.accounts if a.at_s <= length_s]


def draw_flows(report: Report) -> str:
    """Where the work of each centre ran: homes by hosts, as shares of a home's work."""
    names = [c.centre for c in report.centres]
    cell = max(38.0, min(96.0, (_WIDTH - 260) / max(1, len(names))))
    tall, left, top = 40.0, 150.0, _HEAD + 44.0
    height = top + tall * len(names) + 20
    size = 12 if cell > 60 else 10
    marks = [label(left - 12, top - 10, "home", anchor="end"), label(left, top - 28, "ran at")]
    for column, host in enumerate(names):
        at = left + (column + 0.5) * cell
        fits = host if text_width(host, size) < cell else host[: max(3, int(cell / size / 0.56))]
        marks.append(label(at, top - 10, fits, size=size, fill=INK, anchor="middle"))
    for row, home in enumerate(names):
        y = top + row * tall
        marks.append(label(left - 12, y + tall / 2 + 4, home, size=13, fill=INK, anchor="end"))
        work = report.flows.get(home, {})
        total = sum(work.values())
        for column, host in enumerate(names):
            part = work.get(host, 0) / total if total else 0.0
            marks.append(_cell(left + column * cell, y, cell, tall, part, f"{home} at {host}"))
    title = heading("Where each centre's work ran", "share of the processor time of its jobs")
    return picture(_WIDTH, height, title + "".join(marks), "Where the work of each centre ran")


def _cell(x: float, y: float, width: float, height: float, part: float, name: str) -> str:
    """One part of a whole as a tinted box."""
    box = element(
        "rect",
        x=x + 1,
        y=y + 1,
        width=width - 2,
        height=height - 2,
        rx=3,
        fill=_tint(part),
    )
    fill = "#ffffff" if part > 0.45 else INK
    text = f"{part * 100:.0f} %" if part >= 0.005 else ("<1 %" if part else "")
    middle = label(
        x + width / 2, y + height / 2 + 4, text, fill=fill, anchor="middle", weight="550"
    )
    return titled(box + middle, f"{name}: {part * 100:.1f} %")


def _tint(part: float) -> str:
    """From almost white to the colour of the federated world."""
    low, high = (0xF2, 0xF5, 0xF8), (0x1F, 0x6F, 0xB2)
    depth = min(1.0, part) ** 0.6
    return "#" + "".join(
        f"{round(a + (b - a) * depth):02x}" for a, b in zip(low, high, strict=True)
    )


def draw_variants(variants: Sequence[tuple[str, Report]]) -> str:
    """Mean wait of all jobs, one row for each variant: alone, federated, one common queue."""
    left, tall = 300, 34
    high = max((f.wait_mean_s for _, r in variants for f in r.worlds.values()), default=0.0) or 1.0
    height = _HEAD + 60 + len(variants) * tall
    panel = Panel(
        x=Linear(0, high * 1.02, left, _WIDTH - 90),
        y=Linear(0, 1, height - 34, _HEAD + 24),
        x_ticks=duration_ticks(high),
        y_ticks=(),
    )
    marks = []
    for index, (name, report) in enumerate(variants):
        middle = _HEAD + 40 + index * tall
        cut = name if len(name) <= 44 else f"…{name[-43:]}"
        marks.append(label(left - 14, middle + 4, cut, size=12, fill=INK, anchor="end"))
        marks.append(rule(left, middle, _WIDTH - 90, middle))
        for world in ("isolated", "ideal", "federated"):
            wait_s = report.worlds[world].wait_mean_s
            dot = element("circle", cx=panel.x(wait_s), cy=middle, r=6.5, fill=COLOURS[world])
            marks.append(titled(dot, f"{name}, {NAMES[world]}: {duration(wait_s)}"))
        federated = report.worlds["federated"].wait_mean_s
        text = duration(federated)
        marks.append(label(_WIDTH - 80, middle + 4, text, size=12, fill=INK, weight="650"))
    body = (
        heading("Mean waiting time of all jobs", "one row for each variant; further left is better")
        + legend(left, _HEAD + 12, [(NAMES[world], colour) for world, colour in COLOURS.items()])
        + panel.draw("".join(marks))
    )
    return picture(_WIDTH, height, body, "Mean waiting time by variant")
