"""Jobs of the guests' account that no claim stands for.

A guest may call `sbatch` or `srun` in its own job. What comes of it is a job like any other to
Slurm, under the guests' account, but no lease ends it and nobody counts it. Where the account is
the daemon's alone, each job of it that the daemon did not submit itself is such a stray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from p2pfed.execute import notices
from p2pfed.execute.slurm import commands, parse
from p2pfed.execute.slurm.parse import QueueRow
from p2pfed.execute.slurm.runner import Runner
from p2pfed.execute.slurm.states import ENDED
from p2pfed.execute.strays import Sieve, Stray


class GuestQueue:
    """The queue of the guests' account.

    Args:
        runner: acts as that account.
        user: its name.
    """

    def __init__(self, runner: Runner, user: str) -> None:
        self._runner = runner
        self._user = user

    at_start_only = False

    def look(self) -> Sieve:
        """Asks for the queue; raises as `rows`."""
        return partial(strays_of, self.rows())

    def rows(self) -> list[QueueRow]:
        """All jobs of the account that are not over.

        Raises:
            ExecutorError: `slurm-…` (transient): Slurm can't be asked.
        """
        rows, _ = parse.parse_queue(self._runner.read(commands.squeue(self._user)))
        return [row for row in rows if row.state not in ENDED and row.state != "COMPLETING"]

    def end(self, stray: Stray) -> None:
        """Ends one; that it is over already is no error.

        Raises:
            ExecutorError: `slurm-…`.
        """
        self._runner.act(commands.scancel_job(stray.job_id))


def strays_of(rows: Sequence[QueueRow], own: Mapping[str, Path]) -> list[Stray]:
    """Which of the account's jobs are not the daemon's own.

    A job with the name of one of ours is a stray, too, if we know that ours has another id.

    Args:
        rows: what `GuestQueue.rows` told.
        own: the claims' folders by native name, as they were after `rows` was asked.
    """
    return [
        Stray(whole_id(row.job_id), row.name)
        for row in rows
        if row.name not in own or submitted_id(own[row.name]) not in ("", whole_id(row.job_id))
    ]


def whole_id(job_id: str) -> str:
    """The id of a whole array (`7_[0-3]`, `7_1`) or heterogeneous job (`7+0`)."""
    return job_id.partition("_")[0].partition("+")[0]


def submitted_id(folder: Path) -> str:
    """The id that Slurm gave to a claim's job; empty if that is not known."""
    return (notices.read(str(folder / "batch" / "submitted")) or {}).get("job_id", "")
