"""The page of a comparison or sweep: one picture and two tables, all variants side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from p2pfed.draw.html import Cell, figure, table, wrap
from p2pfed.draw.svg import duration
from p2pfed.simulate.report.model import Report
from p2pfed.simulate.report.page import change
from p2pfed.simulate.report.plots import draw_variants
from p2pfed.simulate.report.wording import losers_of, percent

Variants = Sequence[tuple[str, Report]]


def render_variants(variants: Variants) -> str:
    """The whole page; equal reports give equal bytes.

    Args:
        variants: label and report; at least one.
    """
    title = "What difference does it make?"
    body = "".join(
        (
            f"<h1>{title}</h1>",
            f'<p class="muted">{escape(variants[0][1].title)}</p>',
            figure(draw_variants(variants), "variants"),
            "<h2>All jobs</h2>",
            _overall(variants),
            "<h2>Mean wait of each centre's own jobs</h2>",
            "<p>In brackets: against the same centre alone.</p>",
            _centres(variants),
        )
    )
    return wrap(title, body)


def _overall(variants: Variants) -> str:
    columns = ("variant", "mean wait alone", "federated", "common queue", "of the way", "slowdown",
               "of the way", "fairness", "work lost", "worse off")  # fmt: skip
    rows: list[list[Cell | str]] = []
    for label, report in variants:
        losers = ", ".join(c.centre for c in losers_of(report))
        rows.append(
            [
                label,
                *(duration(f.wait_mean_s) for f in report.worlds.values()),
                _way(report.way_wait_ppm),
                f"{report.worlds['federated'].slowdown_mean:.1f}",
                _way(report.way_slowdown_ppm),
                percent(report.fairness_ppm["federated"]),
                percent(report.wasted_ppm),
                (losers, "bad") if losers else "none",
            ]
        )
    return table(columns, rows)


def _centres(variants: Variants) -> str:
    names = [centre.centre for centre in variants[0][1].centres]
    rows: list[list[Cell | str]] = []
    for label, report in variants:
        row: list[Cell | str] = [label]
        for centre in report.centres:
            alone = centre.worlds["isolated"].wait_mean_s
            federated = centre.worlds["federated"].wait_mean_s
            text, kind = change(alone, federated)
            row.append((f"{duration(federated)} ({text})", kind))
        rows.append(row)
    return table(("variant", *names), rows)


def _way(ppm: int | None) -> str:
    return "–" if ppm is None else percent(ppm)
