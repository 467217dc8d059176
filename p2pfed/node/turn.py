"""One call of the node: the time it happens at, and what it wants done.

Whatever a call writes stands in at most a few blocks, sealed at its end. Effects collected here are
performed after those blocks are durable, so no part of the node can let a promise out before it is
on disk. An effect that needs the id of the sealed block is given as a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from p2pfed.node.effects import Effect, Note


@dataclass(slots=True)
class Turn:
    """What is collected while events are handled at `now_ms`."""

    now_ms: int
    effects: list[Effect] = field(default_factory=list)
    sealed: list[Callable[[], Effect]] = field(default_factory=list)

    def do(self, effect: Effect) -> None:
        """Performs `effect` once everything that this turn wrote is durable."""
        self.effects.append(effect)

    def do_sealed(self, effect: Callable[[], Effect]) -> None:
        """As `do`, for an effect that can be made only when the turn's blocks are sealed."""
        self.sealed.append(effect)

    def note(self, level: int, code: str, text: str, **fields: str) -> None:
        """Tells people; see `Note`."""
        self.effects.append(
            Note(level=level, code=code, text=text, fields=tuple(sorted(fields.items())))
        )
