"""The federation's side of a replay: jobs, offers, and the daemon's matching of both.

A round's work follows what changed: an offer is made anew only if something happened to its
machine, and a round before which nothing happened is not computed at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from p2pfed.core.ids import ClaimId, JobId, OfferId, Position
from p2pfed.core.matching import Matcher, MatchInput, OfferState, Running, charge_of
from p2pfed.core.matching_fit import Amount
from p2pfed.core.queue import Queue, QueuedJob, Shape
from p2pfed.core.records import Offer
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError
from p2pfed.simulate.workload.accounts import RESOURCE_CLASS, ReplayAccounts
from p2pfed.simulate.workload.machine import Capacity, Machine
from p2pfed.simulate.workload.workload import Workload

WORK_CLASS = "normal"


class Pair(NamedTuple):
    """A job and the centre that it was matched to."""

    job: int
    host: int


class Exchange:
    """Jobs and offers of all centres.

    Args:
        workload: the jobs.
        rules: of the federation; they must know the class `normal` and the resource `cpu`.
        machines: per centre.
        accounts: for standings.
        closes_ms: the time by which guests of a centre must be done, asked when its offers are
            made; 0 for no limit.

    Raises:
        InputError: `workload-option`.
    """

    def __init__(
        self,
        workload: Workload,
        rules: Rules,
        machines: Sequence[Machine],
        accounts: ReplayAccounts,
        closes_ms: Callable[[int], int | None],
    ) -> None:
        work_class = rules.work_class(WORK_CLASS)
        if work_class is None or rules.resource_class(RESOURCE_CLASS) is None:
            raise InputError(
                "workload-option",
                f"the rules lack the work class {WORK_CLASS} or the resource {RESOURCE_CLASS}",
                remedy="replays are made of such jobs: add them",
            )
        self._points = work_class.points
        self._workload = workload
        self._rules = rules
        self._machines = machines
        self._accounts = accounts
        self._closes_ms = closes_ms
        self._origin_ms = workload.origin_unix_s * 1_000
        self._queue = Queue(rules.urgency_points_per_hour)
        self._matcher = Matcher()
        self._number = {name: number for number, name in enumerate(workload.centres)}
        self._alive = set(workload.centres)
        self._offers: dict[OfferId, OfferState] = {}
        self._stale = set(range(len(machines)))
        self._pending = [0] * len(machines)
        self._shapes: dict[tuple[int, int, int], Shape] = {}
        self.rounds = 0

    def __len__(self) -> int:
        return len(self._queue)

    # What changes

    def post(self, job: int, since_ms: int, walltime_s: int) -> None:
        """The job may go elsewhere; it has been doing so since `since_ms`."""
        home = self._workload.home[job]
        shape = self._shape(home, self._workload.width[job], walltime_s)
        self._queue.put(
            QueuedJob(
                job_id=self._job_id(job),
                shape=shape,
                class_points=self._points,
                waiting_since_ms=self._origin_ms + since_ms,
            )
        )

    def drop(self, job: int) -> None:
        """The job goes nowhere any more, if it could."""
        self._queue.drop(self._job_id(job))

    def touch(self, centre: int) -> None:
        """Something happened to the centre's machine: its offers must be made anew."""
        self._stale.add(centre)

    def leave(self, centre: int) -> None:
        """The centre's offers and jobs count no more."""
        self._alive.discard(self._workload.centres[centre])

    def settle(self, pair: Pair) -> None:
        """A matched pair's capacity is held by the job from now on, or free again."""
        self._pending[pair.host] -= self._workload.width[pair.job]
        self._stale.add(pair.host)

    def charge(self, job: int, walltime_s: int) -> int:
        """The points that the job is charged while it holds capacity elsewhere."""
        width = self._workload.width[job]
        return charge_of(self._shape(self._workload.home[job], width, walltime_s), self._rules)

    # Rounds

    def match(self, cut_ms: int) -> list[Pair]:
        """Computes the round of this cut; what it places is out of the queue and pending."""
        if self._stale:
            self._refresh(cut_ms)
        if not self._offers or not len(self._queue):
            return []
        self.rounds += 1
        accounts, workload = self._accounts, self._workload
        absolute_ms = self._origin_ms + cut_ms
        matching = self._matcher.match(
            MatchInput(
                round=absolute_ms // self._rules.round_ms,
                cut_ms=absolute_ms,
                rules=self._rules,
                queue=self._queue,
                offers=self._offers,
                standings={
                    home: accounts.standing(self._number[home], cut_ms)
                    for home in self._queue.homes()
                },
                alive=self._alive,
            )
        )
        pairs = []
        for placement in matching.placements:
            job = placement.job_id.seq_num
            pair = Pair(job, self._number[placement.offer_id.centre])
            self._queue.drop(placement.job_id)
            self._pending[pair.host] += workload.width[job]
            self._stale.add(pair.host)
            pairs.append(pair)
        return pairs

    def _refresh(self, cut_ms: int) -> None:
        for centre in sorted(self._stale):
            name = self._workload.centres[centre]
            for step in range(4):
                self._offers.pop(self._offer_id(centre, step), None)
            if name not in self._alive:
                self._accounts.set_offered(centre, 0, cut_ms)
                continue
            closes_ms = self._closes_ms(centre)
            machine = self._machines[centre]
            parts = [] if closes_ms is None else machine.offers(closes_ms)
            most = 0
            for step, part in enumerate(parts):
                procs = part.procs - self._pending[centre]
                most = max(most, part.procs)
                if procs > 0:
                    offer = self._offer(centre, step, part._replace(procs=procs))
                    self._offers[offer.offer_id] = offer
            self._accounts.set_offered(centre, most + machine.guest_procs, cut_ms)
        self._stale.clear()

    def _offer_id(self, centre: int, step: int) -> OfferId:
        return OfferId(Position(self._workload.centres[centre], 0, step, 0))

    def _offer(self, centre: int, step: int, part: Capacity) -> OfferState:
        """The offer of a capacity, with the guests whose processors return to it."""
        rules, machine = self._rules, self._machines[centre]
        offer_id = self._offer_id(centre, step)
        running: tuple[Running, ...] = ()
        if rules.reserve_depth:
            running = tuple(
                Running(
                    self._origin_ms + guest.ends_ms,
                    Amount(guest.procs, guest.procs, 0, 0),
                    ClaimId(Position(offer_id.centre, 0, guest.job, 1)),
                )
                for guest in machine.guests.values()
                if not part.long or machine.is_long(guest.job)
            )
        nodes = part.procs + sum(one.amount.nodes for one in running)
        walltime_max_s = rules.walltime_max_s
        if not part.long:
            walltime_max_s = min(walltime_max_s, machine.policy.long_s)
        until_ms = self._origin_ms + part.until_ms if part.until_ms else 0
        terms = Offer(
            resource_class=RESOURCE_CLASS,
            nodes=nodes,
            cores_per_node=1,
            memory_mib_per_node=1,
            walltime_max_s=walltime_max_s,
            until_ms=until_ms,
            min_balance=rules.min_balance,
            preemptible=machine.policy.preemptible,
        )
        return OfferState(
            offer_id=offer_id,
            terms=terms,
            nodes=nodes,
            walltime_max_s=walltime_max_s,
            until_ms=until_ms,
            free=Amount(part.procs, part.procs, 0, 0),
            running=running,
        )

    def _job_id(self, job: int) -> JobId:
        return JobId(Position(self._workload.centres[self._workload.home[job]], 0, job, 0))

    def _shape(self, home: int, width: int, walltime_s: int) -> Shape:
        key = home, width, walltime_s
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(
                home=self._workload.centres[home],
                resource_class=RESOURCE_CLASS,
                nodes=width,
                cores_per_node=1,
                gpus_per_node=0,
                memory_mib_per_node=0,
                walltime_s=walltime_s,
                features=(),
                work_class=WORK_CLASS,
                data_class="open",
                allow=(),
                deny=(),
                declined=(),
            )
        return shape
