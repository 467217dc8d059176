"""`p2pfed invite` and `p2pfed join`: how a newcomer finds the federation.

An invitation is a JSON file with the charter and the addresses of the members. It holds no secret
and grants nothing: the votes do. The newcomer keeps it beside its configuration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from p2pfed.cli.council import deadline_ms, deadline_option, reason_option, show_proposal
from p2pfed.cli.session import (
    Session,
    config_option,
    daemon_options,
    json_option,
    pass_session,
    print_json,
    read_text,
    refuse_existing,
)
from p2pfed.core.charter import decode_charter, parse_card
from p2pfed.core.kinds import ADDRESS
from p2pfed.errors import InputError
from p2pfed.shell.invitation import CONTACTS_FILE
from p2pfed.store.files import write_durable

FORMAT: Final = 1
_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("card", type=_PATH)
@click.option(
    "-o",
    "--output",
    type=_PATH,
    default=Path("invitation.json"),
    help="Where to write the invitation.  [invitation.json]",
)
@click.option("--again", is_flag=True, help="It was a member before and left or was removed.")
@reason_option
@deadline_option
@json_option
@daemon_options
@pass_session
def invite(
    session: Session,
    card: Path,
    output: Path,
    reason: str,
    deadline: str | None,
    *,
    again: bool,
    as_json: bool,
) -> None:
    """Propose to admit the newcomer that CARD is of, and write it an invitation."""
    text = read_text(card, "the card")
    parse_card(text, where=str(card))
    refuse_existing(output)
    with session.client() as client:
        found = client.propose(
            "readmit" if again else "admit",
            card=text,
            reason=reason,
            deadline_ms=deadline_ms(deadline),
        )
        content = {"p2pfed_invitation": FORMAT, **client.invitation()}
    write_durable(output, (json.dumps(content, indent=2) + "\n").encode(), mode=0o644)
    show_proposal(found, as_json=as_json)
    if not as_json:
        click.echo(f"send {output} to {found['subject']}: it runs 'p2pfed join' with it")


@click.command()
@click.argument("invitation", type=_PATH)
@json_option
@config_option
@pass_session
def join(session: Session, invitation: Path, *, as_json: bool) -> None:
    """Take up an INVITATION: put charter and contacts where this centre's daemon finds them."""
    config = session.config()
    charter, contacts = _parse(read_text(invitation, "the invitation"), str(invitation))
    found = decode_charter(charter, where=str(invitation))
    refuse_existing(config.charter)
    write_durable(config.charter, charter, mode=0o644)
    config.state.mkdir(parents=True, exist_ok=True)
    write_durable(
        config.state / CONTACTS_FILE, (json.dumps(contacts, indent=2) + "\n").encode(), mode=0o644
    )
    if as_json:
        print_json({"federation": found.name, "federation_id": found.federation_id.hex()})
        return
    click.echo(f"{config.charter}: the charter of {found.name}, {found.federation_id.hex()}")
    click.echo("compare that id with the one a member tells you, then start 'p2pfed daemon'")


def _parse(text: str, where: str) -> tuple[bytes, dict[str, str]]:
    """Charter and contacts of an invitation.

    Raises:
        InputError: `invitation-form`.
    """
    try:
        content = json.loads(text)
        charter = bytes.fromhex(content["charter"])
        contacts = {str(c): str(a) for c, a in content["contacts"].items()}
        known = content["p2pfed_invitation"] == FORMAT
    except (ValueError, KeyError, TypeError, AttributeError):
        known, charter, contacts = False, b"", {}
    if not known or any(ADDRESS.parse(address) is None for address in contacts.values()):
        raise InputError(
            "invitation-form",
            "not an invitation of this version",
            where=where,
            remedy="ask a member to run 'p2pfed invite' with your card.json",
        )
    return charter, contacts
