"""Holds a plan still: offers shrink at once and grow only into what was there for a while.

Less is promised the moment it is seen, since nothing may be promised that is not there. More is
promised only when every look of the last `hold_ms` had it, so that capacity which comes and goes
does not fill the ledger, or lure jobs to nodes that are gone when they arrive. Pure: what was seen
before comes in with the next plan and goes out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from p2pfed.shell.capacity.plan import Part

UNTIL_STEP_MS: Final = 60_000
"""An end that moves away by less is left as it was stated."""
CLOSE_AFTER_HOLDS: Final = 10
"""An offer that had nothing to give for so many times `hold_ms` is closed."""


class Size(NamedTuple):
    """What an offer states of itself; `until_ms` 0: no end."""

    nodes: int
    walltime_max_s: int
    until_ms: int


NOTHING: Final = Size(0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What former looks had of one part.

    Attributes:
        sizes: (time, size), oldest first; the first is the last one that is at least `hold_ms` old.
        empty_since_ms: since when there was nothing to give; 0: there is something.
    """

    sizes: tuple[tuple[int, Size], ...] = ()
    empty_since_ms: int = 0


def steady(
    looks: Mapping[str, Looks],
    parts: Iterable[Part],
    open_sizes: Mapping[str, Size],
    now_ms: int,
    hold_ms: int,
) -> tuple[dict[str, Looks], tuple[Part, ...]]:
    """What to remember, and the parts that shall be open, with the sizes that they shall have.

    Args:
        looks: as the last call returned it; empty at first.
        open_sizes: the sizes of the offers that are open now, by part.
    """
    kept: dict[str, Looks] = {}
    found: list[Part] = []
    for part in parts:
        wanted = Size(part.nodes, part.walltime_max_s, part.until_ms)
        before = looks.get(part.name, Looks())
        sizes = _recent((*before.sizes, (now_ms, wanted)), now_ms - hold_ms)
        now = open_sizes.get(part.name, NOTHING)
        long_enough = sizes[0][0] <= now_ms - hold_ms
        size = _settle(wanted, now, [size for _, size in sizes] if long_enough else [])
        empty_ms = 0 if size.nodes else before.empty_since_ms or now_ms
        kept[part.name] = Looks(sizes=sizes, empty_since_ms=empty_ms)
        if size.nodes or now_ms - empty_ms < CLOSE_AFTER_HOLDS * hold_ms:
            nodes, walltime_max_s, until_ms = size
            found.append(
                replace(part, nodes=nodes, walltime_max_s=walltime_max_s, until_ms=until_ms)
            )
    return kept, tuple(found)


def _recent(sizes: tuple[tuple[int, Size], ...], since_ms: int) -> tuple[tuple[int, Size], ...]:
    """The looks since a time, and the last one before it."""
    old = sum(at_ms <= since_ms for at_ms, _ in sizes)
    return sizes[max(0, old - 1) :]


def _settle(wanted: Size, now: Size, seen: list[Size]) -> Size:
    """Each figure no greater than wanted, and no greater than it is unless it was so throughout."""
    nodes = min(wanted.nodes, max(now.nodes, min((s.nodes for s in seen), default=0)))
    if not now.nodes:
        # It takes nobody now, so that its terms bind nobody: they may be what they should be.
        return Size(nodes, wanted.walltime_max_s, wanted.until_ms)
    walltimes = [s.walltime_max_s for s in seen]
    walltime_s = min(wanted.walltime_max_s, max(now.walltime_max_s, min(walltimes, default=0)))
    ends = [_end(s) for s in seen]
    end_ms = min(_end(wanted), max(_end(now), min(ends, default=0)))
    if _end(now) < end_ms < _end(now) + UNTIL_STEP_MS:
        end_ms = _end(now)
    return Size(nodes, walltime_s, 0 if end_ms == _NEVER else end_ms)


_NEVER: Final = 1 << 62


def _end(size: Size) -> int:
    return size.until_ms or _NEVER
