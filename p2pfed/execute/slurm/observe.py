"""What a cluster has, does and waits for, from sinfo and squeue; pure.

Only a node that Slurm would give to a job now has something idle: one that is drained, reserved,
down, completing, or that does not respond has nothing to give, whatever its CPUs do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Final

from p2pfed.errors import ExecutorError
from p2pfed.execute.interface import Capacity
from p2pfed.execute.observation import Gpus, LocalWish, Observation, SeenGuest, SeenNode
from p2pfed.execute.slurm.parse import gpus_by_type

_UP: Final = frozenset({"idle", "mixed", "allocated"})
"""States in sinfo(1) of nodes that jobs are given, alone or with `+planned`.

Any other flag or suffix (`*` not responding, `$` in maintenance, `~#!%` power) spoils it.
"""
_STARTS: Final = re.compile(r"Job \d+ to start at (\d+) ")
_OTHER_REASONS: Final = (
    "Assoc", "Account", "BadConstraints", "BeginTime", "Burst", "Cleaning", "Deadline",
    "Dependency", "DeniedReq", "FedJobLock", "Front", "InvalidAccount", "InvalidQOS",
    "JobArrayTaskLimit", "JobHeld", "Licenses", "MaxMem", "MaxBill", "MaxCpu", "MaxGRES", "MaxJobs",
    "MaxNode", "NonZeroExitCode", "Partition", "Prolog", "QOS", "RequeueHold", "RequeueLimit",
    "SystemFailure", "launch failed", "JobLaunchFailure", "User",
)  # fmt: skip
"""What a pending reason begins with if idle nodes would not help; squeue(1), JOB REASON CODES."""
_LAST_NUMBER: Final = re.compile(r"gpu\b[^,|]*?[:=](\d+)(?:,|$)")
"""Of `gres/gpu=2`, `gres:gpu:2` and `gres:gpu:fake:2`."""
_MEMORY: Final = re.compile(r"\bmem=(\d+)(?:\.\d+)?([KMGTP]?)")
_KIB: Final = {"K": 1, "M": 1 << 10, "": 1 << 10, "G": 1 << 20, "T": 1 << 30, "P": 1 << 40}
_ITEM: Final = re.compile(r"(?:[^,\[]|\[[^\]]*\])+")
_PIECE: Final = re.compile(r"\[([^\]]*)\]|([^\[]+)")
_HOSTS_MAX: Final = 1 << 16


def parse_nodes(text: str) -> tuple[SeenNode, ...]:
    """The nodes that sinfo listed in `commands.SINFO_FORMAT`, once for each partition of theirs.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    found: dict[str, SeenNode] = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        try:
            name, state, cores, memory, used, gres, gres_used, partition = fields[:8]
            node = _node(name, state.lower(), cores, int(memory), int(used), gres, gres_used)
        except ValueError:
            raise _odd("sinfo", line) from None
        before = found[name].queues if name in found else ()
        queues = tuple(sorted({*before, partition.removesuffix("*")}))
        found[name] = replace(node, queues=queues)
    return tuple(found[name] for name in sorted(found))


def _node(
    name: str, state: str, cores: str, memory_mib: int, used_mib: int, gres: str, gres_used: str
) -> SeenNode:
    _, cores_idle, _, cores_all = map(int, cores.split("/"))
    usable = state.removesuffix("+planned") in _UP or state == "planned"
    has = gpus_by_type(gres)
    used = gpus_by_type(gres_used)
    idle = {kind: max(0, count - used.get(kind, 0)) for kind, count in has.items()}
    return SeenNode(
        name=name,
        queues=(),
        cores=cores_all,
        memory_mib=memory_mib,
        gpus=_gpus(has),
        idle_cores=cores_idle if usable else 0,
        idle_memory_mib=max(0, memory_mib - used_mib) if usable else 0,
        idle_gpus=_gpus(idle) if usable else (),
        planned="planned" in state,
    )


def _gpus(found: Mapping[str, int]) -> Gpus:
    return tuple(sorted(found.items()))


