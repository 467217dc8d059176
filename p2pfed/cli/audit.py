"""`p2pfed audit`: everything that ledger files prove, with no daemon and no network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from p2pfed.cli.audit_files import federation_of, opened_ledger
from p2pfed.cli.moments import first_moment, last_moment
from p2pfed.cli.session import json_option, print_json, read_bytes
from p2pfed.core.audit import AuditReport, Findings, Focus, Severity, audit_ledger
from p2pfed.core.audit.catalogue import explanation_of
from p2pfed.core.audit.compare import compare_ledgers
from p2pfed.core.audit.counters import compare_counters, parse_counters
from p2pfed.core.ids import FederationId, JobId, parse_centre_name, parse_position
from p2pfed.errors import InputError
from p2pfed.shell.collector import rarely_collecting

EXIT_CODES: Final = {Severity.ERROR: 1, Severity.WARNING: 7, Severity.NOTICE: 0, None: 0}
"""By the heaviest finding."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    expected: FederationId | None
    focus: Focus
    at_ms: int | None
    jobs: int


@click.command()
@click.argument("ledgers", nargs=-1, metavar="LEDGER…", type=click.Path(path_type=Path))
@click.option(
    "--charter",
    "charter_path",
    type=click.Path(path_type=Path),
    help="The charter of the federation that the ledgers must be of.",
)
@click.option("--centre", help="Only what this centre did.")
@click.option("--job", help="Only what is about this job, and its whole story.")
@click.option(
    "--since", metavar="TIME", callback=first_moment, help="Only what was done from this time on."
)
@click.option(
    "--until", metavar="TIME", callback=last_moment, help="Only what was done up to this time."
)
@click.option(
    "--at",
    metavar="TIME",
    callback=last_moment,
    help="Balances of this time; later blocks don't count.",
)
@click.option(
    "--counters",
    "counter_paths",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Compare with what a daemon says: p2pfed balance --counters --json. Sets --at.",
)
@click.option("--explain", "code", metavar="CODE", help="Say what a code means, and stop.")
@click.option(
    "--html", "html_path", type=click.Path(path_type=Path), help="Write the report as a page."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Processes that verify signatures; 0 means one for each core.",
)
@json_option
@click.pass_context
def audit(
    context: click.Context,
    ledgers: tuple[Path, ...],
    charter_path: Path | None,
    centre: str | None,
    job: str | None,
    since: int | None,
    until: int | None,
    at: int | None,
    counter_paths: tuple[Path, ...],
    code: str | None,
    html_path: Path | None,
    jobs: int,
    *,
    as_json: bool,
) -> None:
    """Audit exported ledgers: what they prove, and what they don't.

    Every block, claim, lease, usage record and balance is checked and computed again from the file
    alone. With several LEDGERs each is audited, and each pair compared: one extends the other, or
    the contradiction is shown with both signed statements. Without --charter a ledger only shows
    that it agrees with the charter inside it.

    The exit code is 0 if nothing is wrong (notices may stand), 7 if the ledger is valid and
    complete and shows that a member broke a rule, 1 if it is not valid or not complete.

    Times are dates (2026-11-25), dates with times (2026-11-25T12:00:00, UTC), or ms since 1970.
    """
    if code is not None:
        _explain(code, as_json=as_json)
        return
    if not ledgers:
        raise click.UsageError("name a ledger file, or a code with --explain")
    focus = Focus(
        centre=None if centre is None else parse_centre_name(centre, where="--centre"),
        job=None if job is None else JobId(parse_position(job)),
        since_ms=since or 0,
        until_ms=Focus().until_ms if until is None else until,
    )
    expected = None if charter_path is None else federation_of(charter_path)
    stated = [parse_counters(read_bytes(p, "the counters"), str(p)) for p in counter_paths]
    for one in stated:
        if at not in (None, one.cut_ms):
            raise click.UsageError("counters are compared at their own time, one time for all")
        at = one.cut_ms
    reports, comparison = _audit_all(ledgers, _Wanted(expected, focus, at, jobs))
    for report in reports:
        for one in stated:
            compare_counters(one, report, comparison)
    _report(reports, comparison, html_path, trusted=expected is not None, as_json=as_json)
    found = [report.severity for report in reports]
    found += [finding.severity for finding in comparison.kept]
    heaviest = next((severity for severity in Severity if severity in found), None)
    context.exit(EXIT_CODES[heaviest])


def _audit_all(paths: Sequence[Path], wanted: _Wanted) -> tuple[list[AuditReport], Findings]:
    from p2pfed.cli.audit_workers import opener_for

    comparison = Findings()
    reports = []
    with ExitStack() as stack, rarely_collecting():
        opener = opener_for(wanted.jobs, stack)
        sources = [stack.enter_context(opened_ledger(path)) for path in paths]
        for source in sources:
            report = audit_ledger(
                source,
                expected=wanted.expected,
                focus=wanted.focus,
                at_ms=wanted.at_ms,
                opener=opener,
            )
            reports.append(report)
        for number, one in enumerate(sources):
            for other in sources[number + 1 :]:
                compare_ledgers(one, other, comparison)
    return reports, comparison


def _report(
    reports: Sequence[AuditReport],
    comparison: Findings,
    html_path: Path | None,
    *,
    trusted: bool,
    as_json: bool,
) -> None:
    if html_path is not None:
        from p2pfed.cli.audit_page import render_page
        from p2pfed.cli.streams import save

        page = render_page(reports, comparison.kept).encode()
        save([page], html_path, what="report", force=True)
    if as_json:
        from p2pfed.cli.audit_json import audit_to_json

        print_json(audit_to_json(reports, comparison.kept))
        return
    from p2pfed.cli.audit_show import print_audit

    print_audit(reports, comparison.kept, trusted=trusted)
    if html_path is not None:
        click.echo(f"wrote {html_path}")


def _explain(code: str, *, as_json: bool) -> None:
    told = explanation_of(code)
    if told is None:
        raise InputError(
            "audit-code-unknown",
            f"no audit reports the code {code!r}",
            remedy="docs/reference/audit-codes.md lists all of them",
        )
    if as_json:
        print_json(
            {
                "code": code,
                "severity": told.severity.value,
                "meaning": told.meaning,
                "advice": told.advice,
            }
        )
        return
    click.echo(f"{code} ({told.severity.value})\n  {told.meaning}\n  {told.advice}")
