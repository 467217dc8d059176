"""The audit's report for people at a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console

from p2pfed.cli.ledger_verify import print_head
from p2pfed.cli.moments import show_moment
from p2pfed.cli.tables import console, print_table
from p2pfed.core.audit import AuditReport, Finding, Severity

_STYLES: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTICE: "cyan"}
_VERDICTS: Final = {
    Severity.ERROR: ("the ledger is not valid and complete", "red"),
    Severity.WARNING: ("the ledger is valid and complete; it shows broken rules", "yellow"),
    Severity.NOTICE: ("the ledger is valid and complete; some things deserve a look", "green"),
    None: ("the ledger is valid and complete, and shows nothing wrong", "green"),
}


def print_audit(
    reports: Sequence[AuditReport], comparison: Sequence[Finding], *, trusted: bool
) -> None:
    """Every report, then what the ledgers say of each other."""
    shown = console()
    for report in reports:
        if len(reports) > 1:
            shown.print(f"\n== {report.source} ==")
        _print_one(report, shown, trusted=trusted)
    if len(reports) > 1 or comparison:
        shown.print("\n== compared ==")
        _print_findings(comparison, {}, shown)
    contradicts = any(finding.severity is Severity.ERROR for finding in comparison)
    if len(reports) > 1 and not contradicts:
        shown.print("the ledgers don't contradict each other", style="green")


def _print_one(report: AuditReport, shown: Console, *, trusted: bool) -> None:
    print_head(report.ledger, shown, trusted=trusted)
    if len(report.versions) > 1:
        print_table(
            ("version>", "from (UTC)", "rules>", "members", "decided by"),
            [
                (
                    v.number,
                    show_moment(v.start_ms) if v.start_ms else "the charter",
                    v.rules_version,
                    ", ".join(v.members),
                    ", ".join(map(str, v.votes)),
                )
                for v in report.versions
            ],
            empty="",
        )
    if report.claims:
        print_table(
            ("home", "claims justified>", "unjustified>", "stale view>", "false view>"),
            [
                (home, t.justified, t.unjustified, t.stale_view, t.false_view)
                for home, t in sorted(report.claims.items())
            ],
            empty="",
        )
    if report.trades:
        print_table(
            ("home", "host", "usage records", "count>", "core-s>", "GPU-s>"),
            [
                (home, host, standing.value, sums.count, f"{sums.core_s:,}", f"{sums.gpu_s:,}")
                for (home, host, standing), sums in sorted(
                    report.trades.items(), key=lambda item: (*item[0][:2], item[0][2].value)
                )
            ],
            empty="",
        )
    for line in report.story:
        inert = f"  (counts for nothing: {line.inert})" if line.inert else ""
        when = show_moment(line.time_ms)
        shown.print(f"{when}  {line.position}  {line.kind}  {line.detail}{inert}")
    _print_findings(report.ledger.findings, report.ledger.counts, shown)
    text, style = _VERDICTS[report.severity]
    shown.print(text, style=style)


def _print_findings(findings: Sequence[Finding], counts: dict[str, int], shown: Console) -> None:
    listed: dict[str, int] = {}
    for finding in findings:
        listed[finding.code] = listed.get(finding.code, 0) + 1
        shown.print(str(finding), style=_STYLES[finding.severity], soft_wrap=True)
    for code, count in sorted(counts.items()):
        if count > listed.get(code, 0):
            shown.print(f"and {count - listed.get(code, 0)} more of {code}")
    if findings:
        shown.print("'p2pfed audit --explain CODE' says what a code means", style="dim")
