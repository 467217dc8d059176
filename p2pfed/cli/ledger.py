"""`p2pfed ledger`: what the federation wrote, as a file."""

from __future__ import annotations

import click

from p2pfed.cli.disclose import check_disclosure_file
from p2pfed.cli.ledger_export import export
from p2pfed.cli.ledger_show import diff, show
from p2pfed.cli.ledger_verify import verify
from p2pfed.cli.prove import check_proof_file, prove_extension


@click.group()
def ledger() -> None:
    """Export the ledger, look into an export, verify and compare exports."""


for _command in (
    export,
    show,
    diff,
    verify,
    prove_extension,
    check_proof_file,
    check_disclosure_file,
):
    ledger.add_command(_command)