def parse_wishes(text: str, guests: str) -> tuple[LocalWish, ...]:
    """The jobs that squeue listed in `commands.PENDING_FORMAT` and that wait for capacity.

    Args:
        guests: the account whose own jobs are left out.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|", 12)]
        try:
            job_id, user, start, nodes, cores, tasks, partitions, sharing = fields[:8]
            *asked, reason = fields[8:]
            width = max(1, int(nodes.partition("-")[0]))
            kind, gpus = _gpus_asked(asked, width, int(tasks))
            wish = LocalWish(
                job_id=job_id,
                queues=tuple(sorted(partitions.split(","))),
                nodes=width,
                cores=max(1, int(cores.partition("-")[0])),
                whole_nodes=sharing in ("NO", "EXCLUSIVE"),
                start_s=int(start) if start.isascii() and start.isdigit() else 0,
                memory_mib=-(-_memory_mib(asked[0]) // width),
                gpus=gpus,
                gpu_type=kind,
            )
        except ValueError:
            raise _odd("squeue", line) from None
        if user != guests and not reason.startswith(_OTHER_REASONS):
            found.append(wish)
    return tuple(found)


def _gpus_asked(asked: list[str], nodes: int, tasks: int) -> tuple[str, int]:
    """Type and number of the GPUs that a job asks for on each node, however it says so."""
    in_all, by_node, by_job, by_task = (
        0 if found is None else int(found[1]) for found in map(_LAST_NUMBER.search, asked)
    )
    total = max(in_all, by_node * nodes, by_job, by_task * tasks)
    kinds = [kind for text in asked[1:] for kind in gpus_by_type(text.removeprefix("gres:"))]
    return next((kind for kind in kinds if kind), ""), -(-total // nodes)


def _memory_mib(tres: str) -> int:
    found = _MEMORY.search(tres)
    return -(-int(found[1]) * _KIB[found[2]] // 1024) if found else 0


def parse_guests(text: str) -> tuple[SeenGuest, ...]:
    """The jobs that squeue listed in `commands.GUESTS_FORMAT` and that hold nodes.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    found = []
    for line in text.splitlines():
        name, bar, nodes = line.rpartition("|")
        try:
            if not bar:
                raise ValueError(line)
            hosts = expand_hosts(nodes.strip())
        except ValueError:
            raise _odd("squeue", line) from None
        if hosts:
            found.append(SeenGuest(name=name, nodes=hosts))
    return tuple(sorted(found, key=lambda guest: guest.name))


def expand_hosts(text: str) -> tuple[str, ...]:
    """The nodes of a list such as `n[1-3,07],gpu2`, in its order.

    Raises:
        ValueError: it is no such list, or a very long one.
    """
    found: list[str] = []
    for item in _ITEM.findall(text):
        pieces = [
            [piece[2]] if piece[1] is None else _numbers(piece[1])
            for piece in _PIECE.finditer(item)
        ]
        found += ("".join(parts) for parts in product(*pieces))
        if len(found) > _HOSTS_MAX:
            raise ValueError(text)
    return tuple(found)


def _numbers(text: str) -> list[str]:
    found: list[str] = []
    for span in text.split(","):
        first, dash, last = span.partition("-")
        low, high = int(first), int(last if dash else first)
        if not low <= high < low + _HOSTS_MAX:
            raise ValueError(text)
        found += (str(number).zfill(len(first)) for number in range(low, high + 1))
    return found


def parse_test_only(text: str) -> int:
    """When `sbatch --test-only` expects a job to begin, in seconds since the epoch.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    starts = _STARTS.search(text)
    if starts is None:
        raise _odd("sbatch --test-only", text.strip())
    return int(starts[1])


def takes_back(config: Mapping[str, str], partition: Mapping[str, str]) -> bool:
    """True if Slurm itself takes nodes back from this partition for local jobs."""
    preempts = config.get("PreemptType", "preempt/none") != "preempt/none"
    return preempts and partition.get("PreemptMode", "OFF") != "OFF"


def make_observation(
    *, nodes: str, waiting: str, guests: str, user: str, takes_back: bool
) -> Observation:
    """One look, from what sinfo, `squeue --start` and squeue of the guests printed.

    Args:
        user: the guests' account.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    return Observation(
        nodes=parse_nodes(nodes),
        guests=parse_guests(guests),
        wishes=parse_wishes(waiting, user),
        takes_back=takes_back,
    )


def hardware(nodes: tuple[SeenNode, ...]) -> Capacity:
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
