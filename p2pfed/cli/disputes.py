"""Disputes about usage: raise one, see them, settle one, collect the evidence."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfed.cli.session import (
    Session,
    daemon_options,
    json_option,
    pass_session,
    print_json,
    read_bytes,
    refuse_existing,
)
from p2pfed.cli.tables import print_table, show_time
from p2pfed.core.evidence import Evidence, bundle, read_evidence
from p2pfed.core.ids import parse_position
from p2pfed.store.files import write_durable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2pfed.shell.council_answers import DisputeView


def _print(found: Sequence[DisputeView]) -> None:
    print_table(
        ("CLAIM", "JOB", "HOME", "HOST", "STATE", "STATED>", "MEASURED>", "COUNTS>", "SETTLE UNTIL",
         "DECIDE UNTIL", "REASON"),
        (
            (
                d["claim_id"],
                d["job_id"],
                d["home"],
                d["host"],
                d["state"],
                f"{d['stated_core_s']} core-s",
                f"{d['measured_core_s']} core-s",
                f"{d['counts_core_s']} core-s",
                show_time(d["settle_until_ms"]),
                show_time(d["decide_until_ms"]),
                d["reason"],
            )
            for d in found
        ),
        empty="nothing is disputed",
    )  # fmt: skip


@click.command()
@json_option
@daemon_options
@pass_session
def disputes(session: Session, *, as_json: bool) -> None:
    """List the disputes about usage, with what counts now."""
    with session.client() as client:
        found = client.disputes()
    print_json({"disputes": found}) if as_json else _print(found)


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--core-s", type=int, help="Core-seconds that this centre measured.  [0]")
@click.option("--gpu-s", type=int, help="GPU-seconds that this centre measured.  [0]")
@click.option("--reason", required=True, help="Why; everybody reads it.")
@json_option
@daemon_options
@pass_session
def dispute(
    session: Session,
    job_id: str,
    core_s: int | None,
    gpu_s: int | None,
    reason: str,
    *,
    as_json: bool,
) -> None:
    """Dispute the usage that a host states of JOB, one of this centre's: the lesser counts."""
    with session.client() as client:
        found = client.dispute(job_id, core_s=core_s, gpu_s=gpu_s, reason=reason)
    print_json({"dispute": found}) if as_json else _print([found])


@click.command()
@click.argument("claim_id", metavar="CLAIM")
@click.option("--core-s", type=int, required=True, help="Core-seconds that shall count.")
@click.option("--gpu-s", type=int, default=0, help="GPU-seconds that shall count.  [0]")
@json_option
@daemon_options
@pass_session
def settle(session: Session, claim_id: str, core_s: int, gpu_s: int, *, as_json: bool) -> None:
    """Offer to settle the dispute about CLAIM: it is settled when home and host say the same."""
    with session.client() as client:
        found = client.settle(claim_id, core_s=core_s, gpu_s=gpu_s)
    print_json({"dispute": found}) if as_json else _print([found])


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the bundle here.")
@click.option(
    "--check", type=click.Path(path_type=Path), help="Verify this bundle; needs no daemon."
)
@json_option
@daemon_options
@pass_session
def evidence(
    session: Session, job_id: str, output: Path | None, check: Path | None, *, as_json: bool
) -> None:
    """Collect or verify all that was signed about JOB, with both sides' measures."""
    if (output is None) == (check is None):
        raise click.UsageError("give -o FILE to collect, or --check FILE to verify")
    position = parse_position(job_id)
    if output is not None:
        refuse_existing(output)
        with session.client() as client:
            ledger = io.BytesIO(b"".join(client.ledger()))
        data = b"".join(bundle(position, ledger))
        write_durable(output, data, mode=0o644)
    else:
        assert check is not None
        data = read_bytes(check, "the evidence")
    found = read_evidence(io.BytesIO(data), position)
    if as_json:
        print_json(_evidence_json(found))
    else:
        _print_evidence(found)


def _evidence_json(found: Evidence) -> dict[str, object]:
    return {
        "federation_id": found.federation,
        "job_id": str(found.job_id),
        "blocks": found.blocks,
        "statements": [
            {
                "record": str(statement.position),
                "by": statement.position.centre,
                "time_ms": statement.time_ms,
                "type": type(statement.record).__name__,
                "says": statement.says(),
            }
            for statement in found.statements
        ],
    }


def _print_evidence(found: Evidence) -> None:
    click.echo(f"federation {found.federation}: {found.blocks} blocks, every signature is good")
    print_table(
        ("RECORD", "BY", "AT", "TYPE", "SAYS"),
        (
            (
                statement.position,
                statement.position.centre,
                show_time(statement.time_ms),
                type(statement.record).__name__,
                ", ".join(f"{name} {value}" for name, value in statement.says().items()),
            )
            for statement in found.statements
        ),
        empty="",
    )
    print_table(
        ("CLAIM", "BY", "MEASURE", "CORE-S>", "GPU-S>"), found.measures(), empty="no measures"
    )
