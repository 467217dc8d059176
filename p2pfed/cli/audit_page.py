"""The audit's report as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from p2pfed.cli.moments import show_moment
from p2pfed.core.audit import AuditReport, Finding, Severity
from p2pfed.core.audit.catalogue import explanation_of
from p2pfed.core.audit.course import AccountLine
from p2pfed.draw.html import figure, table, wrap
from p2pfed.draw.svg import (
    PALETTE,
    Linear,
    Panel,
    Tick,
    heading,
    label,
    picture,
    round_ticks,
    rule,
    spread,
    titled,
)

_WIDTH: Final = 960
_TOP: Final = 80
_TICKS: Final = 6
_VERDICTS: Final = {
    Severity.ERROR: "This ledger is not valid and complete.",
    Severity.WARNING: "This ledger is valid and complete. It shows that members broke rules.",
    Severity.NOTICE: "This ledger is valid and complete. Some things in it deserve a look.",
    None: "This ledger is valid and complete, and shows nothing wrong.",
}


def render_page(reports: Sequence[AuditReport], comparison: Sequence[Finding]) -> str:
    """The whole page; equal reports give equal bytes."""
    parts = [_section(report) for report in reports]
    if len(reports) > 1 or comparison:
        parts.append("<h2>Compared with each other</h2>")
        parts.append(_findings(comparison) or "<p>No contradiction.</p>")
    return wrap("Audit of a ledger", "".join(parts))


def _section(report: AuditReport) -> str:
    ledger = report.ledger
    parts = [
        f"<h1>{escape(ledger.name or 'A ledger')}: audit</h1>",
        f'<p class="lead">{escape(_VERDICTS[report.severity])}</p>',
        f'<p class="muted">{escape(report.source)}</p>',
        _tiles(report),
        "<h2>Findings</h2>",
        _findings(ledger.findings) or "<p>None.</p>",
        "<h2>Accounts</h2>",
        _balances(report),
    ]
    if report.curve:
        parts += [
            figure(_plot(report.curve, _contribution, "Contribution", "points"), "contribution"),
            figure(_plot(report.curve, _usage, "Usage", "points"), "usage"),
            figure(_plot(report.curve, _balance, "Balance", "%"), "balance"),
        ]
    parts += ["<h2>Usage records</h2>", _trades(report), "<h2>Claims</h2>", _claims(report)]
    if len(report.versions) > 1:
        parts += ["<h2>Members and rules</h2>", _versions(report)]
    if report.story:
        parts += ["<h2>The job</h2>", _story(report)]
    parts += ["<h2>What was read</h2>", _facts(report)]
    return "".join(parts)


def _tiles(report: AuditReport) -> str:
    ledger = report.ledger
    found = dict.fromkeys(Severity, 0)
    for code, count in ledger.counts.items():
        told = explanation_of(code)
        found[told.severity if told else Severity.ERROR] += count
    tiles = [
        (f"{ledger.admitted:,}", f"valid blocks of {ledger.blocks:,}", ""),
        (f"{ledger.records:,}", f"records, of which {ledger.inert:,} count for nothing", ""),
        (f"{found[Severity.ERROR]:,}", "errors", "bad" if found[Severity.ERROR] else ""),
        (f"{found[Severity.WARNING]:,}", "broken rules", "bad" if found[Severity.WARNING] else ""),
        (f"{found[Severity.NOTICE]:,}", "things to look at", ""),
    ]
    return '<div class="tiles">' + "".join(
        f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(text)}</span></div>'
        for value, text, kind in tiles
    ) + "</div>"  # fmt: skip


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    rows = [
        (
            (finding.severity.value, "bad" if finding.severity is Severity.ERROR else ""),
            finding.code,
            finding.where,
            show_moment(finding.time_ms) if finding.time_ms else "",
            finding.text[:400],
        )
        for finding in findings
    ]
    return table(("weight", "code", "where", "when (UTC)", "what"), rows)


def _balances(report: AuditReport) -> str:
    rows = [
        (
            line.centre,
            f"{line.standing.contribution:,}",
            f"{line.standing.usage:,}",
            f"{line.standing.credit_line:,}",
            f"{line.balance_ppm / 10_000:+.4f} %",
        )
        for line in report.ledger.balances
    ]
    return table(("centre", "contribution", "usage", "credit line", "balance"), rows)


def _trades(report: AuditReport) -> str:
    rows = [
        (f"{home} at {host}", standing.value, f"{sums.count:,}", f"{sums.core_s:,}",
         f"{sums.gpu_s:,}")
        for (home, host, standing), sums in sorted(
            report.trades.items(), key=lambda item: (*item[0][:2], item[0][2].value)
        )
    ]  # fmt: skip
    columns = ("home and host", "what the home said", "records", "core-seconds", "GPU-seconds")
    return table(columns, rows)


def _claims(report: AuditReport) -> str:
    rows = [
        (home, f"{t.justified:,}", f"{t.unjustified:,}", f"{t.stale_view:,}", f"{t.false_view:,}")
        for home, t in sorted(report.claims.items())
    ]
    columns = ("home", "justified", "not its match", "stale view", "false view")
    return table(columns, rows)


def _versions(report: AuditReport) -> str:
    rows = [
        (
            str(version.number),
            show_moment(version.start_ms) if version.start_ms else "the charter",
            str(version.rules_version),
            ", ".join(version.members),
            ", ".join(map(str, version.votes)),
        )
        for version in report.versions
    ]
    return table(("version", "from (UTC)", "rules version", "members", "votes"), rows)


def _story(report: AuditReport) -> str:
    rows = [
        (show_moment(line.time_ms), str(line.position), line.kind, line.detail, line.inert)
        for line in report.story
    ]
    return table(("when (UTC)", "record", "type", "what", "counts for nothing because"), rows)


def _facts(report: AuditReport) -> str:
    ledger = report.ledger
    facts = [
        ("federation", "" if ledger.federation is None else ledger.federation.hex()),
        ("balances of", f"{show_moment(ledger.at_ms)} UTC"),
        ("digest of the frontier", "" if ledger.view_digest is None else ledger.view_digest.hex()),
        *(
            (f"head of {feed.centre}.{feed.epoch}", f"{head.seq_num} {head.block_id.hex()}")
            for feed, head in ledger.frontier.items()
        ),
    ]
    return "<dl>" + "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts
    ) + "</dl>"  # fmt: skip


# Pictures


def _contribution(line: AccountLine) -> float:
    return line.standing.contribution


def _usage(line: AccountLine) -> float:
    return line.standing.usage


def _balance(line: AccountLine) -> float:
    return line.balance_ppm / 10_000


def _plot(
    curve: Sequence[AccountLine], value: Callable[[AccountLine], float], title: str, unit: str
) -> str:
    """One line for each centre over time."""
    height, left, right = 340, 90, _WIDTH - 130
    first, last = curve[0].at_ms, max(curve[-1].at_ms, curve[0].at_ms + 1)
    values = [value(line) for line in curve]
    low, high = min([*values, 0.0]), max([*values, 0.0])
    high = high if high > low else low + 1
    panel = Panel(
        x=Linear(first, last, left, right),
        y=Linear(low, high, height - 40, _TOP),
        x_ticks=_moments(first, last),
        y_ticks=[(v, f"{v:,.6g}") for v in round_ticks(low, high, _TICKS)],
    )
    lines: dict[str, list[tuple[float, float]]] = {}
    for line in curve:
        lines.setdefault(line.centre, []).append((line.at_ms, value(line)))
    ends = spread([panel.y(points[-1][1]) for points in lines.values()], 16, _TOP, height - 40)
    marks = [rule(left, panel.y(0), right, panel.y(0), stroke="#9aa7b4")]
    for index, ((centre, points), end) in enumerate(zip(lines.items(), ends, strict=True)):
        colour = PALETTE[index % len(PALETTE)]
        drawn = panel.line(points, colour, width=2.2)
        marks.append(titled(drawn, f"{centre}: {points[-1][1]:,.6g} {unit} at the end"))
        marks.append(label(right + 10, end + 4, centre, fill=colour, weight="650"))
    body = heading(title, f"by centre, in {unit}, as every daemon had it then (UTC)")
    return picture(_WIDTH, height, body + panel.draw("".join(marks)), f"{title} over time")


def _moments(first_ms: int, last_ms: int) -> list[Tick]:
    """A few times between two, at even distances."""
    step = max(1, (last_ms - first_ms) // _TICKS)
    whole_days = step >= 86_400_000
    times = range(first_ms, last_ms + 1, step)
    return [(ms, show_moment(ms)[5:10] if whole_days else show_moment(ms)[5:16]) for ms in times]
