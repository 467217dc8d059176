"""`p2pfed doctor` and `p2pfed reconcile`: is all well here, and does it all add up?"""

from __future__ import annotations

import time

import click

from p2pfed.cli.session import (
    Session,
    config_option,
    daemon_options,
    json_option,
    pass_session,
    print_json,
)
from p2pfed.cli.tables import print_table
from p2pfed.shell.schema import parse_duration_s


@click.command()
@json_option
@config_option
@pass_session
def doctor(session: Session, *, as_json: bool) -> int:
    """Look at key, charter, disk, daemon, clock, peers, offers and batch system.

    Run it as the daemon's account. Exits with 1 if anything failed; a warning is no failure.
    """
    config = session.config()
    from p2pfed.shell.doctor import Level, examine

    lines = list(examine(config))
    failed = sum(line.level is Level.FAILED for line in lines)
    if as_json:
        fields = ("check", "found", "remedy")
        rows = [
            {"level": line.level.value, **{name: getattr(line, name) for name in fields}}
            for line in lines
        ]
        print_json({"ok": not failed, "lines": rows})
    else:
        for line in lines:
            click.echo(f"{line.level.value:8}{line.check}: {line.found}")
            if line.remedy:
                click.echo(f"        to do: {line.remedy}")
    return int(bool(failed))


@click.command()
@click.option(
    "--since", default="7d", metavar="DURATION", help="How far back guests are compared.  [7d]"
)
@json_option
@daemon_options
@pass_session
def reconcile(session: Session, since: str, *, as_json: bool) -> int:
    """Compare what Slurm accounted for guests with what the ledger says of them.

    Names every gap and duplicate, and exits with 1 if there is one.
    """
    back_s = parse_duration_s(int(since) if since.isdecimal() else since)
    with session.client() as client:
        found = client.reconcile(since_ms=(int(time.time()) - back_s) * 1000)
    if as_json:
        print_json(found)
    else:
        click.echo(
            f"{found['claims']} claims in the ledger, {found['native_jobs']} jobs in accounting, "
            f"{len(found['gaps'])} differences"
        )
        if found["gaps"]:
            print_table(
                ("KIND", "CLAIM", "JOB", "NAME", "WHAT"),
                (
                    (g["kind"], g["claim_id"], g["native_id"], g["native_name"], g["text"])
                    for g in found["gaps"]
                ),
                empty="",
            )
    return int(bool(found["gaps"]))
