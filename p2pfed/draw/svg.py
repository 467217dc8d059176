"""Drawing: scales, ticks and panels, as pure functions from numbers to SVG text.

A picture stands alone: its colours and fonts are attributes of its own elements, so that it keeps
its looks when it is saved from the page and put on a slide. Marks carry a `<title>`, which browsers
show as a tooltip; nothing needs a script. Coordinates are written with at most one decimal, so that
equal data give equal bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

FONT: Final = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
INK: Final = "#1c2733"
MUTED: Final = "#5d6b79"
GRID: Final = "#e3e8ed"
PALETTE: Final = (
    "#1f6fb2", "#c8553d", "#2a8c5a", "#8b5fbf", "#b8860b", "#00868f", "#c2418c", "#5d6b79",
)  # fmt: skip
"""Told apart by people who see colours differently too; the labels name the lines anyway."""

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
WEEK_S: Final = 604_800

Point = tuple[float, float]


def number(value: float) -> str:
    """A coordinate with at most one decimal; never `-0`."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def element(tag: str, content: str = "", /, **attributes: str | float) -> str:
    """One SVG element; `content` is markup, an underscore in a name is written as a hyphen."""
    parts = [tag]
    for name, value in attributes.items():
        text = escape(value) if isinstance(value, str) else number(value)
        parts.append(f'{name.rstrip("_").replace("_", "-")}="{text}"')
    opening = " ".join(parts)
    return f"<{opening}>{content}</{tag}>" if content else f"<{opening}/>"


def label(
    x: float,
    y: float,
    text: str,
    *,
    size: float = 12,
    fill: str = MUTED,
    anchor: str = "start",
    weight: str = "400",
) -> str:
    """Text at a baseline point."""
    return element(
        "text",
        escape(text),
        x=x,
        y=y,
        font_size=size,
        fill=fill,
        text_anchor=anchor,
        font_weight=weight,
    )


def titled(mark: str, text: str) -> str:
    """A mark with a tooltip."""
    return element("g", element("title", escape(text)) + mark)


def picture(width: float, height: float, body: str, description: str) -> str:
    """A whole picture on white, scaling with its place; `description` is for screen readers."""
    ground = element("rect", width=width, height=height, fill="#ffffff")
    return element(
        "svg",
        element("title", escape(description)) + ground + body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="img",
        font_family=FONT,
    )


def heading(title: str, subtitle: str) -> str:
    """What the picture says, and what is drawn, at its top left."""
    return label(0, 20, title, size=19, fill=INK, weight="650") + label(0, 42, subtitle, size=13)


def legend(
    x: float, y: float, entries: Iterable[tuple[str, str]], *, dashed: frozenset[str] = frozenset()
) -> str:
    """A row of `(name, colour)`; those in `dashed` are drawn as their lines are."""
    marks = []
    for name, colour in entries:
        dash = {"stroke_dasharray": "5 4"} if name in dashed else {}
        marks.append(
            element("line", x1=x, y1=y - 4, x2=x + 22, y2=y - 4, stroke=colour, stroke_width=4)
            if not dash
            else element(
                "line", x1=x, y1=y - 4, x2=x + 22, y2=y - 4, stroke=colour, stroke_width=2, **dash
            )
        )
        marks.append(label(x + 28, y, name, fill=INK))
        x += 28 + text_width(name) + 22
    return "".join(marks)


