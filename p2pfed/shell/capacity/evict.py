"""Which guests go when a local job wants their nodes; pure.

A local job that waits is served from what is idle first. If guests that can be preempted hold the
rest of what it needs (cores, memory, GPUs), as few guests as possible go, the youngest first: they
lose the least. Nobody goes for a job that could not begin even then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from p2pfed.execute.observation import LocalWish, Observation, SeenNode
from p2pfed.shell.capacity.room import Shape, Stock, could_run, needed_on


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A guest that may be sent away.

    Attributes:
        name: of its native job.
        started_ms: when it began.
        shape: what it holds on each of its nodes.
        leaving: it was told to go already.
    """

    name: str
    started_ms: int
    shape: Shape
    leaving: bool = False


@dataclass(slots=True)
class _Node:
    """What could be idle on a node: what is, and the guests that could go."""

    seen: SeenNode
    idle: Stock
    guests: list[Guest] = field(default_factory=list)

    def with_gone(self, guests: Sequence[Guest]) -> Stock:
        """What is idle once these guests are gone."""
        found = self.idle
        for guest in guests:
            found = found.joined(self._held(guest.shape))
        return found

    def free(self, guest: Guest) -> None:
        """The guest is as good as gone."""
        self.idle.add(self._held(guest.shape))

    def expect(self, guest: Guest) -> None:
        """The guest leaves. A node that completes shows nothing idle, whatever it will have.

        Then all its memory and GPUs are expected: the next look knows better, and nobody goes
        meanwhile for what may be there already.
        """
        self.free(guest)
        if not self.seen.idle_memory_mib:
            self.idle.memory_mib, self.idle.gpus = self.seen.memory_mib, dict(self.seen.gpus)

    def _held(self, shape: Shape) -> Stock:
        kinds = [kind for kind, _ in self.seen.gpus]
        kind = shape.gpu_type or (kinds[0] if kinds else "")
        return Stock(shape.cores, shape.memory_mib, {kind: shape.gpus} if shape.gpus else {})


def to_evict(seen: Observation, guests: Sequence[Guest]) -> tuple[str, ...]:
    """The names of the guests that must go now, in the order of their going."""
    nodes = {
        node.name: _Node(node, Stock(node.idle_cores, node.idle_memory_mib, dict(node.idle_gpus)))
        for node in seen.nodes
    }
    known = {guest.name: guest for guest in guests}
    for native in seen.guests:
        guest = known.get(native.name)
        for node in (nodes[name] for name in native.nodes if name in nodes):
            if guest is not None and guest.leaving:
                node.expect(guest)
            elif guest is not None:
                node.guests.append(guest)
    found: list[str] = []
    for wish in seen.wishes:
        if not any(node.guests for node in nodes.values()):
            break
        found += _serve(wish, nodes)
    return tuple(found)


def _serve(wish: LocalWish, nodes: dict[str, _Node]) -> list[str]:
    """Takes what the job needs from the nodes; returns who must go for it, if that helps."""
    able = [
        (len(victims), -max((guest.started_ms for guest in victims), default=0), name)
        for name, node in nodes.items()
        if could_run(wish, node.seen)
        and (victims := _victims(node, needed_on(wish, node.seen))) is not None
    ]
    if len(able) < wish.nodes:
        return []
    found: list[str] = []
    for _, _, name in sorted(able)[: wish.nodes]:
        node = nodes[name]
        need = needed_on(wish, node.seen)
        # A guest of several nodes, gone for another of them, may have made room here already.
        for guest in _victims(node, need) or []:
            found.append(guest.name)
            _go(guest, nodes)
        node.idle.take(need.cores, need.gpus, need.memory_mib, need.gpu_type)
    return found


def _victims(node: _Node, need: Shape) -> list[Guest] | None:
    """The guests of a node that must go so that there is room; None: it can't be made.

    Who gives nothing that lacks stays: a guest without GPUs does not go for a job that waits for
    them.
    """
    found: list[Guest] = []
    for guest in sorted(node.guests, key=lambda guest: (-guest.started_ms, guest.name)):
        idle = node.with_gone(found)
        if idle.slots(need):
            break
        if _helps(guest.shape, need, idle):
            found.append(guest)
    return found if node.with_gone(found).slots(need) else None


def _helps(shape: Shape, need: Shape, idle: Stock) -> bool:
    """True if the guest holds some of what lacks."""
    return (
        (idle.cores < need.cores and shape.cores > 0)
        or (idle.memory_mib < need.memory_mib and shape.memory_mib > 0)
        or (idle.count_gpus(need.gpu_type) < need.gpus and shape.gpus > 0)
    )


def _go(guest: Guest, nodes: dict[str, _Node]) -> None:
    """Frees all nodes of a guest."""
    for node in nodes.values():
        if guest in node.guests:
            node.guests.remove(guest)
            node.free(guest)
