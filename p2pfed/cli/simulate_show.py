"""How a replay is shown: progress on standard error, the summary at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from p2pfed.cli.tables import console, print_table
from p2pfed.draw.svg import HOUR_S, duration
from p2pfed.simulate.report.model import WORLDS, Figures, Report
from p2pfed.simulate.report.wording import fairness_words, losers_of, percent, verdict

_LINE_EVERY_S: Final = 30.0


@contextmanager
def watch_study() -> Iterator[Callable[[float], None]]:
    """Shows how far one replay is: a bar on a terminal, else a line every half minute."""
    with _shown(1.0, "replaying") as show:
        yield show


@contextmanager
def watch_variants(count: int) -> Iterator[Callable[[int], None]]:
    """Shows how many of the replays are done."""
    with _shown(float(count), f"replaying {count} variants") as show:
        yield show


@contextmanager
def _shown(total: float, what: str) -> Iterator[Callable[[float], None]]:
    watcher = console(stderr=True)
    if not watcher.is_terminal:
        yield _lines(total, what)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=watcher, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _lines(total: float, what: str) -> Callable[[float], None]:
    began_s = said_s = time.monotonic()

    def show(done: float) -> None:
        nonlocal said_s
        now_s = time.monotonic()
        if now_s - said_s < _LINE_EVERY_S or not 0 < done < total:
            return
        said_s = now_s
        left_s = (now_s - began_s) * (total / done - 1)
        click.echo(f"{what}: {done / total * 100:.0f} %, left {duration(left_s)}", err=True)

    return show


def print_report(report: Report, html: Path | None) -> None:
    """The summary of one replay, for people."""
    click.echo(report.title)
    for name, counts in report.traces.items():
        click.echo(f"  {name}: {counts}")
    rows = [(c.centre, c.worlds, str(c.processors)) for c in report.centres]
    rows.append(("all", report.worlds, str(sum(c.processors for c in report.centres))))
    _print_waits(rows)
    _print_use(rows)
    _print_accounts(report)
    _print_fairness(report)
    click.echo(verdict(report))
    if report.way_wait_ppm is not None and report.way_slowdown_ppm is not None:
        click.echo(
            f"Of the way from isolated to ideal: {percent(report.way_wait_ppm)} in mean wait,"
            f" {percent(report.way_slowdown_ppm)} in bounded slowdown."
        )
    for centre in losers_of(report):
        click.echo(f"  see whether {centre.centre} gains by --long-share {centre.centre}=0.25")
    if html is not None:
        click.echo(f"report: {html}")


_Row = tuple[str, Mapping[str, Figures], str]
"""Name, figures by world, processors."""


def _print_waits(rows: Sequence[_Row]) -> None:
    print_table(
        ("CENTRE", "PROCS>", "JOBS>", "MEAN WAIT ALONE>", "FEDERATED>", "IDEAL>",
         "P95 WAIT ALONE>", "FEDERATED>"),
        (
            (
                name,
                procs,
                worlds["isolated"].jobs,
                *(duration(figures.wait_mean_s) for figures in _by_world(worlds)),
                *(duration(figures.wait_p95_s) for figures in _by_world(worlds)[:2]),
            )
            for name, worlds, procs in rows
        ),
        empty="no centres",
    )  # fmt: skip


def _print_use(rows: Sequence[_Row]) -> None:
    print_table(
        ("CENTRE", "MEDIAN WAIT ALONE>", "FEDERATED>", "SLOWDOWN ALONE>", "FEDERATED>", "IDEAL>",
         "USE ALONE>", "FEDERATED>"),
        (
            (
                name,
                *(duration(figures.wait_median_s) for figures in _by_world(worlds)[:2]),
                *(f"{figures.slowdown_mean:.1f}" for figures in _by_world(worlds)),
                *(percent(figures.utilisation_ppm) for figures in _by_world(worlds)[:2]),
            )
            for name, worlds, _ in rows
        ),
        empty="no centres",
    )  # fmt: skip


def _print_accounts(report: Report) -> None:
    print_table(
        ("CENTRE", "SENT OUT>", "HOSTED>", "GIVEN>", "TAKEN>", "BALANCE>",
         "HELD UP>", "ON AVERAGE>", "CUT SHORT>", "LOST core-h>"),
        (
            (
                centre.centre,
                centre.exported,
                centre.hosted,
                centre.accounts[-1].contribution // HOUR_S if centre.accounts else None,
                centre.accounts[-1].usage // HOUR_S if centre.accounts else None,
                f"{centre.accounts[-1].balance_ppm / 10_000:+.1f} %" if centre.accounts else None,
                centre.delayed,
                duration(centre.delayed_mean_s) if centre.delayed else None,
                centre.preempted,
                centre.wasted_s // HOUR_S,
            )
            for centre in report.centres
        ),
        empty="no centres",
    )  # fmt: skip


def _print_fairness(report: Report) -> None:
    print_table(
        ("CENTRE", "SATISFACTION ALONE>", "FEDERATED>", "IDEAL>", "DID FOR OTHERS core-h>",
         "OTHERS DID core-h>", "RETURN>"),
        (
            (
                centre.centre,
                *(percent(f.satisfaction_ppm) for f in _by_world(centre.worlds)),
                centre.hosted_s // HOUR_S,
                centre.exported_s // HOUR_S,
                _part(centre.return_ppm),
            )
            for centre in report.centres
        ),
        empty="no centres",
    )  # fmt: skip
    click.echo(fairness_words(report))


def _by_world(worlds: Mapping[str, Figures]) -> list[Figures]:
    return [worlds[name] for name in WORLDS]


def print_variants(variants: Sequence[tuple[str, Report]], html: Path | None) -> None:
    """One line for each variant."""
    print_table(
        ("VARIANT", "MEAN WAIT ALONE>", "FEDERATED>", "IDEAL>", "OF THE WAY>", "SLOWDOWN>",
         "OF THE WAY>", "FAIRNESS>", "LOST>", "WORSE OFF"),
        (
            (
                label,
                *(duration(figures.wait_mean_s) for figures in _by_world(report.worlds)),
                _part(report.way_wait_ppm),
                f"{report.worlds['federated'].slowdown_mean:.1f}",
                _part(report.way_slowdown_ppm),
                percent(report.fairness_ppm["federated"]),
                percent(report.wasted_ppm),
                ", ".join(c.centre for c in losers_of(report)) or "none",
            )
            for label, report in variants
        ),
        empty="no variants",
    )  # fmt: skip
    if html is not None:
        click.echo(f"report: {html}")


def _part(ppm: int | None) -> str | None:
    return None if ppm is None else percent(ppm)
