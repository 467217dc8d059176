"""Commands about jobs that were submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import click

from p2pfed.cli.session import Session, daemon_options, json_option, pass_session, print_json
from p2pfed.cli.tables import (
    print_fields,
    print_table,
    show_bytes,
    show_duration,
    show_list,
    show_mib,
    show_time,
)
from p2pfed.shell.answers import JobState
from p2pfed.shell.door import JobScope

if TYPE_CHECKING:
    from p2pfed.shell.answers import AttemptView, Explanation, JobDetail, JobView, ScoreView


@click.command()
@click.option(
    "--scope",
    type=click.Choice(get_args(JobScope)),
    default="own",
    help="This centre's jobs, guests' jobs here, or all.  [own]",
)
@click.option(
    "--state",
    "states",
    type=click.Choice(get_args(JobState)),
    multiple=True,
    help="Only in this state; repeat it for several.",
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=1000, help="At most so many.  [1000]"
)
@json_option
@daemon_options
@pass_session
def jobs(
    session: Session, scope: str, states: tuple[str, ...], limit: int, *, as_json: bool
) -> None:
    """List jobs, newest first."""
    with session.client() as client:
        found = client.jobs(scope=scope, states=states, limit=limit)
    if as_json:
        print_json({"jobs": found})
        return
    print_table(
        ("JOB", "NAME", "STATE", "HOME", "HOST", "SIZE>", "WAITED>", "RAN>", "EXIT>", "REMARK"),
        (
            (
                view["job_id"],
                view["name"],
                view["state"],
                view["home"],
                view["host"],
                f"{view['nodes']} x {view['cores_per_node']}",
                show_duration(view["waited_ms"]),
                show_duration(ran_ms(view)),
                show_exit(view),
                show_remark(view),
            )
            for view in found
        ),
        empty="no jobs",
    )


@click.command()
@click.argument("job_id", metavar="JOB")
@json_option
@daemon_options
@pass_session
def job(session: Session, job_id: str, *, as_json: bool) -> None:
    """Show all that is known about JOB."""
    with session.client() as client:
        found = client.job(job_id)
    if as_json:
        print_json(found)
    else:
        print_detail(found)


@click.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@json_option
@daemon_options
@pass_session
def cancel(session: Session, job_ids: tuple[str, ...], *, as_json: bool) -> None:
    """Cancel jobs, wherever they are. A running one is killed at its host."""
    with session.client() as client:
        found = [client.cancel(job_id) for job_id in job_ids]
    if as_json:
        print_json({"jobs": found})
        return
    for view in found:
        click.echo(f"{view['job_id']} is {view['state']}")


@click.command()
@click.argument("job_id", metavar="JOB")
@json_option
@daemon_options
@pass_session
def explain(session: Session, job_id: str, *, as_json: bool) -> None:
    """Say why JOB is where it is: its score, who is ahead, which offers fit."""
    with session.client() as client:
        found = client.explain(job_id)
    if as_json:
        print_json(found)
    else:
        print_explanation(found)


def ran_ms(view: JobView | AttemptView) -> int | None:
    """How long it ran, once that is over."""
    if view["started_ms"] is None or view["ended_ms"] is None:
        return None
    return view["ended_ms"] - view["started_ms"]


def show_exit(view: JobView | AttemptView) -> str:
    """The exit code, or the signal, or how else it ended."""
    if view["outcome"] is None:
        return "-"
    if view["signal"]:
        return f"signal {view['signal']}"
    if view["outcome"] in ("completed", "failed"):
        return str(view["exit_code"])
    return view["outcome"]


def show_remark(view: JobView) -> str:
    """What a person wants to know besides the state."""
    if view["result"] == "failed":
        return "its result can't be had"
    if view["final"] and view["result"] == "waiting":
        return "its result is on the way"
    return view["reason"] or ""


def _asks(view: JobView) -> str:
    return (
        f"{view['nodes']} nodes x {view['cores_per_node']} cores, {view['gpus_per_node']} GPUs,"
        f" {show_mib(view['memory_mib_per_node'])} each, {show_duration(view['walltime_s'] * 1000)}"
    )


def _sum(score: ScoreView) -> str:
    return (
        f"{score['total']} = class {score['work_class']} + waiting {score['urgency']}"
        f" + balance {score['balance']}"
    )


def print_detail(found: JobDetail) -> None:
    """A job and its attempts, for people."""
    view = found["job"]
    print_fields(
        [
            ("job", view["job_id"]),
            ("name", view["name"]),
            ("state", view["state"]),
            ("reason", view["reason"]),
            ("home", view["home"]),
            ("host", view["host"]),
            (
                "asks",
                _asks(view),
            ),
            (
                "class",
                f"{view['work_class']} on {view['resource_class']}, data {view['data_class']}",
            ),
            ("needs", show_list(view["features"], empty="") or None),
            ("only at", show_list(view["allow"], empty="") or None),
            ("not at", show_list(view["deny"], empty="") or None),
            ("posted", show_time(view["posted_ms"])),
            ("waited", show_duration(view["waited_ms"])),
            ("ran", None if ran_ms(view) is None else show_duration(ran_ms(view))),
            ("ended as", view["outcome"]),
            ("exit", None if view["outcome"] is None else show_exit(view)),
            ("used", None if view["core_s"] is None else f"{view['core_s']} core-seconds"),
            ("memory", None if not view["memory_mib_max"] else show_mib(view["memory_mib_max"])),
            ("payload", show_bytes(view["payload_bytes"])),
            ("result", view["result"]),
        ]
    )
    print_table(
        ("CLAIM", "HOST", "STATE", "CLAIMED", "STARTED", "RAN>", "EXIT>", "USAGE", "REASON"),
        (
            (
                attempt["claim_id"],
                attempt["host"],
                attempt["state"],
                show_time(attempt["claimed_ms"]),
                show_time(attempt["started_ms"]),
                show_duration(ran_ms(attempt)),
                show_exit(attempt),
                "disputed" if attempt["dispute"] else "signed" if attempt["receipt"] else "-",
                attempt["reason"] or "",
            )
            for attempt in found["attempts"]
        ),
        empty="no offer was claimed for it yet",
    )


def print_explanation(found: Explanation) -> None:
    """Why a job is where it is, for people."""
    score = found["score"]
    fields: list[tuple[str, object]] = [
        ("job", found["job_id"]),
        ("state", found["state"]),
        ("in short", found["summary"]),
        ("round", found["round"]),
        ("counts as", found["class_used"]),
    ]
    if score is not None:
        fields.append(
            (
                "score",
                _sum(score),
            )
        )
    fields.append(("matched", found["matched_offer_id"]))
    if found["reserved_offer_id"] is not None:
        since = show_time(found["reserved_from_ms"])
        fields.append(("kept for it", f"{found['reserved_offer_id']}, from {since}"))
    fields.append(("ahead of it", found["ahead"]))
    print_fields(fields)
    if found["ahead_first"]:
        print_table(
            ("AHEAD", "HOME", "SCORE>"),
            ((other["job_id"], other["home"], other["total"]) for other in found["ahead_first"]),
            empty="",
        )
    print_table(
        ("OFFER", "HOST", "NAME", "FITS", "WHY NOT"),
        (
            (
                offer["offer_id"],
                offer["host"],
                offer["name"],
                ("yes" if offer["free_now"] else "when free") if offer["fits"] else "no",
                "; ".join(offer["reasons"]),
            )
            for offer in found["offers"]
        ),
        empty="no capacity is on offer",
    )
