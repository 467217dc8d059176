"""`p2pfed charter`: the founding document of a federation."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfed.cli.rules_file import read_rules
from p2pfed.cli.session import (
    Session,
    config_option,
    json_option,
    pass_session,
    print_json,
    read_bytes,
    read_text,
    refuse_existing,
)
from p2pfed.cli.tables import print_fields, print_table, show_time
from p2pfed.core.charter import (
    Charter,
    check_charter,
    decode_charter,
    draft_charter,
    encode_charter,
    merge_charters,
    parse_card,
    sign_charter,
)
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError
from p2pfed.shell.config import read_passphrase
from p2pfed.store.files import write_durable
from p2pfed.store.keyfile import CentreKey, load_key

if TYPE_CHECKING:
    from p2pfed.shell.config import CentreConfig

_PATH = click.Path(path_type=Path)


@click.group()
def charter() -> None:
    """Draft, sign and show the founding document."""


@charter.command()
@click.argument("cards", type=_PATH, nargs=-1, required=True)
@click.option("--rules", type=_PATH, help="Rules that differ from the defaults (rules.toml).")
@click.option("--name", default="federation", help="The federation's name.  [federation]")
@click.option(
    "-o",
    "--output",
    type=_PATH,
    default=Path("charter.cbor"),
    help="Where to write it.  [charter.cbor]",
)
def new(cards: tuple[Path, ...], rules: Path | None, name: str, output: Path) -> None:
    """Draft a charter from the CARDS of all founding centres."""
    refuse_existing(output)
    founders = [parse_card(read_text(path, "the card"), where=str(path)) for path in cards]
    draft = draft_charter(founders, read_rules(rules), name, int(time.time() * 1000))
    write_durable(output, encode_charter(draft), mode=0o644)
    click.echo(f"drafted {output}: federation {name}, id {draft.federation_id.hex()}")
    click.echo("next: every founder runs 'p2pfed charter sign' on it, or on a copy")


@charter.command()
@click.argument("file", type=_PATH)
@click.argument("copies", type=_PATH, nargs=-1)
@click.option("-o", "--output", type=_PATH, help="Where to write it.  [FILE]")
@config_option
@pass_session
def sign(session: Session, file: Path, copies: tuple[Path, ...], output: Path | None) -> None:
    """Sign the charter in FILE with this centre's key; take over the signatures of COPIES."""
    config = session.config()
    merged = merge_charters([_load(path) for path in (file, *copies)])
    signed = sign_charter(merged, config.name, load_centre_key(config))
    write_durable(output or file, encode_charter(signed), mode=0o644)
    _tell(signed, output or file)


@charter.command()
@click.argument("copies", type=_PATH, nargs=-1, required=True)
@click.option("-o", "--output", type=_PATH, required=True, help="Where to write it.")
def merge(copies: tuple[Path, ...], output: Path) -> None:
    """Collect the signatures of several COPIES of one charter."""
    merged = merge_charters([_load(path) for path in copies])
    write_durable(output, encode_charter(merged), mode=0o644)
    _tell(merged, output)


@charter.command()
@click.argument("file", type=_PATH)
@json_option
def show(file: Path, *, as_json: bool) -> int:
    """Show the charter in FILE and who has signed it. Exit code 3 while signatures are missing."""
    found = _load(file)
    check = check_charter(found)
    if as_json:
        print_json(
            {
                "name": found.name,
                "federation_id": found.federation_id.hex(),
                "created_ms": found.created_ms,
                "complete": check.complete,
                "founders": [
                    {
                        "centre": card.name,
                        "public_key": card.public_key.hex(),
                        "address": card.address,
                        "credit_line": card.credit_line,
                        "signed": card.name in check.signed,
                    }
                    for card in found.founders
                ],
                "rules": found.rules.to_mapping(),
            }
        )
    else:
        _print(found)
    return 0 if check.complete else 3


def _print(found: Charter) -> None:
    check = check_charter(found)
    print_fields(
        [
            ("federation", found.name),
            ("id", found.federation_id.hex()),
            ("created", show_time(found.created_ms)),
            ("missing signatures", ", ".join(check.missing) or "none"),
        ]
    )
    print_table(
        ("CENTRE", "ADDRESS", "CREDIT LINE>", "SIGNED", "PUBLIC KEY"),
        (
            (
                card.name,
                card.address,
                card.credit_line,
                "yes" if card.name in check.signed else "no",
                card.public_key.hex(),
            )
            for card in found.founders
        ),
        empty="no founders",
    )
    mapping, defaults = found.rules.to_mapping(), Rules().to_mapping()
    print_table(
        ("RULE THAT DIFFERS FROM THE DEFAULT", "VALUE"),
        ((name, value) for name, value in mapping.items() if value != defaults[name]),
        empty="all rules are the defaults",
    )


def _tell(found: Charter, path: Path) -> None:
    check = check_charter(found)
    click.echo(f"{path} is signed by {', '.join(check.signed) or 'nobody'}")
    click.echo(
        "complete: every founder puts it into its folder and starts 'p2pfed daemon'"
        if check.complete
        else f"still missing: {', '.join(check.missing)}"
    )


def _load(path: Path) -> Charter:
    return decode_charter(read_bytes(path, "the charter"), where=str(path))


def load_centre_key(config: CentreConfig) -> CentreKey:
    """The centre's key; asks for its passphrase if it needs one that the configuration lacks.

    Raises:
        InputError: as `load_key` and `read_passphrase`.
    """
    passphrase = read_passphrase(config.key, os.environ)
    try:
        return load_key(config.key.file, passphrase=passphrase)
    except InputError as error:
        if error.code != "key-passphrase" or passphrase is not None or not sys.stdin.isatty():
            raise
    asked: str = click.prompt("passphrase of the key", hide_input=True, err=True)
    return load_key(config.key.file, passphrase=asked.encode())
