"""The jobs that wait, kept so that a round looks only at those it may place.

Theory of operation. A job's score is `class + urgency x waiting time + balance of its home`. Within
one home the balance is common, and waiting time grows alike for all, so the *order* of a home's
jobs never changes: it is fixed by `(order, job id)` with

    order = waiting_since_ms x urgency_points_per_hour - class_points x 3_600_000

(the negated score in exact integers, without the common terms). So the queue stays sorted
from round to round, and a job costs one insertion and one removal in its life.

Jobs of equal requirements are one `Shape`: they fit equally, so only the first of a shape, its
*head*, has to be tried. The heads of one home whose requirements are alike (resource class; total
cores and GPUs within a factor of two; memory and walltime within four) form a `Cell`: when nothing
could take even the least that a cell may hold, all its shapes are passed over at once.
docs/adr/0004-queue-by-home-cell-shape.md tells why this structure and what it costs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from p2pfed.core.ids import CentreName, JobId, OfferId

HOUR_MS: Final = 3_600_000


Kind = tuple[tuple[str, ...], str, str]
"""Features, work class and data class of a shape."""


class Shape(NamedTuple):
    """All that the matching looks at in a job: equal shapes fit equally.

    Attributes:
        work_class: the class that the job counts as, which may be below the one it asked for.
        allow: hosts that may run it; empty means all.
        deny: hosts that may not.
        declined: offers whose host turned this job away for good, ascending.
        no_preempt: only offers that don't preempt; hosts sent it away often enough (rules).
        avoided: hosts that let a claim of it come to nothing, ascending: only if no other fits.
    """

    home: CentreName
    resource_class: str
    nodes: int
    cores_per_node: int
    gpus_per_node: int
    memory_mib_per_node: int
    walltime_s: int
    features: tuple[str, ...]
    work_class: str
    data_class: str
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    declined: tuple[OfferId, ...]
    no_preempt: bool
    avoided: tuple[CentreName, ...] = ()

    @property
    def kind(self) -> Kind:
        """What offers are picky about, whoever asks."""
        return self[7:10]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job that waits.

    Attributes:
        class_points: what its work class adds to the score.
        waiting_since_ms: where its waiting time counts from; not later than any cut it is in.
    """

    job_id: JobId
    shape: Shape
    class_points: int
    waiting_since_ms: int


Key = tuple[int, JobId]
"""Where a job stands in its home: `(order, job id)`, ascending; the first comes first."""


class Corner(NamedTuple):
    """The least that a shape of a cell may need: powers of two, or of four."""

    resource_class: str
    cores: int
    gpus: int
    memory_mib: int
    walltime_s: int


class Cell:
    """The heads of a home's shapes that need at least `corner`, and little more."""

    __slots__ = ("corner", "heads")

    def __init__(self, corner: Corner) -> None:
        self.corner = corner
        self.heads: SortedList = SortedList()  # of Key


class _Home:
    __slots__ = ("cells", "order")

    def __init__(self) -> None:
        self.order: SortedList = SortedList()  # of Key
        self.cells: dict[Corner, Cell] = {}


def _power_below(value: int) -> int:
    return 1 << value.bit_length() - 1 if value else 0


def _power_of_four_below(value: int) -> int:
    return 1 << (value.bit_length() - 1 & ~1) if value else 0


def corner_of(shape: Shape) -> Corner:
    """The corner of the cell that the shape belongs to."""
    nodes = shape.nodes
    return Corner(
        shape.resource_class,
        _power_below(nodes * shape.cores_per_node),
        _power_below(nodes * shape.gpus_per_node),
        _power_of_four_below(nodes * shape.memory_mib_per_node),
        _power_of_four_below(shape.walltime_s),
    )


