"""Guests that wait for a person's word, and what was decided here."""

from __future__ import annotations

import click

from p2pfed.cli.control import reason_option
from p2pfed.cli.session import Session, daemon_options, json_option, pass_session, print_json
from p2pfed.cli.tables import print_table, show_duration, show_mib, show_time


@click.command()
@json_option
@daemon_options
@pass_session
def requests(session: Session, *, as_json: bool) -> None:
    """List guests' jobs that wait for 'p2pfed approve' or 'p2pfed deny'."""
    with session.client() as client:
        found = client.requests()
        now_ms = 0 if as_json else client.status()["now_ms"]
    if as_json:
        print_json({"requests": found})
        return
    print_table(
        ("CLAIM", "HOME", "JOB", "SIZE>", "MEMORY>", "WALLTIME>", "CLASS", "RULE", "LEFT>"),
        (
            (
                view["claim_id"],
                view["home"],
                view["job_id"],
                f"{view['nodes']} x {view['cores_per_node']}",
                show_mib(view["memory_mib_per_node"]),
                show_duration(view["walltime_s"] * 1000),
                view["work_class"],
                view["rule"],
                show_duration(max(0, view["until_ms"] - now_ms)),
            )
            for view in found
        ),
        empty="nobody waits for an answer",
    )


@click.command()
@click.argument("claim_id", metavar="CLAIM")
@reason_option
@daemon_options
@pass_session
def approve(session: Session, claim_id: str, reason: str) -> None:
    """Let a guest's job come that waits under CLAIM."""
    with session.client() as client:
        client.answer(claim_id, approve=True, reason=reason)
    click.echo(f"{claim_id} is approved")


@click.command()
@click.argument("claim_id", metavar="CLAIM")
@reason_option
@daemon_options
@pass_session
def deny(session: Session, claim_id: str, reason: str) -> None:
    """Decline a guest's job that waits under CLAIM."""
    with session.client() as client:
        client.answer(claim_id, approve=False, reason=reason)
    click.echo(f"{claim_id} is denied")


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, help="At most so many.  [100]"
)
@json_option
@daemon_options
@pass_session
def decisions(session: Session, limit: int, *, as_json: bool) -> None:
    """List what was decided here alone, by whom and why, newest first."""
    with session.client() as client:
        found = client.decisions(limit=limit)
    if as_json:
        print_json({"decisions": found})
        return
    print_table(
        ("TIME", "WHO", "DECISION", "ABOUT", "WHY"),
        (
            (show_time(row["at_ms"]), row["who"], row["action"], row["subject"], row["why"])
            for row in found
        ),
        empty="nothing was decided yet",
    )