def text_width(text: str, size: float = 12) -> float:
    """About how wide a text is; enough to place the next one."""
    return len(text) * size * 0.56


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear scale from values `low … high` to coordinates `start … end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The coordinate; beyond the ends for values beyond them."""
        span = self.high - self.low or 1
        return self.start + (value - self.low) / span * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Log:
    """A logarithmic scale; values at or below `low` stand at the start."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The coordinate; values beyond `high` stand at the end."""
        inside = min(max(value, self.low), self.high)
        part = math.log(inside / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)


Scale = Linear | Log
Tick = tuple[float, str]


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values within `low … high`, about `count` of them, 0 among them if it is inside."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, count)
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 9) for index in range(first, last + 1)]


_TIME_STEPS: Final = (
    (HOUR_S, "hour", HOUR_S),
    (6 * HOUR_S, "hour", HOUR_S),
    (DAY_S, "day", DAY_S),
    (2 * DAY_S, "day", DAY_S),
    (WEEK_S, "week", WEEK_S),
    (2 * WEEK_S, "week", WEEK_S),
    (4 * WEEK_S, "week", WEEK_S),
    (13 * WEEK_S, "week", WEEK_S),
    (52 * WEEK_S, "week", WEEK_S),
)


def time_ticks(length_s: float, count: int = 8) -> list[Tick]:
    """Ticks `day 1, day 2 …` over a stretch of time that begins at 0."""
    step, name, unit = next((s for s in _TIME_STEPS if length_s / s[0] <= count), _TIME_STEPS[-1])
    ticks = range(0, int(length_s), step) if length_s >= 1 else range(1)
    return [(at, f"{name} {at // unit + 1}") for at in ticks]


def duration(seconds: float) -> str:
    """A length of time in the two largest units: `45 s`, `12 min`, `3 h 20 min`, `2 d 5 h`."""
    whole = round(seconds)
    if whole < 0:
        return f"-{duration(-whole)}"
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min"
    big, small = (("d", DAY_S), ("h", HOUR_S)) if whole >= DAY_S else (("h", HOUR_S), ("min", 60))
    rest = whole % big[1] // small[1]
    return f"{whole // big[1]} {big[0]}" + (f" {rest} {small[0]}" if rest else "")


def duration_ticks(high_s: float, count: int = 5) -> list[Tick]:
    """Ticks of a linear axis of durations that begins at 0."""
    units = ((1, "s"), (MINUTE_S, "min"), (HOUR_S, "h"), (DAY_S, "d"))
    size, name = next((u for u in reversed(units) if high_s / u[0] >= 2), units[0])
    return [(v * size, f"{v:g} {name}" if v else "0") for v in round_ticks(0, high_s / size, count)]


LOG_DURATIONS: Final[tuple[Tick, ...]] = (
    (60, "1 min"),
    (600, "10 min"),
    (3_600, "1 h"),
    (21_600, "6 h"),
    (86_400, "1 d"),
    (345_600, "4 d"),
    (1_209_600, "2 w"),
    (4_838_400, "8 w"),
)
"""Ticks of a logarithmic axis of durations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A rectangle with axes; `draw` puts marks on its grid.

    Attributes:
        x, y: the scales; `y.start` is the bottom.
        x_ticks, y_ticks: where grid lines stand and what is written there.
        title: written above the top left corner.
    """

    x: Scale
    y: Scale
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    title: str = ""

    def draw(self, marks: str) -> str:
        """The panel with its grid behind the marks."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        parts = [label(left, top - 10, self.title, size=14, fill=INK, weight="600")]
        for value, text in self.y_ticks:
            at = self.y(value)
            parts.append(rule(left, at, right, at))
            parts.append(label(left - 7, at + 4, text, size=11, anchor="end"))
        for value, text in self.x_ticks:
            at = self.x(value)
            parts.append(rule(at, bottom, at, bottom + 4))
            parts.append(label(at, bottom + 17, text, size=11, anchor="middle"))
        parts.append(marks)
        parts.append(rule(left, bottom, right, bottom, stroke="#9aa7b4"))
        return "".join(parts)

    def line(
        self, points: Iterable[Point], colour: str, *, width: float = 2, dash: str = ""
    ) -> str:
        """A line through values."""
        extra = {"stroke_dasharray": dash} if dash else {}
        return element(
            "polyline",
            points=self._path(points),
            fill="none",
            stroke=colour,
            stroke_width=width,
            stroke_linejoin="round",
            **extra,
        )

    def area(self, upper: Sequence[Point], lower: Sequence[Point], colour: str) -> str:
        """The area between two lines of values."""
        path = self._path([*upper, *reversed(lower)])
        return element("polygon", points=path, fill=colour)

    def _path(self, points: Iterable[Point]) -> str:
        return " ".join(f"{number(self.x(x))},{number(self.y(y))}" for x, y in points)


def rule(x1: float, y1: float, x2: float, y2: float, *, stroke: str = GRID) -> str:
    """A thin line between two coordinates."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=1)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Coordinates close to `wanted`, in the same order, at least `gap` apart where there is room.

    For labels at the ends of lines.
    """
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    placed = list(wanted)
    edge = low - gap
    for index in order:
        placed[index] = edge = max(wanted[index], edge + gap)
    edge = high + gap
    for index in reversed(order):
        placed[index] = edge = min(placed[index], edge - gap)
    return placed
