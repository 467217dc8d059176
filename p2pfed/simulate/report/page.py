"""The report as one HTML page that needs nothing else: no network, no script, no other file.

The first screen answers the director's question in a sentence and a few figures; the pictures and
tables below say why. Each picture can be saved as an SVG file of its own.
"""

from __future__ import annotations

from html import escape
from typing import Final

from p2pfed.draw.html import Cell, figure, table, wrap
from p2pfed.draw.svg import HOUR_S, duration
from p2pfed.simulate.report.model import WORLDS, Report
from p2pfed.simulate.report.plots import (
    NAMES,
    draw_balances,
    draw_distributions,
    draw_flows,
    draw_queues,
    draw_utilisation,
    draw_waits,
)
from p2pfed.simulate.report.plots_fairness import draw_fairness
from p2pfed.simulate.report.wording import (
    SIZE_NAMES,
    fairness_words,
    losers_of,
    percent,
    verdict,
)

_USE: Final = """<p>Guests run on processors that stood idle. Where the rust line lies above the
dark blue area, the centre's own jobs ran elsewhere at that time.</p>"""
_FAIRNESS: Final = """A job's satisfaction is the part of its time, from submission to end, that it
ran (runs below 10 s count as 10 s); a centre's is the mean over its jobs."""
_DELAYS: Final = """<p>Jobs at the head of their own centre's queue that would have begun but for
guests, and for how long:</p>"""
_PRICE: Final = """<p>What users would notice, by size of job. Single jobs may begin later
than they would alone even where nobody stands in their way: a queue with backfill is chaotic.
Worse means that the 95 % wait is longer by more than 15 minutes and 10 %, in a class of at
least 20 jobs.</p>"""


def render_page(report: Report) -> str:
    """The whole page; equal reports give equal bytes."""
    title = "Would it have helped?"
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="lead">{escape(verdict(report))}</p>',
        f'<p class="muted">{escape(report.title)}</p>',
        _tiles(report),
        figure(draw_waits(report), "waiting-times"),
        _centre_table(report),
        figure(draw_distributions(report), "distributions"),
        "<h2>Use of the machines</h2>",
        _USE,
        figure(draw_utilisation(report), "utilisation"),
        figure(draw_queues(report), "queues"),
        "<h2>Give and take</h2>",
        f"<p>{_FAIRNESS} {escape(fairness_words(report))}</p>",
        figure(draw_fairness(report), "fairness"),
        figure(draw_balances(report), "balances"),
        figure(draw_flows(report), "flows"),
        _account_table(report),
        "<h2>Did anybody pay for it?</h2>",
        _DELAYS,
        _delay_table(report),
        _PRICE,
        _class_table(report),
        "<h2>What was replayed</h2>",
        _options(report),
    ]
    return wrap(f"{title} {report.title}", "".join(parts))


def _tiles(report: Report) -> str:
    alone, federated = report.worlds["isolated"], report.worlds["federated"]
    worse = [c.centre for c in losers_of(report)]
    gain = 1 - federated.wait_mean_s / alone.wait_mean_s if alone.wait_mean_s else 0.0
    tiles = [
        (
            duration(federated.wait_mean_s),
            f"mean wait, instead of {duration(alone.wait_mean_s)}",
            "",
        ),
        (f"{gain * 100:.0f} %", "less waiting", "" if gain >= 0 else "bad"),
        (
            "–" if report.way_wait_ppm is None else percent(report.way_wait_ppm),
            "of the way to one common queue",
            "",
        ),
        (
            str(len(worse)) if worse else "none",
            f"centres whose users wait longer{': ' if worse else ''}{', '.join(worse)}",
            "bad" if worse else "",
        ),
    ]
    return '<div class="tiles">' + "".join(
        f'<div class="tile {kind}"><b>{escape(figure)}</b><span>{escape(text)}</span></div>'
        for figure, text, kind in tiles
    ) + "</div>"  # fmt: skip


