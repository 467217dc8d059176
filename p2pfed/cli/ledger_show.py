"""`p2pfed ledger show` and `ledger diff`: what stands in ledger files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from p2pfed.cli.audit_files import opened_ledger
from p2pfed.cli.audit_json import finding_to_json
from p2pfed.cli.moments import first_moment, last_moment, show_moment
from p2pfed.cli.session import json_option, print_json
from p2pfed.core.audit import Findings, LedgerSource, Severity
from p2pfed.core.audit.compare import compare_ledgers
from p2pfed.core.audit.intake import block_name, open_entry
from p2pfed.core.audit.story import describe
from p2pfed.core.authority import Authority
from p2pfed.core.blocks import Block
from p2pfed.core.charter import decode_charter
from p2pfed.core.ledgerfile import Trailer
from p2pfed.core.records import Inert, Record
from p2pfed.core.units import hlc_ms
from p2pfed.errors import InputError


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--centre", help="Only this centre's blocks.")
@click.option("--job", help="Only records that name this job or claim.")
@click.option("--since", metavar="TIME", callback=first_moment, help="Only blocks from then on.")
@click.option("--until", metavar="TIME", callback=last_moment, help="Only blocks up to then.")
@click.option("--empty", is_flag=True, help="Heartbeats too: blocks that hold no record.")
@json_option
def show(
    file: Path,
    centre: str | None,
    job: str | None,
    since: int | None,
    until: int | None,
    *,
    empty: bool,
    as_json: bool,
) -> None:
    """Print the blocks and records of the ledger FILE, in its own order.

    Each block is verified, but nothing else is: 'p2pfed audit' does that. With --json each line is
    one block.
    """
    with opened_ledger(file) as source:
        for block in _blocks(source):
            now_ms = hlc_ms(block.time)
            if centre not in (None, block.feed.centre):
                continue
            if not (since or 0) <= now_ms <= (until or now_ms):
                continue
            told = [line for line in _records(block) if job is None or job in line[2] + line[0]]
            if not told and (job is not None or not empty):
                continue
            if as_json:
                print_json(_as_json(block, told))
                continue
            acks = ", ".join(f"{a.feed.centre} {a.head.seq_num}" for a in block.header.acks)
            shown = f"  acks {acks}" if acks else ""
            click.echo(f"{show_moment(now_ms)}  {block_name(block)}{shown}")
            for position, kind, detail in told:
                click.echo(f"    {position}  {kind}  {detail}")


def _blocks(source: LedgerSource) -> Iterator[Block]:
    authority: Authority | None = None
    for entry in source.entries():
        if isinstance(entry, Trailer):
            return
        if authority is None:
            authority = Authority(decode_charter(entry.data))
            continue
        found = open_entry(entry, authority.federation, authority.keys)
        if isinstance(found, InputError):
            click.echo(f"entry {entry.number} is not a valid block: {found}", err=True)
            continue
        authority.take(found)
        yield found


def _records(block: Block) -> list[tuple[str, str, str]]:
    """Position, type and content of each record."""
    return [
        (str(position), *_told(record))
        for position, record in zip(block.positions(), block.records, strict=True)
    ]


def _told(record: Record | Inert) -> tuple[str, str]:
    if isinstance(record, Inert):
        return "inert", f"{record.code}: {record.detail}"
    return type(record).__name__, describe(record)


def _as_json(block: Block, told: list[tuple[str, str, str]]) -> dict[str, object]:
    return {
        "centre": block.feed.centre,
        "epoch": block.feed.epoch,
        "seq_num": block.seq_num,
        "block_id": block.block_id.hex(),
        "time_ms": hlc_ms(block.time),
        "acks": [
            {"centre": a.feed.centre, "epoch": a.feed.epoch, "seq_num": a.head.seq_num}
            for a in block.header.acks
        ],
        "records": [{"position": p, "record": kind, "detail": detail} for p, kind, detail in told],
    }


@click.command()
@click.argument("one", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def diff(context: click.Context, one: Path, other: Path, *, as_json: bool) -> None:
    """Compare two ledger files, taken at different times or places.

    Says of each feed which file holds more of it, or, where they differ, shows both signed headers:
    they prove that the centre wrote two histories. The exit code is 0 if the files agree as far as
    both go, 1 if they contradict each other.
    """
    findings = Findings()
    with opened_ledger(one) as first, opened_ledger(other) as second:
        compare_ledgers(first, second, findings)
    contradicts = any(finding.severity is Severity.ERROR for finding in findings.kept)
    if as_json:
        print_json(
            {
                "contradict": contradicts,
                "findings": [finding_to_json(finding) for finding in findings.kept],
            }
        )
    else:
        for finding in findings.kept:
            click.echo(str(finding))
        if not findings.kept:
            click.echo("both hold the same blocks")
    context.exit(1 if contradicts else 0)
