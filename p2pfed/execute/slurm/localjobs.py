"""The centre's own jobs in its queue: found, held, released, finished.

A local job that goes out to the federation stays in the queue as the *sibling* of its copy
(`p2pfed.node.siblings`). What decides, that is whose job it is and whether it is held, is read from
squeue, in fields that no user can choose: a name or comment with a line end in it could else forge
another user's job. The rest, such as where output goes, is its user's own business and comes from
`scontrol show job`.

Slurm lets a user release only the user's own holds, so that an administrator's hold, which is what
ours is, can be lifted by administrators alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from p2pfed.errors import ExecutorError
from p2pfed.execute.slurm import commands, parse
from p2pfed.execute.slurm.runner import RefusedError, Runner
from p2pfed.execute.slurm.states import ACTIVE, ENDED

MARK: Final = "p2pfed: "
"""How every comment of ours begins."""
HELD: Final = " (held)"
"""How a comment ends while the hold is ours."""

_JOB_ID: Final = re.compile(r"\d+(?:_\d+)?\Z")
_MEMORY: Final = re.compile(r"(\d+)(?:\.\d+)?([KMGT]?)")
_KIB: Final = {"K": 1, "M": 1 << 10, "": 1 << 10, "G": 1 << 20, "T": 1 << 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRow:
    """One of the centre's own jobs as squeue lists it.

    Attributes:
        job_id: a number, or for a task of an array `ARRAY_TASK`.
        priority: 0: it is held.
        walltime_s: 0: it has no limit.
        bound: why it is no job by itself; empty if it is one.
    """

    job_id: str
    state: str
    uid: int
    submit_s: int
    priority: int
    nodes: int
    cores: int
    walltime_s: int
    gpus_per_node: int
    bound: str
    reason: str

    @property
    def task(self) -> tuple[str, str] | None:
        """The array's number and the task's, None for a job that is in no array."""
        array, underscore, task = self.job_id.partition("_")
        return (array, task) if underscore else None

    @property
    def pending(self) -> bool:
        """True while it waits, held or not."""
        return self.state == "PENDING"

    @property
    def held(self) -> bool:
        """True if it surely does not begin before somebody releases it."""
        return self.pending and self.priority == 0

    @property
    def active(self) -> bool:
        """True if it has begun here and is not over."""
        return self.state in ACTIVE or self.state == "CONFIGURING"

    @property
    def over(self) -> bool:
        """True if it will not run any more."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalDetails:
    """What a job's user asked for: its name, command line, folder, streams, memory, features.

    `throttle` tells how many tasks of its array may run at a time; empty: as many as can.
    """

    name: str
    arguments: tuple[str, ...]
    folder: str
    stdout: str
    stderr: str
    memory_mib_per_node: int
    memory_mib_per_core: int
    features: str
    comment: str
    throttle: str = ""

    @property
    def says_held(self) -> bool:
        """True if its comment says that the hold is ours."""
        return self.comment.startswith(MARK) and self.comment.endswith(HELD)


