"""`p2pfed ledger verify`: audits an exported ledger, with no daemon and no network.

The exit code is 0 if there is no error (warnings may stand), 1 if there is one, 2 if the file or
the charter can't be opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console
from rich.progress import wrap_file
from rich.table import Table

from p2pfed.cli.audit_files import ledger_file
from p2pfed.core.audit import Report, Severity, verify_ledger
from p2pfed.core.charter import decode_charter
from p2pfed.core.ids import FederationId
from p2pfed.core.ledgerfile import Reader
from p2pfed.errors import InputError
from p2pfed.shell.collector import rarely_collecting

_PROGRESS_BYTES = 8 << 20
"""A smaller file is done before a progress bar is of use."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--charter",
    "charter_path",
    type=click.Path(path_type=Path),
    help="The charter of the federation that the ledger must be of.",
)
@click.option(
    "--at", "at_ms", type=click.IntRange(min=0), help="Balances of this time, in ms since 1970."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.pass_context
def verify(
    context: click.Context, file: Path, charter_path: Path | None, at_ms: int | None, as_json: bool
) -> None:
    """Audit the exported ledger FILE (- for standard input).

    Checks signatures, chains, times, acks and completeness, names every record that counts for
    nothing, and computes the balances from the file alone. Without --charter it shows only that the
    ledger agrees with the charter inside it.
    """
    expected = None if charter_path is None else _federation_of(charter_path)
    with _opened(file) as (source, size):
        report = _verify(source, size, expected, at_ms)
    if as_json:
        click.echo(json.dumps(report_to_json(report), indent=2))
    else:
        print_report(report, Console(highlight=False), trusted=expected is not None)
    context.exit(0 if report.ok else 1)


def _verify(
    source: BinaryIO, size: int, expected: FederationId | None, at_ms: int | None
) -> Report:
    console = Console(stderr=True)
    with rarely_collecting():
        if size < _PROGRESS_BYTES or not console.is_terminal:
            return verify_ledger(source, expected=expected, at_ms=at_ms)
        return _verify_shown(source, size, console, expected, at_ms)


def _verify_shown(
    source: BinaryIO,
    size: int,
    console: Console,
    expected: FederationId | None,
    at_ms: int | None,
) -> Report:
    with wrap_file(source, size, description="verifying", console=console, transient=True) as shown:
        reader: Reader = shown
        return verify_ledger(reader, expected=expected, at_ms=at_ms)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size; size 0 for standard input."""
    with ledger_file(path) as source:
        size = 0
        if source.seekable():
            size = source.seek(0, os.SEEK_END)
            source.seek(0)
        yield source, size


def _federation_of(path: Path) -> FederationId:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return decode_charter(data, where=str(path)).federation_id


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file that can't be opened or read."""
    return InputError(
        "file-unreadable",
        f"the file can't be read: {error.strerror}",
        where=str(path),
        remedy="check the path and its permissions",
    )


def report_to_json(report: Report) -> dict[str, object]:
    """The report as docs/reference/ledger-file.md describes it: ids in hex, times in ms."""
    return {
        "ok": report.ok,
        "federation": None if report.federation is None else report.federation.hex(),
        "name": report.name,
        "at_ms": report.at_ms,
        "blocks": report.blocks,
        "admitted": report.admitted,
        "records": report.records,
        "inert": report.inert,
        "view_digest": None if report.view_digest is None else report.view_digest.hex(),
        "cut_digest": None if report.cut_digest is None else report.cut_digest.hex(),
        "frontier": [
            {
                "centre": feed.centre,
                "epoch": feed.epoch,
                "seq_num": head.seq_num,
                "block_id": head.block_id.hex(),
            }
            for feed, head in report.frontier.items()
        ],
        "balances": [
            {
                "centre": line.centre,
                "contribution": line.standing.contribution,
                "usage": line.standing.usage,
                "credit_line": line.standing.credit_line,
                "balance_ppm": line.balance_ppm,
            }
            for line in report.balances
        ],
        "findings": [
            {
                "severity": finding.severity.value,
                "code": finding.code,
                "where": finding.where,
                "text": finding.text,
            }
            for finding in report.findings
        ],
        "counts": dict(sorted(report.counts.items())),
    }


def print_report(report: Report, console: Console, *, trusted: bool) -> None:
    """The report for people."""
    print_head(report, console, trusted=trusted)
    _print_findings(report, console)
    errors = sum(finding.severity is Severity.ERROR for finding in report.findings)
    if report.ok:
        console.print("the ledger is valid and complete", style="green")
    else:
        console.print(f"the ledger does not verify: {errors} errors listed", style="red")


def print_head(report: Report, console: Console, *, trusted: bool) -> None:
    """Whose ledger it is, how much it holds, and every balance."""
    if report.federation is not None:
        origin = "as expected" if trusted else "by its own charter"
        console.print(f"federation  {report.name} {report.federation.hex()[:16]} ({origin})")
        console.print(
            f"blocks      {report.blocks}, of which {report.admitted} admitted; "
            f"{report.records} records, of which {report.inert} inert"
        )
    if report.view_digest is not None:
        console.print(f"digest      {report.view_digest.hex()[:16]} over {_feeds(report)}")
    if report.balances:
        console.print(_balance_table(report))


def _feeds(report: Report) -> str:
    return "1 feed" if len(report.frontier) == 1 else f"{len(report.frontier)} feeds"


def _balance_table(report: Report) -> Table:
    moment = datetime.fromtimestamp(report.at_ms / 1000, UTC)
    table = Table(title=f"balances at {moment:%Y-%m-%d %H:%M:%S} UTC, in points")
    table.add_column("centre")
    for heading in ("contribution", "usage", "credit line", "balance"):
        table.add_column(heading, justify="right")
    for line in report.balances:
        standing = line.standing
        table.add_row(
            line.centre,
            f"{standing.contribution:,}",
            f"{standing.usage:,}",
            f"{standing.credit_line:,}",
            f"{line.balance_ppm / 10_000:+.4f} %",
        )
    return table


def _print_findings(report: Report, console: Console) -> None:
    for finding in report.findings:
        style = "red" if finding.severity is Severity.ERROR else "yellow"
        console.print(str(finding), style=style, markup=False, soft_wrap=True)
    listed: dict[str, int] = {}
    for finding in report.findings:
        listed[finding.code] = listed.get(finding.code, 0) + 1
    for code, count in sorted(report.counts.items()):
        if count > listed.get(code, 0):
            console.print(f"and {count - listed.get(code, 0)} more of {code}", markup=False)
