"""What could be offered now: a pure function of one look at the batch system and our own books.

A template that follows the batch system has up to three parts, each an offer of its own:

    NAME        what nobody wants, for jobs of any length, or of an hour if the next part exists
    NAME.long   the share that longer jobs may hold, if the template limits it
    NAME.gap    what is idle only until the next local job is expected to begin

An offer's size counts what its guests hold and what is idle for it together. What a guest holds is
counted once, on the node where it runs; a guest that was promised capacity and does not run yet is
inside the size, and takes it from what is idle. Local jobs that wait come first, then what offers
opened by hand have promised, then the templates in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from p2pfed.execute.observation import Observation
from p2pfed.shell.capacity.room import Room, Shape, Stock, rooms_of, set_aside, want
from p2pfed.shell.sections import OfferTemplate

LONG_S: Final = 3600
"""Jobs that ask for more than this are long."""
GRID_S: Final = 900
"""An offered walltime that an approaching end shortens is rounded down to a multiple of this."""
LONG: Final = ".long"
GAP: Final = ".gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a claim holds on an offer of ours.

    Attributes:
        name: of its native job; empty before it started.
        part: of the plan whose open offer it is on; empty: it is on another one.
        queue: where it runs or will run; empty: not known.
    """

    name: str
    part: str
    nodes: int
    shape: Shape
    queue: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What an offer opened by hand promises beyond what is held of it."""

    nodes: int
    shape: Shape
    queue: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What else a plan depends on.

    Attributes:
        queue, gpu_gres: where guests run, and how GPUs are asked for, unless a template says.
        cores_max: cores that guests are given in all.
        overhead_ms: what a job's walltime is lengthened by until its nodes are surely free.
    """

    queue: str
    gpu_gres: str
    cores_max: int
    overhead_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What we promised to whom, and the longest walltime that fits by part, where one was found."""

    held: tuple[Held, ...] = ()
    promised: tuple[Promise, ...] = ()
    limits_s: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An offer that the plan wants.

    Attributes:
        nodes: its size, guests included; 0: it should take nobody now.
        until_ms: when its capacity ends; 0: nothing within the template's longest walltime.
        why: what bounds it, for people.
    """

    name: str
    template: OfferTemplate
    nodes: int
    walltime_max_s: int
    until_ms: int
    why: str = ""


def plan(
    templates: Iterable[OfferTemplate], seen: Observation, books: Books, now_ms: int, site: Site
) -> tuple[Part, ...]:
    """The parts of all templates that follow and whose windows are open, in the templates' order.

    A part that is not in the result has no business to be open at all.
    """
    rooms = rooms_of(seen.nodes)
    running = {guest.name: guest.nodes for guest in seen.guests}
    for held in books.held:
        nodes = running.get(held.name, ()) if held.name else ()
        if held.part:
            _place(rooms, held, nodes)
        elif not nodes:
            set_aside(rooms, held.shape, held.nodes, held.queue or site.queue)
    for wish in seen.wishes:
        want(rooms, wish)
    for promise in books.promised:
        set_aside(rooms, promise.shape, promise.nodes, promise.queue or site.queue)
    others = sum(h.nodes * h.shape.cores for h in books.held if not h.part)
    others += sum(p.nodes * p.shape.cores for p in books.promised)
    found: list[Part] = []
    cores_left = site.cores_max - others
    for template in templates:
        if template.follow:
            planner = _Planner(template, rooms, seen, books, now_ms, site, cores_left)
            parts = planner.parts()
            found += parts
            cores_left -= sum(part.nodes for part in parts) * template.cores_per_node
    return tuple(found)


def _place(rooms: Mapping[str, Room], held: Held, nodes: Sequence[str]) -> None:
    """Books a guest of a part on the nodes where it runs."""
    shape = held.shape
    for name in nodes[: held.nodes]:
        room = rooms.get(name)
        if room is not None:
            gpus = {shape.gpu_type: shape.gpus} if shape.gpus else {}
            part = Stock(shape.cores, shape.memory_mib, gpus)
            room.guests.setdefault(held.part, Stock()).add(part)


