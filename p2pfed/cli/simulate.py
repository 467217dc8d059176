"""`p2pfed simulate`: would a federation have helped, by the centres' own histories?"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfed.cli.session import json_option, print_json
from p2pfed.cli.simulate_options import Words, check_page, make_study, parse_sweep
from p2pfed.cli.simulate_show import print_report, print_variants, watch_study, watch_variants
from p2pfed.store.files import write_durable

if TYPE_CHECKING:
    from p2pfed.simulate.report.model import Report
    from p2pfed.simulate.variants import Variant

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("traces", nargs=-1, metavar="[NAME=]TRACE...")
@click.option(
    "--synthetic",
    multiple=True,
    metavar="NAME=PROCS[:JOBS[:LOAD]]",
    help="A centre with a made-up workload (Lublin-Feitelson).  [5000 jobs, load 0.7]",
)
@click.option(
    "--procs",
    multiple=True,
    metavar="[CENTRE=]N",
    help="Processors of a centre, where its trace does not say.",
)
@click.option(
    "--zone",
    multiple=True,
    metavar="[CENTRE=]ZONE",
    help="Time zone of what sacct printed: Europe/Stockholm.  [UTC]",
)
@click.option("--only", default="", metavar="NAMES", help="Centres that take part.  [all]")
@click.option(
    "--align",
    type=click.Choice(["calendar", "weekday", "offset"]),
    default="weekday",
    help="How traces meet in time: as they were; by weekday; all at once.  [weekday]",
)
@click.option("--offset", multiple=True, metavar="CENTRE=TIME", help="Shift a trace by so much.")
@click.option(
    "--scale", "load", type=float, default=1.0, help="So many times the jobs per time.  [1]"
)
@click.option("--jitter", default="0", metavar="TIME", help="Jobs come up to this later.  [0]")
@click.option(
    "--inflate", type=float, default=1.0, help="Requested times are multiplied by this.  [1]"
)
@click.option("--seed", type=int, default=0, help="Of the jitter and of made-up workloads.  [0]")
@click.option(
    "--warmup",
    default="",
    metavar="TIME",
    help="Jobs before this are not counted.  [a week, or a tenth of the traces if less]",
)
@click.option("--rules", type=_PATH, help="Rules of the federation (rules.toml).")
@click.option(
    "--credit-days",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Credit line of each centre, in days of its machine.  [0.25]",
)
@click.option("--delay", default="200ms", metavar="TIME", help="Of a message.  [200ms]")
@click.option("--share", multiple=True, metavar="[CENTRE=]PART", help="Part for guests.  [1]")
@click.option(
    "--kept-free", multiple=True, metavar="[CENTRE=]N", help="Idle processors not offered.  [0]"
)
@click.option(
    "--window",
    multiple=True,
    metavar="[CENTRE=]DAYS HH:MM-HH:MM",
    help="When capacity is offered, UTC: 'mon-fri 18:00-08:00'.  [always]",
)
@click.option(
    "--after-wait", multiple=True, metavar="[CENTRE=]TIME", help="Jobs go out after this.  [0]"
)
@click.option(
    "--long-guests", multiple=True, metavar="[CENTRE=]TIME", help="Longer guests are long.  [1h]"
)
@click.option(
    "--long-share", multiple=True, metavar="[CENTRE=]PART", help="Part for long guests.  [0.5]"
)
@click.option(
    "--min-balance",
    multiple=True,
    metavar="[CENTRE=]PPM",
    help="Guests of centres below this balance are refused.  [as the rules say]",
)
@click.option("--all-idle", is_flag=True, help="Guests may stay beyond EASY's shadow.")
@click.option("--preemptible", is_flag=True, help="Guests give way at once; debtors are served.")
@click.option("--checkpoint", is_flag=True, help="Guests that give way lose no work.")
@click.option(
    "--free-rider", "free_riders", multiple=True, metavar="CENTRE", help="It only consumes."
)
@click.option("--leaves", multiple=True, metavar="CENTRE@DAY", help="It leaves on that day.")
@click.option("--speed", multiple=True, metavar="[CENTRE=]FACTOR", help="Its machine's speed.  [1]")
@click.option(
    "--compare", nargs=2, type=_PATH, metavar="RULES RULES", help="Two rules files side by side."
)
@click.option(
    "--sweep",
    multiple=True,
    metavar="NAME=V1,V2",
    help="All these values of an option (in s, ms, parts) or of a rule; repeat to combine.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Replays at a time.  [one per core]")
@click.option("--html", type=_PATH, metavar="FILE", help="Write the report, with pictures.")
@json_option
def simulate(
    compare: tuple[Path, Path] | None,
    sweep: tuple[str, ...],
    workers: int | None,
    html: Path | None,
    *,
    as_json: bool,
    **words: object,
) -> None:
    """Replay the centres' own histories: alone, federated, and as one common queue.

    A TRACE is a file in Standard Workload Format (.swf, .swf.gz) or what 'sacct --parsable2'
    printed, one for each centre, called by its file name or by NAME. TIME is 300, 5m, 1h30m or 2d;
    what may name a centre holds for all others without.
    """
    check_page(html)
    known = {field.name for field in fields(Words)}
    asked = Words(**{name: value for name, value in words.items() if name in known})  # type: ignore[arg-type]
    if compare or sweep:
        _simulate_variants(asked, compare, sweep, workers or 0, html, as_json=as_json)
    else:
        _simulate_one(asked, html, as_json=as_json)


def _simulate_one(words: Words, html: Path | None, *, as_json: bool) -> None:
    from p2pfed.simulate.report.page import render_page
    from p2pfed.simulate.study import run_study

    study = make_study(words)
    with watch_study() as watch:
        report = run_study(study, watch)
    if html is not None:
        write_durable(html, render_page(report).encode(), mode=0o644)
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report, html)


def _simulate_variants(
    words: Words,
    compare: tuple[Path, Path] | None,
    sweep: tuple[str, ...],
    workers: int,
    html: Path | None,
    *,
    as_json: bool,
) -> None:
    from p2pfed.simulate.report.model import FORMAT
    from p2pfed.simulate.report.page_variants import render_variants
    from p2pfed.simulate.variants import run_variants

    variants = _variants(words, compare, sweep)
    with watch_variants(len(variants)) as done:
        reports = run_variants(variants, workers=workers, done=done)
    named: list[tuple[str, Report]] = [
        (variant.label, report) for variant, report in zip(variants, reports, strict=True)
    ]
    if html is not None:
        write_durable(html, render_variants(named).encode(), mode=0o644)
    if as_json:
        listed = [{"label": label, "report": report.to_json()} for label, report in named]
        print_json({"format": FORMAT, "variants": listed})
    else:
        print_variants(named, html)


def _variants(
    words: Words, compare: tuple[Path, Path] | None, sweep: tuple[str, ...]
) -> tuple[Variant, ...]:
    """One base for each rules file, each under all combinations of the sweeps."""
    import dataclasses

    from p2pfed.cli.rules_file import read_rules
    from p2pfed.simulate.variants import Variant, spread_out

    study = make_study(words)
    bases = [Variant(label="", study=study)]
    if compare:
        bases = []
        for path in compare:
            federation = dataclasses.replace(study.federation, rules=read_rules(path))
            bases.append(
                Variant(label=str(path), study=dataclasses.replace(study, federation=federation))
            )
    return spread_out(bases, [parse_sweep(text) for text in sweep])
