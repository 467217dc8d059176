"""`p2pfed catchup`: begin with a cosigned checkpoint in place of the whole history."""

from __future__ import annotations

import os

import click

from p2pfed.cli.moments import show_moment
from p2pfed.cli.session import Session, config_option, json_option, pass_session, print_json
from p2pfed.cli.tables import show_bytes
from p2pfed.core.charter import decode_charter
from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError


@click.command()
@click.option("--from", "giver", metavar="CENTRE", help="Ask only this member.")
@json_option
@config_option
@pass_session
def catchup(session: Session, giver: str | None, *, as_json: bool) -> None:
    """Take up the newest cosigned checkpoint, so that this centre need not wait for the history.

    For a newcomer that a vote has admitted, or a centre that was away for long; its daemon must not
    run. A member gives the checkpoint, and the charter shows that a majority of the members signed
    it. At its next start the daemon goes on from there, works at once, and fetches and checks the
    history behind that.
    """
    from p2pfed.shell.catching_up import catch_up
    from p2pfed.shell.config import read_passphrase, require_file
    from p2pfed.shell.invitation import read_contacts
    from p2pfed.shell.tls import Tls
    from p2pfed.store.keyfile import load_key
    from p2pfed.store.lock import FolderLock

    config = session.config()
    key = load_key(config.key.file, passphrase=read_passphrase(config.key, os.environ))
    require_file(config.charter, "the charter", "take up an invitation with 'p2pfed join'")
    charter = decode_charter(config.charter.read_bytes(), where=str(config.charter))
    pins = dict(charter.keys())
    peers = {card.name: card.address for card in charter.founders if card.name != config.name}
    for told in (read_contacts(config.state), config.peers):
        peers.update((c, a) for c, a in told.items() if c in peers)
    if giver is not None:
        chosen = CentreName(giver)
        if chosen not in peers:
            raise InputError(
                "catchup-giver",
                f"the charter names no other centre {giver!r}",
                remedy=f"only founders can be asked: {', '.join(sorted(peers))}",
            )
        peers = {chosen: peers[chosen]}
    with FolderLock(config.lock):
        found = catch_up(config, charter, Tls(key.private, pins), peers)
    bearings = found.bearings
    if as_json:
        print_json(
            {
                "giver": found.giver,
                "cut_ms": bearings.cut_ms,
                "state_hash": bearings.state_hash.hex(),
                "signers": list(bearings.signers),
                "shipped_bytes": found.shipped_bytes,
                "state_bytes": sum(len(section.body) for section in bearings.sections),
                "lacking_blocks": found.lacking_blocks,
            }
        )
        return
    click.echo(
        f"took up the checkpoint of {show_moment(bearings.cut_ms)} from {found.giver} "
        f"({show_bytes(found.shipped_bytes)}), signed by {', '.join(bearings.signers)}"
    )
    click.echo(f"state {bearings.state_hash.hex()}: compare it with what a member tells you")
    click.echo(
        f"now start 'p2pfed daemon': it works from there, and fetches and checks "
        f"{found.lacking_blocks} older blocks"
    )
