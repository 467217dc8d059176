"""Guests' jobs that no claim stands for, and the processes of the local executor that are such.

A supervisor outlives the daemon that began it. If the daemon's disk is lost, ledger and folders
with it, the guest runs on, and in a new epoch nobody knows what it is: no lease ends it before its
walltime, and nobody counts it. Its supervisor's command line still names the folder that it was
begun in, so that the centre whose spool that is finds and ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from p2pfed.execute import processes
from p2pfed.execute.local import SUPERVISOR, kill_with_tree
from p2pfed.execute.processes import Process


class Stray(NamedTuple):
    """A job that is none of the daemon's: its id as the batch system takes it, and its name."""

    job_id: str
    name: str


Sieve = Callable[[Mapping[str, Path]], Sequence[Stray]]
"""Which of the jobs that were seen are strays, if these are ours: folders by native name."""


class StrayFinder(Protocol):
    """Where strays of a batch system are looked for, and ended.

    Attributes:
        at_start_only: none can come about while the daemon runs.
    """

    at_start_only: bool

    def look(self) -> Sieve:
        """Looks; what is ours is to be asked afterwards.

        Raises:
            ExecutorError: the batch system can't be asked (transient).
        """

    def end(self, stray: Stray) -> None:
        """Ends one; that it is over already is no error.

        Raises:
            ExecutorError: the batch system refused.
        """


class LocalGuests:
    """The supervisors that were begun in the folders of one daemon's claims.

    Args:
        claims: the folder that holds them.
    """

    at_start_only = True

    def __init__(self, claims: Path) -> None:
        self._claims = claims.absolute()

    def look(self) -> Sieve:
        """Looks through the machine's processes."""
        return partial(strays_among, list(self._supervisors()))

    def end(self, stray: Stray) -> None:
        """Kills the supervisor and all that it began."""
        for process, folder in self._supervisors():
            if (str(process.pid), folder.name) == stray:
                kill_with_tree(process)

    def _supervisors(self) -> Iterable[tuple[Process, Path]]:
        for process in processes.list_processes():
            command = [] if process.is_dead else processes.command_of(process.pid)
            if len(command) > 1 and any(SUPERVISOR in part for part in command):
                folder = Path(command[-1]).parent
                if folder.parent == self._claims:
                    yield process, folder


def strays_among(
    supervisors: Sequence[tuple[Process, Path]], own: Mapping[str, Path]
) -> list[Stray]:
    """Which of these are in no folder of ours."""
    ours = {folder.absolute() for folder in own.values()}
    return [Stray(str(p.pid), folder.name) for p, folder in supervisors if folder not in ours]
