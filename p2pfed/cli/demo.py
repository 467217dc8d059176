"""`p2pfed demo`: a whole federation on this machine."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from p2pfed.cli.demo_stage import open_stage, print_report
from p2pfed.cli.session import json_option, print_json
from p2pfed.shell.demo import (
    CENTRES_MAX,
    GOVERNED,
    GOVERNED_CENTRES,
    JOBS_MAX,
    plan_demo,
    run_demo,
)

_JOBS: Final = 12
_GOVERNED_JOBS: Final = 40
"""So many that there are guests everywhere while the members decide."""


@click.command()
@click.option(
    "--centres", type=click.IntRange(2, CENTRES_MAX), default=3, help="Centres, one congested.  [3]"
)
@click.option("--jobs", type=click.IntRange(1, JOBS_MAX), help="Jobs.  [12; with --governance 40]")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Make the centres in DIR and leave them there.",
)
@click.option(
    "--governance",
    is_flag=True,
    help="Five centres whose members decide things meanwhile: a sixth joins, rules change, a key"
    " is lost, one leaves, disputes end.",
)
@json_option
def demo(
    centres: int, jobs: int | None, keep: Path | None, *, governance: bool, as_json: bool
) -> int:
    """Run a whole federation on this machine, with real daemons and real jobs.

    One centre is congested; its jobs run at the others. Ends with the jobs, their checked output,
    the balances, and the verified ledger of every centre. Exit code 0 only if all of that held. A
    daemon that dies meanwhile (try kill -9) is started again.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with open_stage(stderr=as_json) as stage:
        usual = _GOVERNED_JOBS if governance else _JOBS
        plan = plan_demo(GOVERNED_CENTRES if governance else centres, jobs or usual)
        if governance:
            plan = replace(plan, rules=GOVERNED)
        report = run_demo(plan, stage, keep=keep, governance=governance)
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report)
    return 0 if report.ok else 1
