"""Time as the ledger uses it: hybrid times that respect causality, and trust in one's own clock.

A block's time is later than the block before it and than every block it acks, whatever the clocks
say; `next_time` gives it (Kulkarni et al., "Logical Physical Clocks", 2014). Wall clocks still
decide when a lease ends, so a centre must know when not to trust its own. `ClockWatch` compares it
with the clocks of the peers: the median of all of them, one's own included, must lie within
`clock_error_ms`. One wrong peer among several then changes nothing; two centres that differ cannot
tell which of them is wrong, so neither trusts itself. A stepped clock is trusted again once peers
measured after the step confirm it, never because time went by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfed.core.ids import CentreName
from p2pfed.core.units import HLC_MAX, HlcTime, hlc
from p2pfed.errors import StateError

SAMPLE_AGE_MAX_MS: Final = 600_000
"""A measured offset counts for ten minutes; a connected peer is measured far more often."""


def next_time(now_ms: int, after: HlcTime) -> HlcTime:
    """The time of a new event: not before `now_ms`, and later than `after`.

    A full counter (65 536 events in one millisecond) carries over into the milliseconds.

    Args:
        now_ms: the local wall clock.
        after: the latest time that the event must follow; 0 if there is none.

    Raises:
        StateError: `clock-range`: the time does not fit 64 bits (the local clock is absurd).
    """
    time = max(hlc(now_ms), HlcTime(after + 1))
    if not 0 <= time <= HLC_MAX:
        raise StateError(
            "clock-range",
            f"the clock shows {now_ms} ms, which no block time can hold",
            remedy="set the system clock",
        )
    return time


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSample:
    """One measured offset: how far the peer's clock is ahead of ours, within half a round trip."""

    offset_ms: int
    round_trip_ms: int
    at_ms: int


class ClockWatch:
    """What is known about the local clock: offsets to peers, and steps not yet confirmed."""

    __slots__ = ("_clock_error_ms", "_samples", "_stepped")

    def __init__(self, clock_error_ms: int) -> None:
        self._clock_error_ms = clock_error_ms
        self._samples: dict[CentreName, ClockSample] = {}
        self._stepped = False

    def set_clock_error(self, clock_error_ms: int) -> None:
        """Allows clocks to differ by this much from now on."""
        self._clock_error_ms = clock_error_ms

    def measured(
        self, peer: CentreName, *, offset_ms: int, round_trip_ms: int, now_ms: int
    ) -> None:
        """Takes note that `peer`'s clock is `offset_ms` ahead of ours (negative: behind).

        A sample whose round trip leaves more doubt than `clock_error_ms` says nothing and is
        passed over.
        """
        if not 0 <= round_trip_ms <= 2 * self._clock_error_ms:
            return
        self._samples[peer] = ClockSample(
            offset_ms=offset_ms, round_trip_ms=round_trip_ms, at_ms=now_ms
        )
        if self._stepped and self._agrees(now_ms):
            self._stepped = False

    def stepped(self, by_ms: int) -> None:
        """Takes note that somebody set the local clock: every offset measured before is void."""
        if by_ms:
            self._samples.clear()
            self._stepped = True

    def forget(self, peer: CentreName) -> None:
        """Drops the peer's sample, when it is no longer a member."""
        self._samples.pop(peer, None)

    def trusted(self, now_ms: int) -> bool:
        """Whether the local clock may decide about leases now."""
        return not self._stepped and self._agrees(now_ms)

    def offset_ms(self, now_ms: int) -> int:
        """The median of the clocks, ours (0) included, relative to ours; rounded down."""
        low, high = self._medians(now_ms)
        return (low + high) // 2

    def samples(self) -> dict[CentreName, ClockSample]:
        """The newest sample of each peer, by name."""
        return dict(sorted(self._samples.items()))

    def _agrees(self, now_ms: int) -> bool:
        # Of an even number of clocks both middle ones must agree with ours.
        return all(abs(offset) <= self._clock_error_ms for offset in self._medians(now_ms))

    def _medians(self, now_ms: int) -> tuple[int, int]:
        fresh = [
            sample.offset_ms
            for sample in self._samples.values()
            if abs(now_ms - sample.at_ms) <= SAMPLE_AGE_MAX_MS
        ]
        clocks = sorted([0, *fresh])
        return clocks[(len(clocks) - 1) // 2], clocks[len(clocks) // 2]
