"""Small files that the charter alone can check: one job's records, one checkpoint on another."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from p2pfed.cli.audit_files import opened_ledger
from p2pfed.cli.moments import last_moment, show_moment
from p2pfed.cli.session import (
    Session,
    daemon_options,
    json_option,
    pass_session,
    print_json,
    read_bytes,
)
from p2pfed.cli.streams import save
from p2pfed.cli.tables import show_bytes
from p2pfed.core.audit.intake import feed_name
from p2pfed.core.charter import Charter, decode_charter
from p2pfed.core.extension import MAGIC as EXTENSION_MAGIC
from p2pfed.core.extension import Extended, ExtensionProver, check_extension
from p2pfed.core.ids import JobId, parse_position
from p2pfed.core.ledgerfile import Entry
from p2pfed.core.proof import Proven, Prover, check_proof
from p2pfed.errors import InputError


@click.command()
@click.argument("job")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The proof file (default: JOB.proof).",
)
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    help="Make the proof from this export, with no daemon.",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@daemon_options
@pass_session
def prove(
    session: Session, job: str, output: Path | None, ledger: Path | None, *, force: bool
) -> None:
    """Write a small file that proves what the ledger says of JOB.

    It holds the blocks about the job, a checkpoint that a majority of the members signed, and the
    blocks in which members were admitted and keys changed since the charter. Whoever has the
    charter checks it with 'p2pfed ledger check-proof': no ledger, no network.
    """
    job_id = JobId(parse_position(job))
    if ledger is not None:
        proof = _prove(ledger, job_id)
    else:
        with tempfile.TemporaryDirectory() as folder, session.client() as client:
            exported = Path(folder) / "ledger"
            save(client.ledger(), exported, what="ledger")
            proof = _prove(exported, job_id)
    path = output or Path(f"{job}.proof")
    save([proof], path, what="proof", force=force)
    if str(path) != "-":
        click.echo(f"wrote {show_bytes(len(proof))} to {path}")


def _prove(ledger: Path, job_id: JobId) -> bytes:
    prover: Prover | None = None
    for charter, data in _blocks(ledger):
        prover = prover or Prover(charter, job_id)
        prover.read(data)
    if prover is None:
        raise InputError("proof-job", f"the ledger does not hold job {job_id}", where=str(ledger))
    proof = prover.proof()
    check_proof(proof, charter)
    return proof


def _blocks(ledger: Path) -> Iterator[tuple[Charter, bytes]]:
    """Each block of a ledger file, with its charter."""
    charter: Charter | None = None
    with opened_ledger(ledger) as source:
        for entry in source.entries():
            if not isinstance(entry, Entry):
                return
            if charter is None:
                charter = decode_charter(entry.data, where=str(ledger))
            else:
                yield charter, entry.data


@click.command("prove-extension")
@click.argument("ledger", type=click.Path(path_type=Path))
@click.option(
    "--older",
    metavar="TIME",
    callback=last_moment,
    help="Begin at the newest checkpoint up to then (default: the first of all).",
)
@click.option(
    "--later",
    metavar="TIME",
    callback=last_moment,
    help="End at the newest checkpoint up to then (default: the newest of all).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("extension.proof"),
    show_default=True,
    help="The proof file, or -.",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
def prove_extension(
    ledger: Path, older: int | None, later: int | None, output: Path, *, force: bool
) -> None:
    """Prove that a later checkpoint of the exported LEDGER extends an older one.

    Both are signed by a majority of the members. Whoever has the charter checks the file with
    'p2pfed ledger check-proof': every feed of the older is the beginning of that of the later.
    """
    prover: ExtensionProver | None = None
    for charter, data in _blocks(ledger):
        prover = prover or ExtensionProver(charter)
        prover.read(data)
    if prover is None:
        raise InputError("proof-no-checkpoint", "the ledger holds no block", where=str(ledger))
    proof = prover.proof(older, later)
    check_extension(proof, charter)
    save([proof], output, what="proof", force=force)
    if str(output) != "-":
        click.echo(f"wrote {show_bytes(len(proof))} to {output}")


@click.command("check-proof")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--charter",
    "charter_path",
    required=True,
    type=click.Path(path_type=Path),
    help="The charter of the federation.",
)
@json_option
def check_proof_file(file: Path, charter_path: Path, *, as_json: bool) -> None:
    """Check the proof FILE with the charter alone, and print what it proves.

    FILE is one that 'p2pfed prove' or 'p2pfed ledger prove-extension' wrote.
    """
    charter = decode_charter(read_bytes(charter_path, "the charter"), where=str(charter_path))
    data = read_bytes(file, "the proof")
    if data.startswith(EXTENSION_MAGIC):
        _print_extended(check_extension(data, charter), as_json=as_json)
    else:
        _print_proven(check_proof(data, charter), as_json=as_json)


def _print_proven(proven: Proven, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "proof": "job",
                "job_id": str(proven.job_id),
                "cut_ms": proven.cut_ms,
                "signers": list(proven.signers),
                "records": [
                    {"position": str(position), "time": time, "record": str(record)}
                    for position, time, record in proven.records
                ],
            }
        )
        return
    click.echo(
        f"job {proven.job_id}: {len(proven.records)} records, in the ledger at "
        f"{show_moment(proven.cut_ms)} as signed by {', '.join(proven.signers)}"
    )
    for position, _, record in proven.records:
        click.echo(f"  {position}  {record}")


def _print_extended(extended: Extended, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "proof": "extension",
                "cuts_ms": list(extended.cuts_ms),
                "signers": [list(signers) for signers in extended.signers],
                "feeds": [
                    {"centre": feed.centre, "epoch": feed.epoch, "older": older, "later": later}
                    for feed, (older, later) in extended.sizes.items()
                ],
            }
        )
        return
    older, later = (
        f"{show_moment(cut_ms)} as signed by {', '.join(signers)}"
        for cut_ms, signers in zip(extended.cuts_ms, extended.signers, strict=True)
    )
    click.echo(f"the ledger at {later} extends that at {older}")
    for feed, sizes in extended.sizes.items():
        click.echo(f"  {feed_name(feed)}: {sizes[0]} blocks, then {sizes[1]}")
