"""Units of time and their one conversion.

Replicated times are integers. Wall time is milliseconds since 1970-01-01 UTC (`..._ms`); durations
in rules and records say their unit in their name (`walltime_s`, `round_ms`). A block's `time` is a
hybrid logical clock value: 48 bits of milliseconds, then a 16-bit counter (Kulkarni et al.,
"Logical Physical Clocks", 2014).
"""

from __future__ import annotations

from typing import Final, NewType

WallMs = NewType("WallMs", int)
"""Milliseconds since 1970-01-01 UTC by somebody's clock."""

HlcTime = NewType("HlcTime", int)
"""`ms << 16 | counter`."""

COUNTER_BITS: Final = 16
DAY_MS: Final = 86_400_000
HLC_MAX: Final = (1 << 64) - 1


def hlc(ms: int, counter: int = 0) -> HlcTime:
    """The hybrid time of `ms` with `counter` (0..65535)."""
    return HlcTime(ms << COUNTER_BITS | counter)


def hlc_ms(time: HlcTime) -> WallMs:
    """The milliseconds of a hybrid time, rounded down."""
    return WallMs(time >> COUNTER_BITS)


def hlc_cut(ms: int) -> HlcTime:
    """The last hybrid time that lies within `ms`: a cut at `ms` holds all blocks up to it."""
    return HlcTime((ms << COUNTER_BITS) | (1 << COUNTER_BITS) - 1)


def day_of(ms: int) -> int:
    """The UTC day number of a wall time, rounded down."""
    return ms // DAY_MS