class _Planner:
    """Plans one template, and takes what it plans from the rooms."""

    def __init__(
        self,
        template: OfferTemplate,
        rooms: Mapping[str, Room],
        seen: Observation,
        books: Books,
        now_ms: int,
        site: Site,
        cores_left: int,
    ) -> None:
        self._template = template
        self._books = books
        self._now_ms = now_ms
        self._site = site
        self._next_start_ms = seen.next_start_s * 1000
        queue = template.partition or site.queue
        self._rooms = [r for r in rooms.values() if not queue or queue in r.node.queues]
        self._shape = shape_of(template, site)
        self._cores_left = cores_left

    def parts(self) -> list[Part]:
        """The parts that may be open now."""
        template = self._template
        horizon_ms = self._now_ms + template.walltime_max_s * 1000 + self._site.overhead_ms
        end_ms = template.times.end_ms(self._now_ms, horizon_ms)
        if end_ms is None or not self._long_enough(end_ms):
            return []
        until_ms = end_ms if end_ms <= horizon_ms else 0
        names = (template.name, template.name + LONG, template.name + GAP)
        rooms, kept = self._spared()
        most, why = self._most(rooms, names)
        why = f"{why}; {kept}" if kept else why
        found: list[Part] = []
        if template.long_share < 100 and template.walltime_max_s > LONG_S:
            long = self._fill(rooms, names[1], most * template.long_share // 100)
            part = self._part(names[1], long, until_ms, template.walltime_max_s, why)
            if part.walltime_max_s > LONG_S:
                found.append(part)
            most -= max(long, self._held(names[1]))
            longest_s = LONG_S
        else:
            longest_s = template.walltime_max_s
        main = self._fill(rooms, names[0], most)
        found.insert(0, self._part(names[0], main, until_ms, longest_s, why))
        gap = self._gap(rooms, names[2], most - max(found[0].nodes, self._held(names[0])), end_ms)
        return [*found, *([] if gap is None else [gap])]

    def _gap(self, rooms: list[Room], name: str, most: int, end_ms: int) -> Part | None:
        """What local jobs want, until they are expected to begin."""
        until_ms = min(self._next_start_ms, end_ms)
        if not self._template.gaps or not self._long_enough(until_ms):
            return None
        wanted = [room for room in rooms if room.wanted.cores or name in room.guests]
        nodes = self._fill(wanted, name, most, wanted=True)
        why = "idle until the next local job is expected"
        limited = self._template.long_share < 100
        longest_s = self._template.walltime_max_s
        return self._part(
            name, nodes, until_ms, min(LONG_S, longest_s) if limited else longest_s, why
        )

    def _long_enough(self, end_ms: int) -> bool:
        """True if the shortest job worth it could run to its end before `end_ms`."""
        shortest_ms = self._template.walltime_min_s * 1000 + self._site.overhead_ms
        return end_ms - self._now_ms >= shortest_ms

    def _spared(self) -> tuple[list[Room], str]:
        """The nodes less those that are always left alone.

        If not so many are wholly idle, nothing new is given at all: only what guests hold counts.
        """
        keep = self._template.keep_free
        if not keep:
            return self._rooms, ""
        idle = [room for room in self._rooms if room.untouched]
        if len(idle) >= keep:
            left = {room.node.name for room in idle[-keep:]}
            return [
                r for r in self._rooms if r.node.name not in left
            ], f"{keep} nodes are kept free"
        held = [Room(room.node, Stock(), Stock(), room.guests) for room in self._rooms]
        return held, f"fewer than {keep} nodes are wholly idle"

    def _most(self, rooms: list[Room], names: Sequence[str]) -> tuple[int, str]:
        """The most nodes that all parts together may have, and what bounds them."""
        template, cores = self._template, self._shape.cores
        slots = 0
        for room in rooms:
            stock = room.idle.joined(room.wanted) if template.gaps else room.idle
            for name in names:
                stock = stock.joined(room.held(name))
            slots += stock.slots(self._shape)
        bounds = [
            (slots * template.share // 100, f"{slots} nodes of its shape are idle or its guests'"),
            (template.nodes, "nodes in centre.toml"),
            (max(0, self._cores_left) // cores, "the hardware under [executor]"),
        ]
        if template.cores:
            bounds.append((template.cores // cores, "cores in centre.toml"))
        return min(bounds, key=lambda bound: bound[0])

    def _fill(self, rooms: list[Room], name: str, most: int, *, wanted: bool = False) -> int:
        """Gives a part at most so many nodes: where its guests are first, then by name."""
        shape, cores, memory_mib, gpus = self._shape, 0, 0, 0
        left = max(0, most)
        for room in sorted(rooms, key=lambda r: (name not in r.guests, r.node.name)):
            held = room.held(name)
            stock = room.idle.joined(held)
            if wanted:
                stock = stock.joined(room.wanted)
            slots = min(left, stock.slots(shape))
            room.serve(name, shape, slots, wanted=wanted)
            left -= slots
            cores += max(slots * shape.cores, held.cores)
            memory_mib += max(slots * shape.memory_mib, held.memory_mib)
            gpus += max(slots * shape.gpus, held.count_gpus(shape.gpu_type))
        found = cores // shape.cores
        if shape.memory_mib:
            found = min(found, memory_mib // shape.memory_mib)
        if shape.gpus:
            found = min(found, gpus // shape.gpus)
        return min(found, max(0, most))

    def _held(self, name: str) -> int:
        """Nodes of our shape that the claims on a part hold, running or not; rounded up."""
        shape = self._shape
        mine = [held for held in self._books.held if held.part == name]
        return max(
            -(-sum(held.nodes * held.shape.cores for held in mine) // shape.cores),
            -(
                -sum(held.nodes * held.shape.memory_mib for held in mine)
                // max(1, shape.memory_mib)
            ),
            -(-sum(held.nodes * held.shape.gpus for held in mine) // max(1, shape.gpus)),
        )

    def _part(self, name: str, nodes: int, until_ms: int, longest_s: int, why: str) -> Part:
        limit_s = self._books.limits_s.get(name, longest_s)
        walltime_s = min(longest_s, limit_s)
        if until_ms:
            left_s = (until_ms - self._now_ms - self._site.overhead_ms) // 1000
            if left_s < walltime_s:
                walltime_s = max(self._template.walltime_min_s, left_s // GRID_S * GRID_S)
        return Part(
            name=name,
            template=self._template,
            nodes=nodes if walltime_s >= self._template.walltime_min_s else 0,
            walltime_max_s=max(1, walltime_s),
            until_ms=until_ms,
            why=why,
        )


def shape_of(template: OfferTemplate, site: Site) -> Shape:
    """One node of a template."""
    return Shape(
        cores=template.cores_per_node,
        gpus=template.gpus_per_node,
        memory_mib=template.memory_mib_per_node,
        gpu_type=(template.gpu_gres or site.gpu_gres).partition(":")[2],
    )


def part_names(template: OfferTemplate) -> tuple[str, ...]:
    """The names that offers of a template may have."""
    if not template.follow:
        return (template.name,)
    return template.name, template.name + LONG, template.name + GAP