class LocalQueue:
    """Asks Slurm about local jobs, and orders about them.

    Args:
        reader: runs what needs no right.
        operator: runs what only an operator of Slurm may do.
    """

    def __init__(self, reader: Runner, operator: Runner) -> None:
        self._reader = reader
        self._operator = operator

    def waiting(self, partitions: tuple[str, ...]) -> list[LocalRow]:
        """The jobs that wait in some partitions, in squeue's order.

        Raises:
            ExecutorError: `slurm-…` (transient): Slurm can't be asked.
        """
        return parse_local(self._reader.read(commands.local_pending(partitions)))

    def rows(self, job_ids: tuple[str, ...]) -> dict[str, LocalRow]:
        """What Slurm knows of these jobs, by id; whom it forgot is left out.

        Raises:
            ExecutorError: `slurm-…` (transient): Slurm can't be asked.
        """
        if not job_ids:
            return {}
        try:
            text = self._reader.read(commands.local_jobs(job_ids))
        except RefusedError as error:
            if "invalid job id" in error.message.lower():
                return {}
            raise
        return {row.job_id: row for row in parse_local(text)}

    def details(self, job_id: str) -> LocalDetails:
        """What the job's user asked for.

        Raises:
            ExecutorError: `slurm-…`: it is not known any more, or Slurm can't be asked.
        """
        return parse_local_details(self._reader.read(commands.show_job(job_id)))

    def script(self, job_id: str) -> bytes:
        """The job's batch script, as Slurm keeps it.

        Raises:
            ExecutorError: `slurm-…`.
        """
        text = self._operator.act(commands.batch_script(job_id))
        return text.encode("utf-8", "surrogateescape")

    def hold(self, job_id: str, comment: str) -> None:
        """Asks that the job does not begin; whether it is held, `rows` tells.

        Raises:
            ExecutorError: `slurm-…`.
        """
        self.comment(job_id, comment + HELD)
        self._operator.act(commands.hold(job_id))

    def free(self, row: LocalRow, comment: str) -> None:
        """Lifts our hold, if the job is held by us.

        Raises:
            ExecutorError: `slurm-…`.
        """
        by_operator = row.held and row.reason == "JobHeldAdmin"
        if by_operator and self.details(row.job_id).says_held:
            self._operator.act(commands.release(row.job_id))
            self.comment(row.job_id, comment)

    def comment(self, job_id: str, comment: str) -> None:
        """Tells the job's user, in `squeue`, what goes on.

        Raises:
            ExecutorError: `slurm-…`.
        """
        self._operator.act(commands.set_comment(job_id, MARK + comment))

    def finish(self, job_id: str) -> None:
        """Ends a job that waits: all that Slurm allows for one that never began here.

        Raises:
            ExecutorError: `slurm-…`.
        """
        self._operator.act(commands.scancel_job(job_id))


def parse_local(text: str) -> list[LocalRow]:
    """The jobs that squeue listed in `commands.LOCAL_FORMAT`; lines that can't be read left out."""
    found = []
    for line in text.splitlines():
        fields = line.split("|", 10)
        try:
            job_id, state, uid, submit, priority, nodes, cores, limit, gres = fields[:9]
            dependency, reason = fields[9:]
            found.append(
                LocalRow(
                    job_id=job_id,
                    state=state,
                    uid=int(uid),
                    submit_s=int(submit),
                    priority=int(priority),
                    nodes=int(nodes.partition("-")[0]),
                    cores=int(cores.partition("-")[0]),
                    walltime_s=parse_limit_s(limit),
                    gpus_per_node=parse.count_gpus(gres.removeprefix("gres:")),
                    bound=_bound(job_id, dependency),
                    reason=reason,
                )
            )
        except ValueError:
            continue
    return found


def _bound(job_id: str, dependency: str) -> str:
    if not _JOB_ID.match(job_id):
        return "it is a part of a heterogeneous job"
    return "" if dependency in ("", "(null)") else "it waits for another job (--dependency)"


def parse_limit_s(text: str) -> int:
    """The seconds of `5:00`, `1:00:00` or `2-12:00:00`; 0 for `UNLIMITED` and the like."""
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return 0
    seconds = 0
    for part in parts if len(parts) > 1 else [*parts, "0"]:
        seconds = seconds * 60 + int(part)
    return int(days or 0) * 86_400 + seconds


def parse_local_details(text: str) -> LocalDetails:
    """What `scontrol show job --oneliner` tells of what a user asked for.

    Raises:
        ExecutorError: `slurm-output` (transient): there is no such job in it.
    """
    fields = parse.parse_pairs(text)
    if not fields.get("JobId") or not fields.get("WorkDir"):
        raise ExecutorError(
            "slurm-output",
            f"scontrol should have printed a job, but printed {text[:120]!r}",
            remedy="it is tried again",
            transient=True,
        )
    command = fields.get("Command", "(null)")
    features = fields.get("Features", "(null)")
    return LocalDetails(
        name=fields.get("JobName", ""),
        # Slurm joins the arguments by spaces: which of them held one can't be told.
        arguments=() if command == "(null)" else tuple(command.split(" ")[1:]),
        folder=fields["WorkDir"],
        stdout=fields.get("StdOut", "/dev/null"),
        stderr=fields.get("StdErr", "/dev/null"),
        memory_mib_per_node=_mib(fields.get("MinMemoryNode", "0")),
        memory_mib_per_core=_mib(fields.get("MinMemoryCPU", "0")),
        features="" if features == "(null)" else features,
        comment=fields.get("Comment", ""),
        throttle=fields.get("ArrayTaskThrottle", ""),
    )


def _mib(text: str) -> int:
    size = _MEMORY.match(text)
    return -(-int(size[1]) * _KIB[size[2]] // 1024) if size else 0
