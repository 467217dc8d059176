"""What a batch system has, does and waits for at one moment, in words that all of them share.

An `Observation` is what offers are planned from (`p2pfed.shell.capacity`). It tells of each node
what would be given to a new job now: a node that is down, drained, reserved or still completing has
nothing idle, whatever its hardware. It tells where guests run, so that what they hold is not taken
for somebody else's, and which local jobs wait for capacity, which is theirs first.
"""

from __future__ import annotations

from dataclasses import dataclass

Gpus = tuple[tuple[str, int], ...]
"""GPUs as (type, number), ascending by type; without a type it is ``""``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNode:
    """One node.

    Attributes:
        queues: the queues (partitions) that it serves, ascending.
        cores, memory_mib, gpus: its hardware.
        idle_cores, idle_memory_mib, idle_gpus: what would be given to a job now.
        planned: the batch system has planned a job that waits onto it.
    """

    name: str
    queues: tuple[str, ...]
    cores: int
    memory_mib: int
    gpus: Gpus = ()
    idle_cores: int
    idle_memory_mib: int
    idle_gpus: Gpus = ()
    planned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenGuest:
    """A guest's native job that holds nodes."""

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalWish:
    """A local job that waits for capacity, and for nothing else.

    Attributes:
        queues: where it may run.
        nodes, cores: what it needs; `cores` in all.
        whole_nodes: it shares its nodes with nobody.
        memory_mib: on each node; 0: not known.
        gpus, gpu_type: on each node; an empty type is any.
        start_s: when the batch system expects to begin it, seconds since the epoch; 0: unknown.
    """

    job_id: str
    queues: tuple[str, ...]
    nodes: int
    cores: int
    whole_nodes: bool = False
    start_s: int = 0
    memory_mib: int = 0
    gpus: int = 0
    gpu_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look.

    Attributes:
        nodes: ascending by name.
        guests: those that hold nodes, ascending by name.
        wishes: in the batch system's order.
        takes_back: the batch system itself takes nodes back from guests for local jobs.
    """

    nodes: tuple[SeenNode, ...]
    guests: tuple[SeenGuest, ...] = ()
    wishes: tuple[LocalWish, ...] = ()
    takes_back: bool = False

    @property
    def next_start_s(self) -> int:
        """The earliest expected start of a waiting local job; 0 if none is known."""
        return min((wish.start_s for wish in self.wishes if wish.start_s), default=0)
