"""The picture of satisfaction and of give and take: who is served how well, and who did it."""

from __future__ import annotations

from typing import Final

from p2pfed.draw.svg import (
    HOUR_S,
    INK,
    MUTED,
    Linear,
    element,
    heading,
    label,
    legend,
    picture,
    rule,
    titled,
)
from p2pfed.simulate.report.model import CentreReport, Report
from p2pfed.simulate.report.plots import COLOURS, GUESTS, NAMES

_WIDTH: Final = 960
_LEFT: Final = 150
_MIDDLE: Final = 500
"""Where satisfaction ends; work begins at the axis right of it."""
_AXIS: Final = 745
_REACH: Final = 150
"""How long the longest bar of work may be."""
_TOP: Final = 118
_ROW: Final = 44


def draw_fairness(report: Report) -> str:
    """Each centre's satisfaction, alone and federated; what it did for others and they for it."""
    height = _TOP + len(report.centres) * _ROW + 26
    bottom = height - 30
    scale = Linear(0, 1, _LEFT, _MIDDLE - 20)
    most_s = max((max(c.exported_s, c.hosted_s) for c in report.centres), default=0) or 1
    marks = [
        heading(
            "Served alike, and by whom",
            "left: satisfaction of each centre's users; right: processor hours for others and"
            " from others",
        ),
        legend(_LEFT, 72, [(NAMES[w], COLOURS[w]) for w in ("isolated", "federated")]),
        legend(
            _AXIS - 120,
            72,
            [("did for others", GUESTS), ("others did for it", COLOURS["federated"])],
        ),
    ]
    for quarter in range(5):
        at = scale(quarter / 4)
        marks.append(rule(at, _TOP - 16, at, bottom))
        marks.append(label(at, bottom + 16, f"{quarter * 25} %", size=11, anchor="middle"))
    marks.append(rule(_AXIS, _TOP - 16, _AXIS, bottom, stroke="#9aa7b4"))
    for row, centre in enumerate(report.centres):
        y = _TOP + row * _ROW + 8.0
        marks.append(label(_LEFT - 12, y + 5, centre.centre, size=14, fill=INK, anchor="end"))
        marks.append(_satisfaction(scale, y, centre))
        marks.append(_work(y, centre, most_s))
    return picture(_WIDTH, height, "".join(marks), "Satisfaction, and work given and taken")


def _satisfaction(scale: Linear, y: float, centre: CentreReport) -> str:
    """Two dots and the way between them."""
    alone = centre.worlds["isolated"].satisfaction_ppm / 1_000_000
    federated = centre.worlds["federated"].satisfaction_ppm / 1_000_000
    way = element(
        "line", x1=scale(alone), y1=y, x2=scale(federated), y2=y, stroke="#c3ccd5", stroke_width=3
    )
    dots = "".join(
        titled(
            element("circle", cx=scale(value), cy=y, r=7, fill=COLOURS[world]),
            f"{centre.centre}, {NAMES[world]}: {value * 100:.1f} %",
        )
        for world, value in (("isolated", alone), ("federated", federated))
    )
    text = f"{federated * 100:.0f} %"
    return way + dots + label(scale(federated), y - 12, text, fill=INK, anchor="middle", size=11)


def _work(y: float, centre: CentreReport, most_s: int) -> str:
    """What it did for others, to the left; what they did for it, to the right."""
    gave = centre.hosted_s / most_s * _REACH
    got = centre.exported_s / most_s * _REACH
    gave_h, got_h = f"{centre.hosted_s // HOUR_S:,} h", f"{centre.exported_s // HOUR_S:,} h"
    left = element("rect", x=_AXIS - gave, y=y - 9, width=gave, height=18, fill=GUESTS)
    right = element("rect", x=_AXIS, y=y - 9, width=got, height=18, fill=COLOURS["federated"])
    return (
        titled(left, f"{centre.centre} did {gave_h} for others")
        + titled(right, f"others did {got_h} for {centre.centre}")
        + label(_AXIS - gave - 6, y + 4, gave_h, size=11, fill=MUTED, anchor="end")
        + label(_AXIS + got + 6, y + 4, got_h, size=11, fill=INK)
    )
