"""What is known while a demonstration runs, and to whom it is shown.

The board is kept by the story and read by a `Stage`: a live display, plain lines, or nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

from p2pfed.core.ids import CentreName
from p2pfed.shell.answers import JobView
from p2pfed.shell.demo.plan import Plan

_HOLDING: Final = frozenset({"accepted", "leased", "started"})
_SHOWN: Final = {"claimed": "matched", "accepted": "matched", "leased": "matched"}
STATES: Final = ("queued", "matched", "started", "ended", "completed", "other")
"""The states that are told apart on the screen, in the order in which a job passes them."""


@dataclass(slots=True)
class CentreLine:
    """One centre as it stands now.

    Attributes:
        offered_cores: 0 until its offer is open.
        busy_cores: cores of guests' jobs that it holds now.
        hosted: guests' jobs that have ended here.
        posted: its own jobs.
    """

    name: CentreName
    cores: int
    offered_cores: int = 0
    busy_cores: int = 0
    hosted: int = 0
    posted: int = 0
    restarts: int = 0


@dataclass(slots=True)
class Board:
    """Everything that a stage can show."""

    centres: dict[CentreName, CentreLine]
    jobs_total: int
    jobs: dict[str, JobView] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Board:
        """The board before anything has happened."""
        lines = {c.name: CentreLine(name=c.name, cores=c.cores) for c in plan.centres}
        return cls(centres=lines, jobs_total=len(plan.jobs))

    def see(self, view: JobView) -> bool:
        """Takes in what a home says of its job; True if its state or host is new."""
        before = self.jobs.get(view["job_id"])
        if before is not None and before["final"] and not view["final"]:
            return False  # from a feed that ran behind: nothing comes back from its end
        self.jobs[view["job_id"]] = view
        self._count()
        now = view["state"], view["host"]
        return before is None or (before["state"], before["host"]) != now

    def _count(self) -> None:
        for line in self.centres.values():
            line.busy_cores = line.hosted = line.posted = 0
        for view in self.jobs.values():
            self.centres[CentreName(view["home"])].posted += 1
            if view["host"] is None:
                continue
            host = self.centres[CentreName(view["host"])]
            if view["state"] in _HOLDING:
                host.busy_cores += view["nodes"] * view["cores_per_node"]
            elif view["state"] in ("ended", "completed"):
                host.hosted += 1

    @property
    def states(self) -> dict[str, int]:
        """How many jobs stand in each of STATES."""
        shown = (_SHOWN.get(view["state"], view["state"]) for view in self.jobs.values())
        counts = Counter(state if state in STATES else "other" for state in shown)
        return {state: counts[state] for state in STATES}

    @property
    def done(self) -> int:
        """Jobs that have reached their end and whose result needs no more waiting."""
        return sum(is_over(view) for view in self.jobs.values())


def is_over(view: JobView) -> bool:
    """Whether nothing about the job will change any more."""
    return view["final"] and view["result"] != "waiting"


class Stage(Protocol):
    """Who watches a demonstration."""

    def say(self, text: str) -> None:
        """Something worth a line has happened."""

    def mention(self, text: str) -> None:
        """As `say`, for what happens often."""

    def show(self, board: Board) -> None:
        """The board may have changed; called often."""
