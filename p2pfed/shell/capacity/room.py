"""The nodes' accounts while a plan is made: what is idle, what local jobs want, what guests hold.

Amounts are kept for each node, since a job's part must fit one node: three nodes with one idle core
each are not a node with three. What one offer is given is taken from the nodes before the next one
is looked at, so that nothing is promised twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from p2pfed.execute.observation import LocalWish, SeenNode

_ALL: Final = (1 << 62, 1 << 62, 1 << 62)


class Shape(NamedTuple):
    """One node of an offer, or a job's part on one node; `gpu_type` empty: of any type."""

    cores: int
    gpus: int
    memory_mib: int
    gpu_type: str = ""


@dataclass(slots=True)
class Stock:
    """What there is of something on one node; never negative."""

    cores: int = 0
    memory_mib: int = 0
    gpus: dict[str, int] = field(default_factory=dict)

    def count_gpus(self, kind: str) -> int:
        """The GPUs of a type, or with an empty one of all types."""
        return self.gpus.get(kind, 0) if kind else sum(self.gpus.values())

    def slots(self, shape: Shape) -> int:
        """How many parts of this shape fit."""
        found = self.cores // shape.cores
        if shape.memory_mib:
            found = min(found, self.memory_mib // shape.memory_mib)
        if shape.gpus:
            found = min(found, self.count_gpus(shape.gpu_type) // shape.gpus)
        return found

    def take(self, cores: int, gpus: int, memory_mib: int, kind: str) -> Stock:
        """Takes at most so much; returns what was taken."""
        taken = Stock(min(cores, self.cores), min(memory_mib, self.memory_mib))
        self.cores -= taken.cores
        self.memory_mib -= taken.memory_mib
        for name in [kind] if kind else sorted(self.gpus):
            part = min(gpus, self.gpus.get(name, 0))
            if part:
                self.gpus[name] -= part
                taken.gpus[name] = part
                gpus -= part
        return taken

    def add(self, other: Stock) -> None:
        """Puts in what the other has."""
        self.cores += other.cores
        self.memory_mib += other.memory_mib
        for kind, count in other.gpus.items():
            self.gpus[kind] = self.gpus.get(kind, 0) + count

    def joined(self, other: Stock) -> Stock:
        """Both together."""
        found = Stock(self.cores, self.memory_mib, dict(self.gpus))
        found.add(other)
        return found


@dataclass(slots=True)
class Room:
    """One node of the plan.

    Attributes:
        idle: what nobody has and no local job wants.
        wanted: what is idle now, and local jobs wait for.
        guests: by part of the plan, what its guests hold here.
    """

    node: SeenNode
    idle: Stock
    wanted: Stock = field(default_factory=Stock)
    guests: dict[str, Stock] = field(default_factory=dict)

    @property
    def untouched(self) -> bool:
        """True if the whole node is idle and nobody wants any of it."""
        return self.idle.cores == self.node.cores and not self.wanted.cores and not self.guests

    def held(self, part: str) -> Stock:
        """What the guests of a part hold here."""
        return self.guests.get(part, Stock())

    def serve(self, part: str, shape: Shape, slots: int, *, wanted: bool) -> None:
        """Takes what so many slots need beyond what the part's guests hold already."""
        held = self.held(part)
        cores = max(0, slots * shape.cores - held.cores)
        gpus = max(0, slots * shape.gpus - held.count_gpus(shape.gpu_type))
        memory_mib = max(0, slots * shape.memory_mib - held.memory_mib)
        taken = self.idle.take(cores, gpus, memory_mib, shape.gpu_type)
        if wanted:
            rest = gpus - taken.count_gpus("")
            self.wanted.take(cores - taken.cores, rest, memory_mib - taken.memory_mib, "")


def rooms_of(nodes: Iterable[SeenNode]) -> dict[str, Room]:
    """The accounts of these nodes, by name, ascending; all that is idle is nobody's yet."""
    return {
        node.name: Room(node, Stock(node.idle_cores, node.idle_memory_mib, dict(node.idle_gpus)))
        for node in sorted(nodes, key=lambda node: node.name)
    }


def set_aside(rooms: Mapping[str, Room], shape: Shape, nodes: int, queue: str) -> None:
    """Takes idle capacity for something that will come and is not ours to plan: first fit."""
    for room in rooms.values():
        if nodes <= 0:
            return
        if queue and queue not in room.node.queues:
            continue
        slots = min(nodes, room.idle.slots(shape))
        room.idle.take(
            slots * shape.cores, slots * shape.gpus, slots * shape.memory_mib, shape.gpu_type
        )
        nodes -= slots


def want(rooms: Mapping[str, Room], wish: LocalWish) -> None:
    """Marks what a waiting local job will take of what is idle, whether or not that is enough.

    It is expected on the nodes that the batch system has planned, then on those with the most idle
    GPUs that it asks for, then with the most idle cores. Where its memory is not known, as much as
    its cores' part counts; a node all of whose cores it takes is of no use to others.
    """
    kind = wish.gpu_type
    able = [r for r in rooms.values() if r.idle.cores and could_run(wish, r.node)]
    able.sort(
        key=lambda r: (
            not r.node.planned,
            -min(wish.gpus, r.idle.count_gpus(kind)),
            -r.idle.cores,
            r.node.name,
        )
    )
    for room in able[: wish.nodes]:
        need = needed_on(wish, room.node)
        if need.cores >= room.idle.cores:
            room.wanted.add(room.idle.take(*_ALL, ""))
        else:
            memory_mib = need.memory_mib or room.node.memory_mib * need.cores // room.node.cores
            room.wanted.add(room.idle.take(need.cores, need.gpus, memory_mib, kind))


def could_run(wish: LocalWish, node: SeenNode) -> bool:
    """True if the node is in a queue of the job's and has the GPUs that it asks for."""
    has = Stock(gpus=dict(node.gpus)).count_gpus(wish.gpu_type)
    return bool(set(wish.queues) & set(node.queues)) and has >= wish.gpus


def needed_on(wish: LocalWish, node: SeenNode) -> Shape:
    """What a waiting job takes of a node, at most all that the node has; memory 0: not known."""
    share = node.cores if wish.whole_nodes else -(-wish.cores // wish.nodes)
    memory_mib = min(node.memory_mib, wish.memory_mib)
    return Shape(min(node.cores, share), wish.gpus, memory_mib, wish.gpu_type)