class Queue:
    """The waiting jobs of all homes.

    Args:
        urgency_points_per_hour: the rules' value. A matching under other rules reorders the queue
            (`set_urgency`), which costs a full rebuild.
    """

    def __init__(self, urgency_points_per_hour: int = 100) -> None:
        self._urgency = urgency_points_per_hour
        self._jobs: dict[JobId, QueuedJob] = {}
        self._homes: dict[CentreName, _Home] = {}
        self._members: dict[Shape, list[Key]] = {}
        self._changes = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._jobs

    def __getitem__(self, job_id: JobId) -> QueuedJob:
        """The job of this id; KeyError if it does not wait."""
        return self._jobs[job_id]

    @property
    def changes(self) -> int:
        """Grows whenever a job comes, goes or changes: equal counts mean an equal queue."""
        return self._changes

    def get(self, job_id: JobId) -> QueuedJob | None:
        """The job, if it waits."""
        return self._jobs.get(job_id)

    def homes(self) -> tuple[CentreName, ...]:
        """The homes that have a job waiting, ascending."""
        return tuple(sorted(self._homes))

    def count(self, home: CentreName) -> int:
        """How many jobs of the home wait."""
        found = self._homes.get(home)
        return len(found.order) if found else 0

    def in_order(self, home: CentreName) -> Iterator[QueuedJob]:
        """The home's jobs, the highest score first. The queue must not change meanwhile."""
        found = self._homes.get(home)
        return (self._jobs[job_id] for _, job_id in (found.order if found else ()))

    def key(self, job: QueuedJob) -> Key:
        """Where the job stands, or would stand, among those of its home."""
        order = job.waiting_since_ms * self._urgency - job.class_points * HOUR_MS
        return order, job.job_id

    def before(self, home: CentreName, key: Key) -> int:
        """How many jobs of the home stand before `key`."""
        found = self._homes.get(home)
        return int(found.order.bisect_left(key)) if found else 0

    def key_at(self, home: CentreName, index: int) -> Key | None:
        """The key of the home's job number `index` (from 0), None if it has not as many."""
        found = self._homes.get(home)
        if found is None or index >= len(found.order):
            return None
        key: Key = found.order[index]
        return key

    def cells(self, home: CentreName) -> Iterable[Cell]:
        """The home's cells, in no particular order."""
        found = self._homes.get(home)
        return found.cells.values() if found else ()

    def members(self, shape: Shape) -> list[Key]:
        """The keys of the shape's jobs, ascending. Not to be changed by the caller."""
        return self._members.get(shape, [])

    def put(self, job: QueuedJob) -> None:
        """Adds the job, or replaces the one of this id. O(log n)."""
        before = self._jobs.get(job.job_id)
        if before == job:
            return
        if before is not None:
            self.drop(job.job_id)
        self._changes += 1
        shape = job.shape
        key = self.key(job)
        self._jobs[job.job_id] = job
        home = self._homes.get(shape.home)
        if home is None:
            home = self._homes[shape.home] = _Home()
        home.order.add(key)
        members = self._members.get(shape)
        if members is None:
            self._members[shape] = [key]
        elif key > members[0]:
            insort(members, key)
            return
        else:
            self._drop_head(home, shape, members[0])
            members.insert(0, key)
        self._add_head(home, shape, key)

    def drop(self, job_id: JobId) -> None:
        """Removes the job; nothing happens if it does not wait. O(log n)."""
        job = self._jobs.pop(job_id, None)
        if job is None:
            return
        self._changes += 1
        shape = job.shape
        key = self.key(job)
        home = self._homes[shape.home]
        home.order.remove(key)
        members = self._members[shape]
        if key != members[0]:
            del members[bisect_left(members, key)]
            return
        self._drop_head(home, shape, key)
        del members[0]
        if members:
            self._add_head(home, shape, members[0])
        else:
            del self._members[shape]
            if not home.order:
                del self._homes[shape.home]

    def set_urgency(self, urgency_points_per_hour: int) -> None:
        """Orders the queue by another weight of waiting time; nothing happens if it is the same."""
        if urgency_points_per_hour == self._urgency:
            return
        jobs = list(self._jobs.values())
        self._urgency = urgency_points_per_hour
        self._jobs, self._homes, self._members = {}, {}, {}
        for job in jobs:
            self.put(job)

    def _add_head(self, home: _Home, shape: Shape, key: Key) -> None:
        corner = corner_of(shape)
        cell = home.cells.get(corner)
        if cell is None:
            cell = home.cells[corner] = Cell(corner)
        cell.heads.add(key)

    def _drop_head(self, home: _Home, shape: Shape, key: Key) -> None:
        corner = corner_of(shape)
        cell = home.cells[corner]
        cell.heads.remove(key)
        if not cell.heads:
            del home.cells[corner]
