"""`p2pfed rules`: what holds, what would change, and how it came about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from p2pfed.cli.council import deadline_ms, deadline_option, reason_option, show_proposal
from p2pfed.cli.rules_file import read_changes
from p2pfed.cli.session import Session, daemon_options, json_option, pass_session, print_json
from p2pfed.cli.tables import print_table, show_list, show_time
from p2pfed.store.files import write_durable

_FILE = click.argument("file", type=click.Path(path_type=Path))


@click.group()
def rules() -> None:
    """Show, compare and change the rules that all centres live by."""


@rules.command()
@click.argument("proposal_id", metavar="[PROPOSAL]", required=False)
@json_option
@daemon_options
@pass_session
def show(session: Session, proposal_id: str | None, *, as_json: bool) -> None:
    """Show the rules that hold, or those of PROPOSAL."""
    with session.client() as client:
        found = client.rules(proposal_id)
    if as_json:
        print_json({"rules": found})
        return
    print_table(
        ("RULE", "VALUE"), ((name, _text(value)) for name, value in found.items()), empty=""
    )


def _text(value: object) -> str:
    return str(value) if isinstance(value, int) else json.dumps(value)


def _proposed(held: dict[str, Any], file: Path) -> dict[str, Any]:
    """The rules that hold with the changes of a file, as a mapping that was checked."""
    return read_changes(file, held).to_mapping()


@rules.command()
@_FILE
@json_option
@daemon_options
@pass_session
def diff(session: Session, file: Path, *, as_json: bool) -> None:
    """Show what the rules in FILE (or of a proposal of that id) change; FILE may hold a few."""
    with session.client() as client:
        held = client.rules()
        found = _proposed(held, file) if file.exists() else client.rules(str(file))
    changed = [(n, held[n], v) for n, v in found.items() if v != held[n]]
    if as_json:
        print_json({"changes": [{"rule": n, "before": b, "after": a} for n, b, a in changed]})
        return
    print_table(
        ("RULE", "NOW", "THEN"),
        ((name, _text(before), _text(after)) for name, before, after in changed),
        empty="nothing changes",
    )


@rules.command()
@_FILE
@reason_option
@deadline_option
@json_option
@daemon_options
@pass_session
def propose(
    session: Session, file: Path, reason: str, deadline: str | None, *, as_json: bool
) -> None:
    """Propose the rules in FILE; what it leaves out stays as it is."""
    with session.client() as client:
        wanted = _proposed(client.rules(), file)
        found = client.propose(
            "rules", rules=wanted, reason=reason, deadline_ms=deadline_ms(deadline)
        )
    show_proposal(found, as_json=as_json)


@rules.command()
@json_option
@daemon_options
@pass_session
def history(session: Session, *, as_json: bool) -> None:
    """List every decision that was adopted, with its votes and what it changed."""
    with session.client() as client:
        found = client.versions()
    if as_json:
        print_json({"versions": found})
        return
    print_table(
        ("VERSION>", "SINCE", "ROUND>", "KIND", "ABOUT", "PROPOSAL", "VOTES", "CHANGES"),
        (
            (
                f"{v['number']}{' (now)' if v['in_force'] else ''}",
                show_time(v["start_ms"]) if v["start_ms"] else "charter",
                v["start_round"],
                v["kind"],
                v["subject"] or "-",
                v["proposal_id"],
                show_list(v["votes"]),
                show_list(f"{c['rule']} {c['before']} -> {c['after']}" for c in v["changes"]),
            )
            for v in found
        ),
        empty="",
    )


@rules.command()
@click.argument("target", metavar="PROPOSAL|FILE")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots here.")
@json_option
@daemon_options
@pass_session
def replay(session: Session, target: str, html: Path | None, *, as_json: bool) -> None:
    """Match this federation's recorded history again under proposed rules.

    Tells who would have waited less or more and what the balances would be. Only how jobs are
    matched is replayed: jobs come, and run as long, as they did.
    """
    from p2pfed.cli.rules_replay import compare_ledger, tell, tell_json

    with session.client() as client:
        held = client.rules()
        file = Path(target)
        proposed = _proposed(held, file) if file.exists() else client.rules(target)
        ledger = b"".join(client.ledger())
    result = compare_ledger(ledger, proposed)
    if html is not None:
        write_durable(html, result.page(target).encode(), mode=0o644)
    tell_json(result) if as_json else tell(result)
