"""What `p2pfed rules replay` does with an exported ledger, and how it tells the result."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import click

from p2pfed.cli.session import print_json
from p2pfed.cli.tables import print_table, show_balance, show_duration
from p2pfed.core.blocks import Block, decode_stored
from p2pfed.core.charter import decode_charter
from p2pfed.core.ledgerfile import Entry, Trailer, read_ledger
from p2pfed.core.rules import Rules
from p2pfed.simulate.history import History, read_history
from p2pfed.simulate.rematch import CentreChange, compare
from p2pfed.simulate.report.rematch_page import render_rematch


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result: what was replayed, what the rules change, and what that would have meant."""

    history: History
    changed: tuple[str, ...]
    centres: tuple[CentreChange, ...]

    def page(self, title: str) -> str:
        """One HTML page with plots."""
        return render_rematch(title, self.history, self.changed, self.centres)


def compare_ledger(ledger: bytes, proposed: Mapping[str, object]) -> Replayed:
    """Replays an export of our own daemon, which has verified every block in it.

    Raises:
        InputError: as `read_ledger`, `decode_charter` and `Rules.from_mapping`.
    """
    entries = read_ledger(io.BytesIO(ledger))
    first = next(entries)
    assert isinstance(first, Entry)
    history = read_history(decode_charter(first.data), _blocks(entries))
    rules = Rules.from_mapping(proposed)
    held = history.rules.to_mapping()
    changed = tuple(
        f"{name}: {json.dumps(held[name])} to {json.dumps(value)}"
        for name, value in rules.to_mapping().items()
        if value != held[name]
    )
    return Replayed(history, changed, compare(history, rules))


def _blocks(entries: Iterator[Entry | Trailer]) -> Iterator[Block]:
    for entry in entries:
        if isinstance(entry, Entry):
            yield decode_stored(entry.data)


def tell_json(result: Replayed) -> None:
    """Prints the result as JSON."""
    print_json(
        {
            "jobs": len(result.history.jobs),
            "left_out": result.history.left_out,
            "changes": list(result.changed),
            "centres": [dataclasses.asdict(centre) for centre in result.centres],
        }
    )


def tell(result: Replayed) -> None:
    """Prints the result for people."""
    click.echo(
        f"{len(result.history.jobs)} jobs replayed, {result.history.left_out} that never ran left"
        f" out; proposed: {'; '.join(result.changed) or 'nothing new'}"
    )
    print_table(
        ("CENTRE", "JOBS>", "WAIT NOW>", "WAIT THEN>", "LESS>", "MORE>", "NOT STARTED>", "THEN>",
         "BALANCE NOW>", "THEN>"),
        (
            (
                c.centre,
                c.jobs,
                show_duration(c.wait_held_ms),
                show_duration(c.wait_proposed_ms),
                c.less,
                c.more,
                c.waiting_held,
                c.waiting_proposed,
                show_balance(c.balance_held),
                show_balance(c.balance_proposed),
            )
            for c in result.centres
        ),
        empty="no centres",
    )  # fmt: skip
