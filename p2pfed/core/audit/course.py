"""The common state, brought forward in step with the ledger's own time.

Blocks come in the order of their times. They wait until nothing that was written can still bear on
a stop before them, then they are folded up to it. Stops are the cuts of the rounds that claims
cite, where the matching is computed, and the ends of days, where accounts are read. Whatever else
looks at the ledger (the conduct of each record, patterns) is told of each block as it is folded, so
it sees the registers as they stood.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, cast

from p2pfed.core.accounting import Standing, balance
from p2pfed.core.audit.justify import Justifier, stale_after_ms
from p2pfed.core.audit.knowledge import Knowledge, Known
from p2pfed.core.audit.views import Library, Views
from p2pfed.core.blocks import Block
from p2pfed.core.ids import CentreName, Position
from p2pfed.core.records import Record
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.units import DAY_MS, day_of, hlc_cut, hlc_ms

_NEVER: Final = 1 << 62
WAITING_BLOCKS_MAX: Final = 4096
"""Blocks that wait for a stop; when there are more, those that no stop needs are folded."""

SAMPLES: Final = 150
"""Times at which accounts are read, about."""

Told = list[tuple[Position, Record]]
"""Records that count, and where they stand."""
Handler = Callable[[Any, Position, int], None]
"""Looks at a record that counts: the record, where it stands, its block's time in ms."""
Watch = Callable[[Block, Told, list[tuple[Position, str]]], None]
"""Is told of a folded block: the records that count, and those that are inert, with the reason."""


class AccountLine(NamedTuple):
    """A centre's account at a time, in points, as every daemon had it then."""

    at_ms: int
    centre: CentreName
    standing: Standing
    balance_ppm: int


class Samples:
    """When accounts are read, beside the ends of days: often enough for a picture."""

    def __init__(self, first_ms: int, last_ms: int, rules: Rules, count: int = SAMPLES) -> None:
        span_ms = max(0, last_ms - first_ms)
        self.every_ms = max(rules.round_ms, span_ms // max(1, count))
        self.next_ms = first_ms + self.every_ms if count else _NEVER


class Course:
    """The way of the common state through the ledger.

    Args:
        fresh: makes an empty state.
        library: reads blocks again, for the views of homes that saw less.
        justifier: judges the claims of each round.
        watch: is told of every block that is folded.
        samples: when to read accounts.
    """

    def __init__(
        self,
        fresh: Callable[[], State],
        library: Library,
        justifier: Justifier,
        watch: Watch,
        samples: Samples,
    ) -> None:
        self.state = fresh()
        self.days: list[AccountLine] = []
        self.curve: list[AccountLine] = []
        self._samples = samples
        self._waiting: deque[Block] = deque()
        self._watch = watch
        self._views = Views(library, fresh)
        self._justifier = justifier
        self._knowledge = Knowledge()
        self._folded: Known = {}
        self._day: int | None = None

    def take(self, block: Block) -> None:
        """Takes the next block by time, and goes on as far as that allows."""
        now_ms = hlc_ms(block.time)
        if self._day is None:
            self._day = day_of(now_ms)
        settled_ms = now_ms - stale_after_ms(self.state.rules)
        self._advance(settled_ms)
        self._knowledge.note(block)
        self._justifier.collect(block, self._knowledge)
        self._waiting.append(block)
        if len(self._waiting) > WAITING_BLOCKS_MAX:
            self._fold(settled_ms)

    def finish(self, at_ms: int) -> None:
        """No more blocks come: goes to the end."""
        self._advance(at_ms)
        while (found := self._justifier.next_round()) is not None:
            self._judge(found[1])
        self._pass(at_ms)
        self.days += self._lines(at_ms)
        self.curve += self._lines(at_ms)

    def _advance(self, upto_ms: int) -> None:
        """Passes the stops before this time; folds nothing beyond the last of them."""
        while True:
            round_ms, day_ms, sample_ms = self._stops()
            stop_ms = min(round_ms, day_ms, sample_ms)
            if stop_ms >= upto_ms:
                return
            if stop_ms == round_ms:
                found = self._justifier.next_round()
                assert found is not None
                self._judge(found[1])
                continue
            self._pass(stop_ms)
            lines = list(self._lines(stop_ms))
            if stop_ms == day_ms:
                self._day = day_of(stop_ms) + 1
                self.days += lines
            if stop_ms == sample_ms:
                self._samples.next_ms += self._samples.every_ms
                self.curve += lines

    def _stops(self) -> tuple[int, int, int]:
        """The times of the next round that is cited, end of a day, and sample."""
        found = self._justifier.next_round()
        round_ms = _NEVER if found is None else found[0]
        day_ms = _NEVER if self._day is None else (self._day + 1) * DAY_MS - 1
        return round_ms, day_ms, self._samples.next_ms

    def _judge(self, number: int) -> None:
        self._justifier.judge(number, self._views, self.state, self._folded, self._pass)

    def _pass(self, cut_ms: int) -> None:
        """Brings the common state to the cut."""
        self._fold(cut_ms)
        self.state.settle(cut_ms)
        self.state.forget()

    def _fold(self, cut_ms: int) -> None:
        waiting, limit = self._waiting, hlc_cut(cut_ms)
        while waiting and waiting[0].time <= limit:
            block = waiting.popleft()
            inert = self.state.fold(block)
            self._folded[block.feed] = block.seq_num
            self._watch(block, _counting(block, inert), inert)

    def _lines(self, at_ms: int) -> Iterator[AccountLine]:
        for centre in self.state.members:
            standing = self.state.standing(centre, at_ms)
            yield AccountLine(at_ms, centre, standing, balance(standing))


def _counting(block: Block, inert: list[tuple[Position, str]]) -> Told:
    told = cast(Told, list(zip(block.positions(), block.records, strict=True)))
    if not inert:
        return told
    skipped = {position for position, _ in inert}
    return [(position, record) for position, record in told if position not in skipped]