def _centre_table(report: Report) -> str:
    columns = ("centre", "jobs", "mean wait alone", "federated", "change", "95 % wait alone",
               "federated", "slowdown alone", "federated", "change")  # fmt: skip
    rows = [(c.centre, c.worlds) for c in report.centres]
    rows.append(("all", report.worlds))
    lines = []
    for name, worlds in rows:
        alone, federated = worlds["isolated"], worlds["federated"]
        lines.append(
            (
                name,
                f"{alone.jobs:,}",
                duration(alone.wait_mean_s),
                duration(federated.wait_mean_s),
                change(alone.wait_mean_s, federated.wait_mean_s),
                duration(alone.wait_p95_s),
                duration(federated.wait_p95_s),
                f"{alone.slowdown_mean:.1f}",
                f"{federated.slowdown_mean:.1f}",
                change(alone.slowdown_mean, federated.slowdown_mean),
            )
        )
    return table(columns, lines, last="all")


def change(before: float, after: float) -> Cell:
    """A relative change with its class: shorter is good."""
    if before == 0:
        return ("–", "") if after == 0 else (f"+{duration(after)}", "bad")
    part = after / before - 1
    text = f"{part * 100:+.0f} %"
    return text, "good" if part < -0.005 else "bad" if part > 0.005 else ""


def _account_table(report: Report) -> str:
    columns = ("centre", "use alone", "federated", "jobs sent out", "jobs hosted", "given", "taken",
               "balance", "runs cut short", "work lost")  # fmt: skip
    lines = []
    for centre in report.centres:
        last = centre.accounts[-1] if centre.accounts else None
        lines.append(
            (
                centre.centre,
                percent(centre.worlds["isolated"].utilisation_ppm),
                percent(centre.worlds["federated"].utilisation_ppm),
                f"{centre.exported:,}",
                f"{centre.hosted:,}",
                f"{last.contribution // HOUR_S:,} core-h" if last else "–",
                f"{last.usage // HOUR_S:,} core-h" if last else "–",
                f"{last.balance_ppm / 10_000:+.1f} %" if last else "–",
                f"{centre.preempted:,}",
                f"{centre.wasted_s // HOUR_S:,} core-h",
            )
        )
    return table(columns, lines)


def _delay_table(report: Report) -> str:
    columns = ("centre", "own jobs", "held up by guests", "on average", "at most")
    return table(
        columns,
        (
            (
                centre.centre,
                f"{centre.worlds['federated'].jobs:,}",
                f"{centre.delayed:,}",
                duration(centre.delayed_mean_s) if centre.delayed else "–",
                duration(centre.delayed_max_s) if centre.delayed else "–",
            )
            for centre in report.centres
        ),
    )


def _class_table(report: Report) -> str:
    columns = ("centre", "part of the machine", "jobs", "mean wait alone", "federated", "change",
               "95 % wait alone", "federated", "change", "worse")  # fmt: skip
    lines: list[list[Cell | str]] = []
    for centre in report.centres:
        for part in centre.classes:
            if not part.jobs:
                continue
            mean, tail = part.wait_mean_s, part.wait_p95_s
            lines.append(
                [
                    centre.centre,
                    SIZE_NAMES[part.name],
                    f"{part.jobs:,}",
                    duration(mean["isolated"]),
                    duration(mean["federated"]),
                    change(mean["isolated"], mean["federated"]),
                    duration(tail["isolated"]),
                    duration(tail["federated"]),
                    change(tail["isolated"], tail["federated"]),
                    ("yes", "bad") if part.worse else "no",
                ]
            )
    return table(columns, lines)


def _options(report: Report) -> str:
    jobs = report.worlds["isolated"].jobs
    items = [
        ("length", f"{duration(report.length_s)}; the first {duration(report.warmup_s)} warm up"),
        ("jobs counted", f"{jobs:,}"),
        ("worlds", "; ".join(f"{world}: {NAMES[world]}" for world in WORLDS)),
        *((name.replace("_", " "), str(value)) for name, value in report.options.items()),
    ]
    return "<dl>" + "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in items
    ) + "</dl>"  # fmt: skip
