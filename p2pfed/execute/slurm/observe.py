"""What a partition has, does and waits for, from sinfo and squeue; pure.

Only a node that Slurm would give to a job now counts as idle, in whole or in part: one that is
drained, reserved, down, completing, or that does not respond has nothing to give.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from p2pfed.errors import ExecutorError
from p2pfed.execute.interface import Capacity
from p2pfed.execute.slurm.parse import gpus_by_type

_FREE: Final = frozenset({"idle", "mixed"})
_STATE: Final = re.compile(r"[a-z][a-z_]*")
_SPOILT: Final = frozenset("*$#~!%@^")
"""Suffixes of a state in sinfo(1): not responding, in maintenance, powered down or on the way."""
_STARTS: Final = re.compile(r"Job \d+ to start at (\d+) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node as sinfo tells it.

    Attributes:
        states: all that is said of it, the base state first: `("idle",)`, `("mixed", "drain")`.
        usable: Slurm would give what is idle of it to a job now.
        gpus, gpus_used: (type, number), ascending by type; no type is ``""``.
    """

    name: str
    states: tuple[str, ...]
    usable: bool
    cores: int
    cores_used: int
    cores_idle: int
    memory_mib: int
    memory_mib_used: int
    gpus: tuple[tuple[str, int], ...]
    gpus_used: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One job that waits; `start_s` is when Slurm expects to begin it, 0 if it does not tell."""

    job_id: str
    user: str
    partitions: tuple[str, ...]
    nodes: int
    cores: int
    start_s: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at a partition.

    Attributes:
        nodes: ascending by name.
        idle_nodes, idle_cores, idle_gpus: what could be given now; nodes that are wholly idle;
            GPUs as (type, number).
        waiting: local jobs that wait, of all partitions, in squeue's order; guests' own left out.
        next_start_s: the earliest expected start of one of them; 0 if none is known.
    """

    nodes: tuple[Node, ...]
    idle_nodes: int
    idle_cores: int
    idle_gpus: tuple[tuple[str, int], ...]
    waiting: tuple[Waiting, ...]
    next_start_s: int


def parse_nodes(text: str) -> tuple[Node, ...]:
    """The nodes that sinfo listed in `commands.SINFO_FORMAT`.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    found: dict[str, Node] = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        try:
            name, state, cores, memory, used, gres, gres_used = fields[:7]
            cores_used, cores_idle, _, cores_all = map(int, cores.split("/"))
            node = Node(
                name=name,
                states=tuple(_STATE.findall(state.lower())),
                usable=state.lower() in _FREE,
                cores=cores_all,
                cores_used=cores_used,
                cores_idle=cores_idle,
                memory_mib=int(memory),
                memory_mib_used=int(used),
                gpus=tuple(sorted(gpus_by_type(gres).items())),
                gpus_used=tuple(sorted(gpus_by_type(gres_used).items())),
            )
        except ValueError:
            raise _odd("sinfo", line) from None
        found[name] = node
    return tuple(found[name] for name in sorted(found))


def parse_waiting(text: str) -> tuple[Waiting, ...]:
    """The jobs that squeue listed in `commands.PENDING_FORMAT`.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    found = []
    for line in text.splitlines():
        fields = line.split("|", 6)
        try:
            job_id, user, start, nodes, cores, partitions, reason = fields
            waiting = Waiting(
                job_id=job_id,
                user=user,
                partitions=tuple(partitions.split(",")),
                nodes=int(nodes.partition("-")[0]),
                cores=int(cores.partition("-")[0]),
                start_s=int(start) if start.isascii() and start.isdigit() else 0,
                reason=reason,
            )
        except ValueError:
            raise _odd("squeue", line) from None
        found.append(waiting)
    return tuple(found)


def parse_test_only(text: str) -> int:
    """When `sbatch --test-only` expects a job to begin, in seconds since the epoch.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    starts = _STARTS.search(text)
    if starts is None:
        raise _odd("sbatch --test-only", text.strip())
    return int(starts[1])


def make_observation(*, nodes: str, waiting: str, starts: str, guests: str) -> Observation:
    """One look, from what sinfo, squeue and `squeue --start` printed.

    Args:
        guests: the account whose own jobs are left out of what waits.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    seen = parse_nodes(nodes)
    usable = [node for node in seen if node.usable]
    gpus: dict[str, int] = {}
    for node in usable:
        used = dict(node.gpus_used)
        for kind, count in node.gpus:
            gpus[kind] = gpus.get(kind, 0) + max(0, count - used.get(kind, 0))
    expected = {job.job_id: job.start_s for job in parse_waiting(starts)}
    local = [job for job in parse_waiting(waiting) if job.user != guests]
    known = [s for job in local if (s := expected.get(job.job_id, 0) or job.start_s)]
    return Observation(
        nodes=seen,
        idle_nodes=sum(1 for node in usable if node.states == ("idle",)),
        idle_cores=sum(node.cores_idle for node in usable),
        idle_gpus=tuple(sorted(gpus.items())),
        waiting=tuple(local),
        next_start_s=min(known, default=0),
    )


def hardware(nodes: tuple[Node, ...]) -> Capacity:
    """What the nodes have, whoever uses it; each size is the largest node's."""
    return Capacity(
        nodes=len(nodes),
        cores_per_node=max((node.cores for node in nodes), default=0),
        gpus_per_node=max((sum(n for _, n in node.gpus) for node in nodes), default=0),
        memory_mib_per_node=max((node.memory_mib for node in nodes), default=0),
    )


def _odd(command: str, line: str) -> ExecutorError:
    return ExecutorError(
        "slurm-output",
        f"{command} printed what can't be read: {line!r:.200}",
        remedy="it is tried again; tell the maintainers the line and Slurm's version",
        transient=True,
    )
