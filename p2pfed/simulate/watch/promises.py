"""What users and administrators were told, against what is there (invariant 3).

An answer is a promise: the job is posted, the job is cancelled, the offer is open. Whatever
crashes, the record that it names must stand in every honest ledger at the end; and once a user was
told that a job is cancelled, its home hands it to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from p2pfed.core.ids import CentreName, FeedKey, JobId, Position, parse_position
from p2pfed.core.records import Cancel, Claim, Handover, Job, Offer
from p2pfed.errors import InputError
from p2pfed.node.effects import Reply
from p2pfed.simulate.memo import Library
from p2pfed.simulate.scene import Centre, Scene

_RECORD: Final = {"submit": Job, "offer": Offer}


@dataclass(frozen=True, slots=True)
class _Told:
    what: str
    position: Position
    at_ms: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question: of what, to which life of whom, when, and whether its disk was full just then.

    A life of 0 says that nobody was there to hear it.
    """

    what: str
    centre: CentreName
    life: int
    at_ms: int
    disk_full: bool


class Promises:
    """Remembers every answer."""

    def __init__(self, scene: Scene, library: Library) -> None:
        self._scene = scene
        self._library = library
        self._asked: dict[int, _Asked] = {}
        self._crashes: set[tuple[CentreName, int]] = set()
        self._full: set[CentreName] = set()
        self._told: list[_Told] = []
        self.acknowledged: list[JobId] = []

    def asked(self, centre: Centre, request: int, what: str) -> None:
        """Somebody asks a centre for something: `submit`, `cancel`, `offer`."""
        waits = centre.disk.full or bool(centre.held_up)
        life = 0 if centre.node is None or not centre.honest else centre.life
        self._asked[request] = _Asked(what, centre.name, life, self._scene.now_ms, waits)

    def crashed(self, centre: Centre) -> None:
        """A daemon dies; `life` was its last."""
        self._crashes.add((centre.name, self._scene.now_ms))

    def unanswered(self, what: str) -> int:
        """How many never got an answer: their centre crashed before it."""
        return sum(asked.what == what for asked in self._without_answer())

    def _without_answer(self) -> list[_Asked]:
        replies = {n for centre in self._scene.centres.values() for n in centre.replies}
        return [asked for request, asked in self._asked.items() if request not in replies]

    def told(self, centre: Centre, reply: Reply) -> None:
        """Somebody got an answer that is no error."""
        try:
            position = parse_position(reply.result)
        except InputError:
            return
        asked = self._asked.get(reply.request)
        what = "decide" if asked is None else asked.what
        if what == "submit":
            self.acknowledged.append(JobId(position))
        if centre.honest:
            self._told.append(_Told(what, position, self._scene.now_ms))

    def at_the_end(self, centres: Iterable[Centre]) -> None:
        """When all is quiet: every promise stands in every ledger; only crashes cost answers."""
        for asked in self._without_answer():
            died = (asked.centre, asked.at_ms) in self._crashes or asked.disk_full
            ended = self._scene.centres[asked.centre].life != asked.life
            what = f"{asked.centre} never answered a {asked.what} of {asked.at_ms}"
            self._scene.hold((died and ended) or not asked.life, what)
        for centre in centres:
            self._kept(centre)

    def _kept(self, centre: Centre) -> None:
        blocks = [self._library.read(b) for b in centre.disk.everything() if not b.side]
        at = {(b.feed, b.seq_num): b for b in blocks}
        cancelled: dict[Position, tuple[int, int]] = {}
        jobs: dict[Position, Position] = {}
        handed: list[tuple[Position, tuple[int, int]]] = []
        for block in blocks:
            place = block.feed.epoch, block.seq_num
            for index, record in enumerate(block.records):
                if isinstance(record, Cancel) and record.job_id.centre == block.header.centre:
                    cancelled.setdefault(record.job_id, place)
                elif isinstance(record, Claim):
                    jobs[block.position(index)] = record.job_id
                elif isinstance(record, Handover):
                    handed.append((record.claim_id, place))
        for told in self._told:
            if told.what == "cancel":
                kept = told.position in cancelled
            else:
                found = at.get((FeedKey(*told.position[:2]), told.position.seq_num))
                records = () if found is None else found.records
                wanted = _RECORD.get(told.what, object)
                index = told.position.record_index
                kept = index < len(records) and isinstance(records[index], wanted)
            what = f"{told.what} {told.position}, acknowledged {told.at_ms}"
            self._scene.hold(kept, f"{centre.name} does not know of {what}")
        for claim_id, place in handed:
            job_id = jobs.get(claim_id)
            late = job_id is not None and cancelled.get(job_id, place) < place
            honest = self._scene.centres[claim_id.centre].honest
            self._scene.hold(not (late and honest), f"{job_id} was handed over when cancelled")
