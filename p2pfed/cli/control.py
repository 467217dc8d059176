"""What a centre's administrators order at any moment: who may come, and who must go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from p2pfed.cli.session import Session, daemon_options, json_option, pass_session, print_json
from p2pfed.errors import StateError
from p2pfed.shell.schema import parse_duration_s

if TYPE_CHECKING:
    from p2pfed.shell.answers import ControlView
    from p2pfed.shell.client import Client

_LOOK_S: Final = 0.5
"""Between two looks while the last guests are awaited."""

reason_option = click.option("--reason", default="", help="Why; kept with the decision.")


def _show(state: ControlView, *, as_json: bool) -> None:
    if as_json:
        print_json(state)
    else:
        click.echo(f"{state['mode']}; {state['guests']} guests run")


@click.command()
@reason_option
@json_option
@daemon_options
@pass_session
def pause(session: Session, reason: str, *, as_json: bool) -> None:
    """Take no new guests; those that are here go on."""
    with session.client() as client:
        _show(client.set_mode("paused", reason=reason), as_json=as_json)


@click.command()
@reason_option
@json_option
@daemon_options
@pass_session
def resume(session: Session, reason: str, *, as_json: bool) -> None:
    """Take guests again, after pause or withdraw."""
    with session.client() as client:
        _show(client.set_mode("open", reason=reason), as_json=as_json)


@click.command()
@click.option("--drain", is_flag=True, help="Close all offers; guests that are here go on.")
@click.option("--now", is_flag=True, help="End every guest, too, and wait until none is left.")
@click.option(
    "--timeout", default="2m", metavar="DURATION", help="Longest wait for the last guest.  [2m]"
)
@reason_option
@json_option
@daemon_options
@pass_session
def withdraw(
    session: Session, timeout: str, reason: str, *, drain: bool, now: bool, as_json: bool
) -> None:
    """Take all capacity back, until 'p2pfed resume'."""
    if drain == now:
        raise click.UsageError("give --drain or --now")
    wait_s = parse_duration_s(int(timeout) if timeout.isdecimal() else timeout)
    with session.client() as client:
        state = client.set_mode("withdrawn" if now else "draining", reason=reason)
        if now:
            state = _until_gone(client, state, wait_s)
    _show(state, as_json=as_json)


def _until_gone(client: Client, state: ControlView, wait_s: int) -> ControlView:
    deadline_s = time.monotonic() + wait_s
    while state["guests"]:
        if time.monotonic() > deadline_s:
            raise StateError(
                "guests-alive",
                f"{state['guests']} guests are not known to be over after {wait_s} s",
                remedy="the daemon goes on ending them; see its log and p2pfed doctor",
            )
        time.sleep(_LOOK_S)
        state = client.control()
    return state


@click.command()
@click.argument("centre")
@reason_option
@json_option
@daemon_options
@pass_session
def block(session: Session, centre: str, reason: str, *, as_json: bool) -> None:
    """Take no jobs of CENTRE, and send it none of the jobs posted from now on."""
    with session.client() as client:
        state = client.block(centre, blocked=True, reason=reason)
    print_json(state) if as_json else click.echo(f"{centre} is blocked")


@click.command()
@click.argument("centre")
@reason_option
@json_option
@daemon_options
@pass_session
def unblock(session: Session, centre: str, reason: str, *, as_json: bool) -> None:
    """Take jobs of CENTRE again."""
    with session.client() as client:
        state = client.block(centre, blocked=False, reason=reason)
    print_json(state) if as_json else click.echo(f"{centre} is not blocked")


@click.command()
@click.argument("job_id", metavar="JOB")
@reason_option
@json_option
@daemon_options
@pass_session
def hold(session: Session, job_id: str, reason: str, *, as_json: bool) -> None:
    """Keep JOB, one of this centre's, from being placed until it is released."""
    with session.client() as client:
        view = client.hold(job_id, held=True, reason=reason)
    print_json({"job": view}) if as_json else click.echo(f"{job_id} is held")


@click.command()
@click.argument("job_id", metavar="JOB")
@reason_option
@json_option
@daemon_options
@pass_session
def release(session: Session, job_id: str, reason: str, *, as_json: bool) -> None:
    """Let JOB be placed again."""
    with session.client() as client:
        view = client.hold(job_id, held=False, reason=reason)
    print_json({"job": view}) if as_json else click.echo(f"{job_id} is released")


@click.command()
@json_option
@daemon_options
@pass_session
def reload(session: Session, *, as_json: bool) -> None:
    """Read centre.toml again; nothing changes if anything in it is wrong."""
    with session.client() as client:
        waiting = client.reload()
    if as_json:
        print_json({"restart": waiting})
    else:
        click.echo("read again")
        if waiting:
            click.echo(f"changes that wait for a restart: {', '.join(waiting)}")
