"""The federation's side of a replay: jobs, offers, and the daemon's matching of both.

A round's work follows what changed: an offer is made anew only if something happened to its
machine, and a round before which nothing happened is not computed at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from p2pfed.core.accounting import balance
from p2pfed.core.ids import ClaimId, JobId, OfferId, Position
from p2pfed.core.matching import Matcher, MatchInput, OfferState, Running, charge_of
from p2pfed.core.matching_fit import Amount, end_ms
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
        self._needs: list[dict[tuple[int, int, bool], int]] = [{} for _ in machines]
        self._parts: list[list[tuple[int, Capacity]]] = [[] for _ in machines]
        self._offers: list[list[OfferState] | None] = [None] * len(machines)
        self._terms = [_terms(machine, rules) for machine in machines]
        self._stale = set(range(len(machines)))
        self._pending = [0] * len(machines)
        self._shapes: dict[tuple[int, int, int, bool], Shape] = {}
        self.rounds = 0

    def __len__(self) -> int:
        return len(self._queue)

    # What changes

    def post(self, job: int, since_ms: int, walltime_s: int, evictions: int = 0) -> None:
        """The job may go elsewhere, and has been doing so since `since_ms`.

        `evictions` tells how often hosts cut it short.
        """
        home = self._workload.home[job]
        no_preempt = evictions >= self._rules.evictions_max
        shape = self._shape(home, self._workload.width[job], walltime_s, no_preempt=no_preempt)
        need = shape.nodes, walltime_s, no_preempt
        self._needs[home][need] = self._needs[home].get(need, 0) + 1
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
        job_id = self._job_id(job)
        if job_id not in self._queue:
            return
        shape, needs = self._queue[job_id].shape, self._needs[self._workload.home[job]]
        need = shape.nodes, shape.walltime_s, shape.no_preempt
        needs[need] -= 1
        if not needs[need]:
            del needs[need]
        self._queue.drop(job_id)

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
        if not self._hopeful(cut_ms):
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
                offers=self._make_offers(),
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
            self.drop(job)
            self._pending[pair.host] += workload.width[job]
            self._stale.add(pair.host)
            pairs.append(pair)
        return pairs

    def _refresh(self, cut_ms: int) -> None:
        """What the centres that something happened to have for guests now."""
        for centre in self._stale:
            self._offers[centre] = None
            machine, alive = self._machines[centre], self._workload.centres[centre] in self._alive
            closes_ms = self._closes_ms(centre) if alive else None
            parts = [] if closes_ms is None else machine.offers(closes_ms)
            pending, most = self._pending[centre], 0
            self._parts[centre] = found = []
            for step, part in enumerate(parts):
                most = max(most, part.procs)
                if part.procs > pending:
                    found.append((step, part._replace(procs=part.procs - pending)))
            self._accounts.set_offered(centre, most + machine.guest_procs if alive else 0, cut_ms)
        self._stale.clear()

    def _hopeful(self, cut_ms: int) -> bool:
        """False if no job fits what is free anywhere, so that the round could place nothing.

        Then nothing would come of it: reservations bind only within a round. Asked before
        offers are made, this spares most rounds of a busy federation.
        """
        ends_ms = end_ms(cut_ms, 0, self._rules)
        ways = [
            (centre, part.procs, self._longest_s(centre, part, ends_ms))
            for centre, parts in enumerate(self._parts)
            for _, part in parts
        ]
        if not ways:
            return False
        for home, needs in enumerate(self._needs):
            if not needs or self._workload.centres[home] not in self._alive:
                continue
            ppm = balance(self._accounts.standing(home, cut_ms))
            for centre, procs, time_s in ways:
                if centre != home and ppm >= self._terms[centre].min_balance:
                    preempts = self._terms[centre].preemptible
                    for width, walltime_s, no_preempt in needs:
                        if no_preempt and preempts:
                            continue
                        if width <= procs and walltime_s <= time_s:
                            return True
        return False

    def _longest_s(self, centre: int, part: Capacity, ends_ms: int) -> int:
        """The longest walltime that the capacity takes of a job that ends then if it asks for 0."""
        limit_s = self._rules.walltime_max_s
        if not part.long:
            limit_s = min(limit_s, self._machines[centre].policy.long_s)
        if part.until_ms:
            limit_s = min(limit_s, (part.until_ms - ends_ms) // 1_000)
        return limit_s

    def _make_offers(self) -> dict[OfferId, OfferState]:
        """The offers as the matching takes them, those of unchanged machines as they were."""
        offers: dict[OfferId, OfferState] = {}
        for centre, parts in enumerate(self._parts):
            made = self._offers[centre]
            if made is None:
                made = self._offers[centre] = [
                    self._offer(centre, step, part) for step, part in parts
                ]
            for offer in made:
                offers[offer.offer_id] = offer
        return offers

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
        return OfferState(
            offer_id=offer_id,
            terms=self._terms[centre],
            nodes=nodes,
            walltime_max_s=self._longest_s(centre, part._replace(until_ms=0), 0),
            until_ms=self._origin_ms + part.until_ms if part.until_ms else 0,
            free=Amount(part.procs, part.procs, 0, 0),
            running=running,
        )

    def _job_id(self, job: int) -> JobId:
        return JobId(Position(self._workload.centres[self._workload.home[job]], 0, job, 0))

    def _shape(self, home: int, width: int, walltime_s: int, *, no_preempt: bool = False) -> Shape:
        key = home, width, walltime_s, no_preempt
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
                no_preempt=no_preempt,
            )
        return shape


def _terms(machine: Machine, rules: Rules) -> Offer:
    """The terms of a machine's offers; size, walltime and window are those of their states."""
    least = machine.policy.min_balance
    return Offer(
        resource_class=RESOURCE_CLASS,
        nodes=machine.procs,
        cores_per_node=1,
        memory_mib_per_node=1,
        walltime_max_s=rules.walltime_max_s,
        min_balance=rules.min_balance if least is None else least,
        preemptible=machine.policy.preemptible,
    )
