"""This centre's own key, and a new epoch where no vote is possible."""

from __future__ import annotations

import click

from p2pfed.cli.council import reason_option
from p2pfed.cli.session import Session, daemon_options, json_option, pass_session, print_json


@click.group()
def key() -> None:
    """Change this centre's key."""


@key.command("rotate")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@daemon_options
@pass_session
def rotate(session: Session, *, yes: bool, as_json: bool) -> None:
    """Make a new key and go over to it; the old one and the new one sign that it follows.

    Everybody recognises the new key as soon as the record is there. Nothing is restarted.
    """
    if not yes:
        click.confirm("make a new key for this centre and use it from now on?", abort=True)
    with session.client() as client:
        found = client.rotate_key()
    if as_json:
        print_json({"key": found})
        return
    click.echo(f"new key {found['public_key']}, by {found['record']}")
    click.echo(f"fingerprint {found['fingerprint']}")
    click.echo("keep the old key file (.old) until every member was seen, then destroy it")


@click.group()
def epoch() -> None:
    """Begin this centre's feed anew."""


@epoch.command("declare")
@click.option("--number", type=click.IntRange(min=1), help="The epoch.  [the next one]")
@click.option("--yes", is_flag=True, help="Don't ask.")
@reason_option
@json_option
@daemon_options
@pass_session
def declare(session: Session, reason: str, number: int | None, *, yes: bool, as_json: bool) -> None:
    """Begin a new epoch without a vote: of two members, while the other is down.

    Wait for the other if you can: what it holds of this centre's blocks then comes back, and no new
    epoch is needed. What was forgotten still binds this centre.
    """
    if not yes:
        click.echo("What this centre promised and forgot still binds it. For a whole lease it")
        click.echo("accepts nothing, and jobs that it had posted are held.")
        click.confirm("begin a new epoch?", abort=True)
    with session.client() as client:
        begun = client.declare_epoch(reason=reason, epoch=number)
    if as_json:
        print_json({"epoch": begun})
        return
    click.echo(f"epoch {begun} has begun; release held jobs one by one: p2pfed jobs")
