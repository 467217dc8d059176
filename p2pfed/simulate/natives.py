"""Native jobs of simulated batch systems: what really runs, whatever anybody says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from p2pfed.core.ids import CentreName, ClaimId
from p2pfed.core.records import Job, Outcome


@dataclass(slots=True)
class Native:
    """A job in a simulated batch system: it lives whether or not its daemon does.

    Attributes:
        lied_about: whether the batch system told its daemon something untrue of it.
    """

    job: Job
    begins_ms: int
    ends_ms: int
    outcome: Outcome = Outcome.COMPLETED
    lied_about: bool = False
    look: Callable[[], None] = field(default=lambda: None)

    def runs_at(self, now_ms: int) -> bool:
        """Whether it holds its nodes at that moment of the world's time."""
        return self.begins_ms <= now_ms < self.ends_ms


@dataclass(frozen=True, slots=True)
class Run:
    """A native job that was really submitted, in the world's time."""

    claim_id: ClaimId
    host: CentreName
    native: Native
    limit_ms: int
