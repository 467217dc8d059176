"""What a node may rely on: its clock, and its memory of what it did.

A centre whose measured offset to its peers exceeds ε, or whose clock was stepped, hands nothing
over, starts nothing and declares nothing lost until it is right again: all of these rest on
comparing its clock with a time that another centre wrote. A centre that started without its
high-water file can take its blocks back from peers, but not its effects: a job that it started may
still run. It stays *careful* for a whole lease: it accepts nothing, starts no earlier accept, and
writes neither Close nor an End that says "not found".
"""

from __future__ import annotations

from p2pfed.core.clock import ClockWatch


class Trust:
    """Whether our own clock and our own memory may be relied on."""

    def __init__(self, clock_error_ms: int) -> None:
        self.watch = ClockWatch(clock_error_ms)
        self.careful_until_ms = 0

    def clock(self, now_ms: int) -> bool:
        """True if our clock is right as far as we can know."""
        return self.watch.trusted(now_ms)

    def careful(self, now_ms: int) -> bool:
        """True while effects may exist that our ledger does not show."""
        return now_ms < self.careful_until_ms
