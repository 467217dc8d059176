"""`p2pfed ledger export`: the ledger itself, a cut of it, or its usage records for others."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from p2pfed.cli.audit_files import opened_ledger
from p2pfed.cli.moments import first_moment, last_moment
from p2pfed.cli.session import Session, daemon_options, json_option, pass_session, print_json
from p2pfed.cli.streams import save
from p2pfed.cli.tables import show_bytes
from p2pfed.cli.usage_formats import WRITERS, Ledger
from p2pfed.core.audit import FileSource, LedgerSource, Severity, audit_ledger
from p2pfed.core.audit.usage import UsageLine
from p2pfed.core.blocks import BlockHeader, peek_header
from p2pfed.core.charter import decode_charter
from p2pfed.core.ids import BlockId, ClaimId, FeedKey
from p2pfed.core.ledgerfile import Entry, Trailer, write_ledger
from p2pfed.core.units import hlc_cut
from p2pfed.errors import InputError, StateError


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Read this ledger file instead of asking the daemon.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["ledger", *WRITERS]),
    default="ledger",
    show_default=True,
    help="The ledger itself, or its usage records: OGF UR 2.0, APEL jobs, APEL GPUs, a table.",
)
@click.option("--centre", help="Only usage records of which this centre is home or host.")
@click.option(
    "--since", metavar="TIME", callback=first_moment, help="Only usage that ended from then on."
)
@click.option(
    "--until",
    metavar="TIME",
    callback=last_moment,
    help="Usage that ended up to then; of the ledger itself, the blocks up to then.",
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@json_option
@daemon_options
@pass_session
def export(
    session: Session,
    file: Path,
    source: Path | None,
    form: str,
    centre: str | None,
    since: int | None,
    until: int | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Write the ledger, or its usage records, to FILE ('-': standard output).

    A ledger file needs no trust in who made it: 'p2pfed audit', or anyone's own program after
    docs/reference/ledger-file.md, checks all of it. With --until it holds the blocks up to a time,
    which is a whole ledger again.

    Usage records are written from a ledger that was audited first. Raw amounts are as the host
    states them, agreed amounts as its home countersigned them; points are what that is worth by the
    federation's rates.
    """
    if form == "ledger" and (centre is not None or since is not None):
        raise click.UsageError("--centre and --since choose usage records: give a --format")
    if form == "ledger" and source is None and until is None:
        with session.client() as client:
            size = save(client.ledger(), file, force=force, what="ledger")
    else:
        with _ledger(session, source) as found:
            if form == "ledger":
                pieces = _cut(found, until)
            else:
                kept = _usage(found, centre, since, until)
                text = WRITERS[form](*kept)
                pieces = (piece.encode() for piece in text)
            size = save(pieces, file, force=force, what=form)
    if str(file) == "-":
        return
    if as_json:
        print_json({"file": str(file), "bytes": size})
    else:
        click.echo(f"wrote {show_bytes(size)} to {file}")


@contextmanager
def _ledger(session: Session, path: Path | None) -> Iterator[LedgerSource]:
    """The ledger file, or a copy of what the daemon holds."""
    if path is not None:
        with opened_ledger(path) as source:
            yield source
        return
    with tempfile.TemporaryFile(prefix="p2pfed-export-") as copy, session.client() as client:
        _copy(client.ledger(), copy)
        yield FileSource(copy, "the daemon's ledger")


def _copy(pieces: Iterator[bytes], file: BinaryIO) -> None:
    file.writelines(pieces)


class _Cut:
    """A block of a cut, as the writer of ledger files takes it."""

    def __init__(self, header: BlockHeader, data: bytes) -> None:
        self.feed: FeedKey = header.feed
        self.seq_num: int = header.seq_num
        self.block_id: BlockId = header.block_id
        self.data = data


def _cut(source: LedgerSource, until: int | None) -> Iterator[bytes]:
    """The file of the blocks up to a time: with each block all that it names is there too."""
    entries = source.entries()
    charter = next(entries)
    assert isinstance(charter, Entry)
    limit = None if until is None else hlc_cut(until)

    def blocks() -> Iterator[_Cut]:
        for entry in entries:
            if isinstance(entry, Trailer):
                return
            header = peek_header(entry.data)
            if limit is None or header.time <= limit:
                yield _Cut(header, entry.data)

    return write_ledger(charter.data, blocks())


def _usage(
    source: LedgerSource, centre: str | None, since: int | None, until: int | None
) -> tuple[list[UsageLine], Ledger]:
    kept: dict[ClaimId, UsageLine] = {}

    def keep(line: UsageLine) -> None:
        ended_ms = line.end.ended_ms
        if (
            (centre is None or centre in (line.host, line.job_id.centre))
            and (since is None or ended_ms >= since)
            and (until is None or ended_ms <= until)
        ):
            kept[line.claim_id] = line

    report = audit_ledger(source, sink=keep, samples=0)
    if report.severity is Severity.ERROR or report.ledger.federation is None:
        first = next(f for f in report.ledger.findings if f.severity is Severity.ERROR)
        raise StateError(
            "ledger-not-valid",
            f"the ledger is not valid and complete: {first}",
            where=source.name,
            remedy="run 'p2pfed audit' on it",
        )
    charter = next(source.entries())
    if not isinstance(charter, Entry):
        raise InputError("ledger-magic", "the ledger holds no charter", where=source.name)
    rules = decode_charter(charter.data).rules
    ledger = Ledger(report.ledger.federation.hex(), report.ledger.name, rules, report.ledger.at_ms)
    lines = sorted(kept.values(), key=lambda line: (line.end.ended_ms, line.claim_id))
    return lines, ledger
