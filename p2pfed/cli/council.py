"""What the members decide: proposals, votes, leaving, and why things stand as they do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfed.cli.session import (
    Session,
    daemon_options,
    json_option,
    pass_session,
    print_json,
    read_text,
)
from p2pfed.cli.tables import print_fields, print_table, short, show_duration, show_list, show_time
from p2pfed.shell.schema import parse_duration_s

if TYPE_CHECKING:
    from p2pfed.shell.answers import MemberView
    from p2pfed.shell.council_answers import ProposalView

reason_option = click.option("--reason", default="", help="Why; everybody reads it.")
deadline_option = click.option(
    "--deadline", metavar="DURATION", help="Time for the votes, such as 3d.  [7d]"
)
_CARD = click.argument("card", type=click.Path(path_type=Path))


def deadline_ms(text: str | None) -> int | None:
    """The duration in milliseconds, None for none."""
    return None if text is None else parse_duration_s(text) * 1000


def show_proposal(found: ProposalView, *, as_json: bool) -> None:
    """Prints one proposal."""
    if as_json:
        print_json({"proposal": found})
        return
    ballots = [
        f"{ballot['centre']} {'yes' if ballot['in_favour'] else 'no'}"
        + ("" if ballot["counts"] else " (does not count)")
        + (f": {ballot['reason']}" if ballot["reason"] else "")
        for ballot in found["ballots"]
    ]
    print_fields(
        [
            ("proposal", found["proposal_id"]),
            ("wants", wants(found)),
            ("by", found["proposer"]),
            ("reason", found["reason"] or None),
            ("state", f"{found['state']}: {found['why']}"),
            ("deadline", show_time(found["deadline_ms"])),
            ("votes needed", f"{found['needed']} of {show_list(found['electors'])}"),
            ("votes", "\n".join(ballots) or "none"),
            ("key", found["public_key"]),
            ("address", found["address"]),
            ("credit line", found["credit_line"]),
        ]
    )
    if found["changes"]:
        print_table(
            ("RULE", "NOW", "PROPOSED"),
            ((c["rule"], c["before"], c["after"]) for c in found["changes"]),
            empty="",
        )


def wants(found: ProposalView) -> str:
    """What a proposal wants, in a few words."""
    match found["kind"]:
        case "rules":
            names = show_list((c["rule"] for c in found["changes"]), empty="nothing")
            return f"change the rules: {names}"
        case "dispute":
            return (
                f"let {found['core_s']} core-s, {found['gpu_s']} gpu-s count of {found['claim_id']}"
            )
        case "admit" | "remove" | "readmit" as kind:
            return f"{kind} {found['subject']}"
        case "replace-key":
            return f"replace the key of {found['subject']}"
        case _:
            return f"give {found['subject']} a new epoch, {found['epoch']}"


@click.command()
@click.option("--all", "everything", is_flag=True, help="Those that are over, too.")
@click.argument("proposal_id", metavar="[PROPOSAL]", required=False)
@json_option
@daemon_options
@pass_session
def proposals(
    session: Session, proposal_id: str | None, *, everything: bool, as_json: bool
) -> None:
    """List what is proposed and how far it has come, or show one PROPOSAL."""
    with session.client() as client:
        if proposal_id is not None:
            show_proposal(client.proposal(proposal_id), as_json=as_json)
            return
        found = client.proposals()
        now_ms = 0 if as_json else client.status()["now_ms"]
    if as_json:
        print_json({"proposals": found})
        return
    wanted = [p for p in found if everything or p["state"] in ("open", "carried", "adopted")]
    print_table(
        ("PROPOSAL", "WANTS", "BY", "STATE", "YES>", "NO>", "NEEDED>", "LEFT>"),
        (
            (
                p["proposal_id"],
                wants(p),
                p["proposer"],
                p["state"],
                sum(b["in_favour"] and b["counts"] for b in p["ballots"]),
                sum(not b["in_favour"] and b["counts"] for b in p["ballots"]),
                p["needed"],
                show_duration(max(0, p["deadline_ms"] - now_ms)),
            )
            for p in wanted
        ),
        empty="nothing is proposed",
    )


@click.group()
def propose() -> None:
    """Propose a decision to the members; the proposer's own vote goes with it."""


def _propose(
    session: Session, kind: str, *, as_json: bool, deadline: str | None, **wanted: object
) -> None:
    with session.client() as client:
        found = client.propose(kind, deadline_ms=deadline_ms(deadline), **wanted)
    show_proposal(found, as_json=as_json)


@propose.command()
@_CARD
@reason_option
@deadline_option
@json_option
@daemon_options
@pass_session
def admit(
    session: Session, card: Path, reason: str, deadline: str | None, *, as_json: bool
) -> None:
    """Admit the newcomer that CARD is of; 'p2pfed invite' also writes it an invitation."""
    text = read_text(card, "the card")
    _propose(session, "admit", card=text, reason=reason, deadline=deadline, as_json=as_json)


@propose.command()
@click.argument("centre")
@reason_option
@deadline_option
@json_option
@daemon_options
@pass_session
def remove(
    session: Session, centre: str, reason: str, deadline: str | None, *, as_json: bool
) -> None:
    """Remove CENTRE from the federation; what it owes and has running stays on record."""
    _propose(session, "remove", subject=centre, reason=reason, deadline=deadline, as_json=as_json)


