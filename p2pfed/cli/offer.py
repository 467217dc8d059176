"""`p2pfed offer`: grants capacity to the federation, and takes it back."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from p2pfed.cli.federation import print_offers
from p2pfed.cli.session import (
    Session,
    daemon_options,
    json_option,
    pass_session,
    print_json,
    read_text,
)
from p2pfed.errors import InputError
from p2pfed.shell.schema import parse_duration_s


@click.group()
def offer() -> None:
    """Open, close and list this centre's offers."""


@offer.command("open")
@click.argument("template", required=False)
@click.option("--nodes", type=click.IntRange(1), help="Fewer or more nodes than the template.")
@click.option("--for", "duration", metavar="DURATION", help="End it after this time (12h, 2d).")
@click.option(
    "--terms",
    type=click.Path(path_type=Path),
    help="Open with the terms in this JSON file instead of a template.",
)
@json_option
@daemon_options
@pass_session
def open_offer(
    session: Session,
    template: str | None,
    nodes: int | None,
    duration: str | None,
    terms: Path | None,
    *,
    as_json: bool,
) -> None:
    """Make capacity available, as TEMPLATE in centre.toml says."""
    wanted: dict[str, object] = {}
    if (template is None) == (terms is None):
        raise click.UsageError("name a template, or give --terms")
    if terms is not None:
        if nodes is not None or duration is not None:
            raise click.UsageError("--terms holds all of it: leave --nodes and --for out")
        wanted["terms"] = _terms(terms)
    else:
        wanted["template"] = template
        if nodes is not None:
            wanted["nodes"] = nodes
        if duration is not None:
            wanted["until_ms"] = int(time.time() * 1000) + _seconds(duration) * 1000
    with session.client() as client:
        opened = client.open_offer(**wanted)
    if as_json:
        print_json({"offer": opened})
    else:
        click.echo(f"opened {opened['offer_id']}")


def _terms(path: Path) -> object:
    try:
        return json.loads(read_text(path, "the terms"))
    except ValueError as error:
        raise InputError("request-json", f"this is not JSON: {error}", where=str(path)) from None


def _seconds(duration: str) -> int:
    return parse_duration_s(int(duration) if duration.isdecimal() else duration)


@offer.command("close")
@click.argument("offers", nargs=-1, metavar="[OFFER]...")
@click.option("--all", "all_offers", is_flag=True, help="Close every offer of this centre.")
@click.option("--reason", default="", help="Shown to the others.")
@json_option
@daemon_options
@pass_session
def close_offer(
    session: Session, offers: tuple[str, ...], reason: str, *, all_offers: bool, as_json: bool
) -> None:
    """Take capacity back: no new claims; what was accepted goes on."""
    if bool(offers) == all_offers:
        raise click.UsageError("name the offers to close, or give --all")
    closed: list[str] = []
    with session.client() as client:
        for offer_id in offers or (None,):
            closed += client.close_offers(offer_id, reason=reason)
    if as_json:
        print_json({"closed": closed})
    else:
        click.echo(f"closed {', '.join(closed)}" if closed else "no offer was open")


@offer.command("list")
@json_option
@daemon_options
@pass_session
def list_offers(session: Session, *, as_json: bool) -> None:
    """List this centre's offers, closed ones too."""
    with session.client() as client:
        found, templates = client.own_offers()
    if as_json:
        print_json({"offers": found, "templates": templates})
    else:
        print_offers(found, empty="this centre has made no offer: p2pfed offer open TEMPLATE")
        for template in templates:
            if template["why"]:
                click.echo(f"template {template['name']} offers nothing now: {template['why']}")
