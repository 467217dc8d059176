"""Which guests go when a local job wants their nodes; pure.

A local job that waits is served from what is idle first. If guests that can be preempted hold the
rest of what it needs, as few nodes as possible are taken back, those of the youngest guests first:
they lose the least. Nobody goes for a job that could not begin even then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from p2pfed.execute.observation import LocalWish, Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A guest that may be sent away.

    Attributes:
        name: of its native job.
        started_ms: when it began.
        cores: what it holds on each of its nodes.
        leaving: it was told to go already.
    """

    name: str
    started_ms: int
    cores: int
    leaving: bool = False


@dataclass(slots=True)
class _Node:
    """What could be idle on a node: cores that are, and the guests that could go."""

    name: str
    queues: frozenset[str]
    cores: int
    idle: int
    guests: list[Guest] = field(default_factory=list)


def to_evict(seen: Observation, guests: Sequence[Guest]) -> tuple[str, ...]:
    """The names of the guests that must go now, in the order of their going."""
    nodes = {
        node.name: _Node(node.name, frozenset(node.queues), node.cores, node.idle_cores)
        for node in seen.nodes
    }
    known = {guest.name: guest for guest in guests}
    for native in seen.guests:
        guest = known.get(native.name)
        for node in (nodes[name] for name in native.nodes if name in nodes):
            if guest is not None and guest.leaving:
                node.idle += guest.cores  # as good as idle
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
    queues = frozenset(wish.queues)
    share = -(-wish.cores // wish.nodes)

    def need(node: _Node) -> int:
        return node.cores if wish.whole_nodes else min(share, node.cores)

    able = [
        (len(victims), -max((guest.started_ms for guest in victims), default=0), node.name)
        for node in nodes.values()
        if queues & node.queues and (victims := _victims(node, need(node))) is not None
    ]
    if len(able) < wish.nodes:
        return []
    found: list[str] = []
    for _, _, name in sorted(able)[: wish.nodes]:
        node = nodes[name]
        # A guest of several nodes, gone for another of them, may have made room here already.
        for guest in _victims(node, need(node)) or []:
            found.append(guest.name)
            _go(guest, nodes)
        node.idle -= need(node)
    return found


def _victims(node: _Node, need: int) -> list[Guest] | None:
    """The guests of a node that must go so that `need` cores are idle there; None: can't be."""
    found: list[Guest] = []
    for guest in sorted(node.guests, key=lambda guest: (-guest.started_ms, guest.name)):
        if node.idle + sum(g.cores for g in found) >= need:
            break
        found.append(guest)
    return found if node.idle + sum(g.cores for g in found) >= need else None


def _go(guest: Guest, nodes: dict[str, _Node]) -> None:
    """Frees all nodes of a guest."""
    for node in nodes.values():
        if guest in node.guests:
            node.guests.remove(guest)
            node.idle += guest.cores
