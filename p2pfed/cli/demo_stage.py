"""How a demonstration is shown: live on a terminal, in plain lines elsewhere, tables at the end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from p2pfed.cli.tables import (
    console,
    print_fields,
    print_table,
    short,
    show_balance,
    show_duration,
)
from p2pfed.shell.demo.board import Board, Stage
from p2pfed.shell.demo.report import DemoReport

_EVENTS: Final = 8
_BAR: Final = 24
_STYLES: Final = {
    "queued": "yellow",
    "matched": "cyan",
    "started": "blue",
    "ended": "magenta",
    "completed": "green",
    "other": "red",
}


class PlainStage:
    """One line for everything that happens."""

    def __init__(self, watcher: Console) -> None:
        """The clock of the lines starts now."""
        self._watcher = watcher
        self._began_s = time.monotonic()

    def say(self, text: str) -> None:
        """Prints the line with the seconds since the start."""
        self._watcher.print(f"{time.monotonic() - self._began_s:6.1f} s  {text}")

    def mention(self, text: str) -> None:
        """Nothing: it would be too much."""

    def show(self, board: Board) -> None:
        """Nothing: the lines say it."""


class LiveStage:
    """A display that is drawn anew as things change."""

    def __init__(self, live: Live) -> None:
        """Shows what happens within a live display that is running."""
        self._live = live
        self._began_s = time.monotonic()
        self._events: deque[str] = deque(maxlen=_EVENTS)
        self._board: Board | None = None

    def say(self, text: str) -> None:
        """Adds the line to the last events."""
        self._events.append(f"{time.monotonic() - self._began_s:6.1f} s  {text}")
        self._draw()

    def mention(self, text: str) -> None:
        """Also an event."""
        self.say(text)

    def show(self, board: Board) -> None:
        """Draws the board."""
        self._board = board
        self._draw()

    def _draw(self) -> None:
        parts: list[Table | Text] = []
        if self._board is not None:
            parts += [_centres(self._board), _states(self._board)]
        parts += [Text(event, style="dim", overflow="ellipsis", no_wrap=True)
                  for event in self._events]  # fmt: skip
        self._live.update(Group(*parts))


def _centres(board: Board) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("CENTRE")
    for heading in ("OFFERED", "IN USE"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for heading in ("OWN JOBS", "HOSTED", "RESTARTS"):
        table.add_column(heading, justify="right")
    for line in board.centres.values():
        offered = line.offered_cores
        table.add_row(
            line.name,
            f"{offered} of {line.cores} cores" if offered else "nothing: its own queue is full",
            str(line.busy_cores) if offered else "",
            ProgressBar(total=offered, completed=line.busy_cores, width=_BAR) if offered else "",
            str(line.posted or ""),
            str(line.hosted or ""),
            str(line.restarts or ""),
        )
    return table


def _states(board: Board) -> Text:
    text = Text(f"jobs {board.done}/{board.jobs_total}  ")
    scale = max(1, board.jobs_total)
    for state, count in board.states.items():
        text.append("█" * round(count * 2 * _BAR / scale), style=_STYLES[state])
    for state, count in board.states.items():
        if count:
            text.append(f"  {count} {state}", style=_STYLES[state])
    return text


@contextmanager
def open_stage(*, stderr: bool) -> Iterator[Stage]:
    """Where to show what happens: live on a terminal, else in plain lines.

    Args:
        stderr: use standard error; standard output is for the result alone.
    """
    watcher = console(stderr=stderr)
    if not watcher.is_terminal:
        yield PlainStage(watcher)
        return
    with Live(console=watcher, refresh_per_second=8, transient=True) as live:
        yield LiveStage(live)


def print_report(report: DemoReport) -> None:
    """The result, for people."""
    print_table(
        ("JOB", "HOME", "HOST", "CORES>", "WAITED>", "RAN>", "EXIT>", "OUTPUT", "VERIFIED"),
        (
            (
                job.job_id,
                job.home,
                job.host,
                job.cores,
                show_duration(job.waited_ms),
                show_duration(job.ran_ms),
                job.exit_code,
                job.output,
                "yes" if job.verified else "NO",
            )
            for job in report.jobs
        ),
        empty="no jobs",
    )
    print_table(
        ("CENTRE", "BALANCE>", "GIVEN>", "TAKEN>", "CREDIT LINE>"),
        (
            (
                line.centre,
                show_balance(line.balance_ppm),
                line.contribution,
                line.usage,
                line.credit_line,
            )
            for line in report.balances
        ),
        empty="no balances",
    )
    print_table(
        ("CENTRE", "HOSTED>", "RESTARTS>", "BLOCKS>", "RECORDS>", "LEDGER", "DIGEST"),
        (
            (
                centre.centre,
                centre.hosted,
                centre.restarts,
                centre.blocks,
                centre.records,
                "verified" if centre.ledger_ok else "NOT VALID",
                short(centre.ledger_digest),
            )
            for centre in report.centres
        ),
        empty="no ledgers",
    )
    if report.decisions:
        print_table(
            ("DECISION", "HOW", "HELD"),
            ((line.what, line.how, "yes" if line.ok else "NO") for line in report.decisions),
            empty="",
        )
    _print_verdict(report)


def _print_verdict(report: DemoReport) -> None:
    print_fields(
        [
            ("common view", f"{short(report.view_digest)} at round {report.round}"),
            ("took", show_duration(report.elapsed_ms)),
            ("centres kept in", report.folder),
        ]
    )
    if report.folder is not None:
        click.echo(f"start one again: p2pfed daemon --config {report.folder}/alpha/centre.toml")
    for failure in report.failures:
        click.echo(f"failed: {failure}", err=True)
    if report.ok:
        click.echo(
            f"all {len(report.jobs)} jobs ran exactly once, at another centre, with the right"
            f" output; all {len(report.centres)} ledgers verify and agree"
        )
