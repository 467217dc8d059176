"""`p2pfed ledger`: what the federation wrote, as a file, and its audit."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfed.cli.ledger_verify import verify
from p2pfed.cli.session import Session, daemon_options, json_option, pass_session, print_json
from p2pfed.cli.streams import save
from p2pfed.cli.tables import show_bytes


@click.group()
def ledger() -> None:
    """Export the ledger, and verify an export."""


@ledger.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@json_option
@daemon_options
@pass_session
def export(session: Session, file: Path, *, force: bool, as_json: bool) -> None:
    """Write everything that this daemon holds to FILE ('-': standard output).

    The file needs no trust in who made it: 'p2pfed ledger verify', or anyone's own program after
    docs/reference/ledger-file.md, checks all of it.
    """
    with session.client() as client:
        size = save(client.ledger(), file, force=force, what="ledger")
    if str(file) == "-":
        return
    if as_json:
        print_json({"file": str(file), "bytes": size})
    else:
        click.echo(f"wrote {show_bytes(size)} to {file}")


ledger.add_command(verify)
