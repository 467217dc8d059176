"""`p2pfed prove` and `p2pfed ledger check-proof`: one job's records, proven by the charter."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click

from p2pfed.cli.ledger_verify import unreadable
from p2pfed.cli.session import Session, daemon_options, json_option, pass_session
from p2pfed.cli.streams import save
from p2pfed.cli.tables import show_bytes
from p2pfed.core.charter import decode_charter
from p2pfed.core.ids import JobId, parse_position
from p2pfed.core.ledgerfile import Entry, read_ledger
from p2pfed.core.proof import Proven, Prover, check_proof


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

    It holds the blocks about the job and a checkpoint that a majority of the founders signed.
    Whoever has the charter checks it with 'p2pfed ledger check-proof': no ledger, no network.
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
    charter = None
    try:
        with ledger.open("rb") as source:
            for entry in read_ledger(source):
                if not isinstance(entry, Entry):
                    break
                if prover is None:
                    charter = decode_charter(entry.data, where=str(ledger))
                    prover = Prover(charter, job_id)
                else:
                    prover.read(entry.data)
    except OSError as error:
        raise unreadable(ledger, error) from error
    assert prover is not None
    assert charter is not None
    proof = prover.proof()
    check_proof(proof, charter)
    return proof


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
    """Check the proof FILE with the charter alone, and print the records that it proves."""
    try:
        charter = decode_charter(charter_path.read_bytes(), where=str(charter_path))
        proven = check_proof(file.read_bytes(), charter)
    except OSError as error:
        raise unreadable(Path(str(error.filename)), error) from error
    if as_json:
        click.echo(json.dumps(_to_json(proven), indent=2))
        return
    moment = datetime.fromtimestamp(proven.cut_ms / 1000, UTC)
    click.echo(
        f"job {proven.job_id}: {len(proven.records)} records, in the ledger at "
        f"{moment:%Y-%m-%d %H:%M:%S} UTC as signed by {', '.join(proven.signers)}"
    )
    for position, _, record in proven.records:
        click.echo(f"  {position}  {record}")


def _to_json(proven: Proven) -> dict[str, object]:
    return {
        "job_id": str(proven.job_id),
        "cut_ms": proven.cut_ms,
        "signers": list(proven.signers),
        "records": [
            {"position": str(position), "time": time, "record": str(record)}
            for position, time, record in proven.records
        ],
    }