@propose.command()
@_CARD
@reason_option
@deadline_option
@json_option
@daemon_options
@pass_session
def readmit(
    session: Session, card: Path, reason: str, deadline: str | None, *, as_json: bool
) -> None:
    """Readmit the centre that CARD is of, which left or was removed, with a new epoch."""
    text = read_text(card, "the card")
    _propose(session, "readmit", card=text, reason=reason, deadline=deadline, as_json=as_json)


@propose.command("replace-key")
@_CARD
@reason_option
@deadline_option
@json_option
@daemon_options
@pass_session
def replace_key(
    session: Session, card: Path, reason: str, deadline: str | None, *, as_json: bool
) -> None:
    """Replace the lost key of a member by the one on its new CARD; it begins a new epoch."""
    text = read_text(card, "the card")
    _propose(session, "replace-key", card=text, reason=reason, deadline=deadline, as_json=as_json)


@propose.command("new-epoch")
@click.argument("centre")
@reason_option
@deadline_option
@json_option
@daemon_options
@pass_session
def new_epoch(
    session: Session, centre: str, reason: str, deadline: str | None, *, as_json: bool
) -> None:
    """Let CENTRE, which forked its feed or lost it, begin a new one with the same key."""
    _propose(
        session, "new-epoch", subject=centre, reason=reason, deadline=deadline, as_json=as_json
    )


@propose.command("dispute")
@click.argument("claim_id", metavar="CLAIM")
@click.option("--core-s", type=int, required=True, help="Core-seconds that shall count.")
@click.option("--gpu-s", type=int, default=0, help="GPU-seconds that shall count.  [0]")
@reason_option
@deadline_option
@json_option
@daemon_options
@pass_session
def decide(
    session: Session,
    claim_id: str,
    core_s: int,
    gpu_s: int,
    reason: str,
    deadline: str | None,
    *,
    as_json: bool,
) -> None:
    """Decide the dispute about CLAIM, after its parties could not settle it."""
    _propose(
        session,
        "dispute",
        claim_id=claim_id,
        core_s=core_s,
        gpu_s=gpu_s,
        reason=reason,
        deadline=deadline,
        as_json=as_json,
    )


@propose.command("withdraw")
@click.argument("proposal_id", metavar="PROPOSAL")
@json_option
@daemon_options
@pass_session
def withdraw_proposal(session: Session, proposal_id: str, *, as_json: bool) -> None:
    """Take PROPOSAL, one of this centre's, back."""
    with session.client() as client:
        show_proposal(client.withdraw_proposal(proposal_id), as_json=as_json)


@click.command()
@click.argument("proposal_id", metavar="PROPOSAL")
@click.argument("word", type=click.Choice(["yes", "no"]))
@reason_option
@json_option
@daemon_options
@pass_session
def vote(session: Session, proposal_id: str, word: str, reason: str, *, as_json: bool) -> None:
    """Vote on PROPOSAL, once and for all."""
    with session.client() as client:
        found = client.vote(proposal_id, in_favour=word == "yes", reason=reason)
    show_proposal(found, as_json=as_json)


@click.command()
@click.option("--drain", is_flag=True, help="Guests that are here go on to their end.")
@click.option("--now", is_flag=True, help="End every guest at once.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@reason_option
@json_option
@daemon_options
@pass_session
def leave(
    session: Session, reason: str, *, drain: bool, now: bool, yes: bool, as_json: bool
) -> None:
    """Leave the federation. It needs nobody; coming back takes a readmission by vote."""
    if drain == now:
        raise click.UsageError("give --drain or --now")
    if not yes:
        click.confirm("leave the federation? Only a vote brings this centre back", abort=True)
    with session.client() as client:
        client.set_mode("withdrawn" if now else "draining", reason=reason or "leaving")
        record = client.leave(reason=reason)
        waiting = client.status()["jobs"].get("queued", 0)
        running = client.control()["guests"]
    if as_json:
        print_json({"leave": record, "guests": running, "cancelled": waiting})
        return
    click.echo(f"left by {record}; {waiting} waiting jobs come home, {running} guests run on")
    click.echo("keep the daemon running until guests and own jobs elsewhere have ended")


@click.command()
@click.argument("what", type=click.Choice(["member", "rules"]))
@click.argument("centre", required=False)
@json_option
@daemon_options
@pass_session
def why(session: Session, what: str, centre: str | None, *, as_json: bool) -> None:
    """Tell by which records CENTRE is or is no member, or why these rules hold."""
    if (what == "member") != (centre is not None):
        raise click.UsageError("say: why member CENTRE, or: why rules")
    with session.client() as client:
        found = client.why(centre)
    if as_json:
        print_json(found)
        return
    click.echo(found["fact"])
    for reason in found["reasons"]:
        click.echo(f"  {reason}")


def members_table(found: list[MemberView]) -> None:
    """The table of `p2pfed members`."""
    print_table(
        ("CENTRE", "STATE", "SINCE", "EPOCH>", "BY", "CREDIT LINE>", "ADDRESS", "PUBLIC KEY"),
        (
            (
                m["centre"],
                m["state"],
                show_time(m["since_ms"]) if m["since_ms"] else "-",
                m["epoch"],
                "charter" if m["adopt"] is None else f"votes {show_list(m['votes'])}",
                m["credit_line"],
                m["address"],
                short(m["public_key"]),
            )
            for m in found
        ),
        empty="no members",
    )
