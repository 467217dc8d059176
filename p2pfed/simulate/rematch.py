"""A federation's own past matched again under other rules, by the same `match` that daemons run.

Theory of operation. The jobs of the past come again when they came, run as long as they ran, on
the capacity that was on offer; only who gets what when is decided anew. Time goes from event to
event (a job is posted, one ends, an offer changes, a day begins); at the next round after each,
everything that waits is matched. From its match to its start a job takes the time that was usual.
To compare like with like, the rules that hold are replayed in the same way: what differs is due to
the rules alone.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from statistics import fmean

from p2pfed.core.accounting import Accounts, Standing, balance
from p2pfed.core.ids import CentreName, ClaimId, FeedKey, JobId, OfferId
from p2pfed.core.lifecycle import JobState
from p2pfed.core.matching import MatchInput, match
from p2pfed.core.matching_fit import Amount, OfferState, Running, amount_of, capacity_of
from p2pfed.core.posting import Shares, points_of
from p2pfed.core.queue import Queue, QueuedJob
from p2pfed.core.registers import Verdict
from p2pfed.core.rules import Rules
from p2pfed.core.seen import shape_of
from p2pfed.core.units import DAY_MS, day_of
from p2pfed.simulate.history import History, OfferChange, PastJob

_WAITS = Verdict(JobState.QUEUED)
"""A past job comes again as if no host had ever turned it away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the past under some rules.

    Attributes:
        waits_ms: per job that started; the others would still wait.
        balances: per centre at the end, in ppm.
    """

    waits_ms: dict[JobId, int]
    balances: dict[CentreName, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CentreChange:
    """What the proposed rules would have meant for one centre (`held`: under the present ones).

    Attributes:
        jobs: that start under both.
        less, more: how many of them would have waited a round less, or more.
        waiting_held, waiting_proposed: jobs that would not have started by the end.
    """

    centre: CentreName
    jobs: int
    wait_held_ms: int
    wait_proposed_ms: int
    less: int
    more: int
    waiting_held: int
    waiting_proposed: int
    balance_held: int
    balance_proposed: int


def compare(history: History, proposed: Rules) -> tuple[CentreChange, ...]:
    """What would have changed, by centre, ascending."""
    held, then = rematch(history, history.rules), rematch(history, proposed)
    same_ms = max(history.rules.round_ms, proposed.round_ms)
    found = []
    for centre in sorted(history.credit_lines):
        own = [job.job_id for job in history.jobs if job.job_id.centre == centre]
        both = [j for j in own if j in held.waits_ms and j in then.waits_ms]
        gains = [held.waits_ms[j] - then.waits_ms[j] for j in both]
        found.append(
            CentreChange(
                centre=centre,
                jobs=len(both),
                wait_held_ms=_mean([held.waits_ms[j] for j in both]),
                wait_proposed_ms=_mean([then.waits_ms[j] for j in both]),
                less=sum(gain > same_ms for gain in gains),
                more=sum(gain < -same_ms for gain in gains),
                waiting_held=sum(j not in held.waits_ms for j in own),
                waiting_proposed=sum(j not in then.waits_ms for j in own),
                balance_held=held.balances.get(centre, 0),
                balance_proposed=then.balances.get(centre, 0),
            )
        )
    return tuple(found)


def _mean(values: list[int]) -> int:
    return round(fmean(values)) if values else 0


def rematch(history: History, rules: Rules) -> Outcome:
    """The past under these rules."""
    run = _Run(history, rules)
    run.play()
    return Outcome(waits_ms=run.waits_ms, balances=run.balances())


@dataclass(slots=True)
class _Capacity:
    """An offer as it stands, and what runs there."""

    change: OfferChange
    held: dict[ClaimId, Running] = field(default_factory=dict)

    def state(self) -> OfferState:
        running = tuple(self.held[claim_id] for claim_id in sorted(self.held))
        total = capacity_of(self.change.terms, self.change.nodes)
        held_cores: dict[CentreName, int] = {}
        for part in running:
            home = part.claim_id.centre
            held_cores[home] = held_cores.get(home, 0) + part.amount.cores
        return OfferState(
            offer_id=self.change.offer_id,
            terms=self.change.terms,
            nodes=self.change.nodes,
            walltime_max_s=self.change.walltime_max_s,
            until_ms=self.change.until_ms,
            free=Amount(*(t - sum(p.amount[i] for p in running) for i, t in enumerate(total))),
            held_cores=held_cores,
            running=running,
        )


class _Run:
    """One replay under way."""

    def __init__(self, history: History, rules: Rules) -> None:
        self._history = history
        self._rules = rules
        self._queue = Queue(rules.urgency_points_per_hour)
        self._shares = Shares(rules, history.credit_lines)
        self._accounts = Accounts(rules, history.credit_lines)
        self._offers: dict[OfferId, _Capacity] = {}
        self._jobs = {job.job_id: job for job in history.jobs}
        self._committed: dict[CentreName, int] = {}
        self._running: list[tuple[int, JobId, OfferId]] = []
        self._counted_ms = 0
        self._now_ms = 0
        self.waits_ms: dict[JobId, int] = {}

    def play(self) -> None:
        """From the first event to the last one that can matter."""
        posts = [(job.posted_ms, 0, number) for number, job in enumerate(self._history.jobs)]
        changes = [(c.at_ms, 1, number) for number, c in enumerate(self._history.changes)]
        agenda = sorted(posts + changes)
        at = 0
        self._now_ms = self._counted_ms = agenda[0][0] if agenda else 0
        while at < len(agenda) or self._running:
            times = [self._running[0][0]] if self._running else []
            times += [agenda[at][0]] if at < len(agenda) else []
            times += [(day_of(self._now_ms) + 1) * DAY_MS] if len(self._queue) else []
            cut_ms = -(-min(times) // self._rules.round_ms) * self._rules.round_ms
            cut_ms = max(cut_ms, self._now_ms)
            while at < len(agenda) and agenda[at][0] <= cut_ms:
                _, kind, number = agenda[at]
                if kind == 0:
                    self._post(self._history.jobs[number])
                else:
                    self._change(self._history.changes[number])
                at += 1
            self._end_until(cut_ms)
            self._count_offered(cut_ms)
            self._now_ms = cut_ms
            self._match(cut_ms)

    def _post(self, past: PastJob) -> None:
        home = past.job_id.centre
        work_class = self._shares.classify(FeedKey(home, 0), past.job, past.posted_ms)
        if work_class is not None:
            self._queue.put(
                QueuedJob(
                    job_id=past.job_id,
                    shape=shape_of(past.job_id, past.job, work_class.name, _WAITS, self._rules),
                    class_points=work_class.points,
                    waiting_since_ms=past.posted_ms,
                )
            )

    def _change(self, change: OfferChange) -> None:
        known = self._offers.get(change.offer_id)
        if known is None:
            self._offers[change.offer_id] = _Capacity(change)
        else:
            known.change = change

    def _end_until(self, cut_ms: int) -> None:
        while self._running and self._running[0][0] <= cut_ms:
            ended_ms, job_id, offer_id = heapq.heappop(self._running)
            past = self._jobs[job_id]
            self._offers[offer_id].held.pop(ClaimId(job_id))
            resource = self._rules.resource_class(past.job.resource_class)
            if resource is None:
                continue
            self._committed[job_id.centre] -= points_of(past.job, resource)
            seconds = -(-past.ran_ms // 1000)
            job = past.job
            self._accounts.set_usage(
                ClaimId(job_id),
                home=job_id.centre,
                host=offer_id.centre,
                resource_class=resource.name,
                day=day_of(ended_ms),
                amount=resource.amount(
                    core_s=job.nodes * job.cores_per_node * seconds,
                    gpu_s=job.nodes * job.gpus_per_node * seconds,
                ),
            )

    def _count_offered(self, cut_ms: int) -> None:
        """What was on offer since the last look, to the second."""
        seconds = (cut_ms - self._counted_ms) // 1000
        if seconds <= 0:
            return
        self._counted_ms += seconds * 1000
        for offer_id in sorted(self._offers):
            change = self._offers[offer_id].change
            resource = self._rules.resource_class(change.terms.resource_class)
            if resource is not None and change.nodes:
                units = resource.amount(
                    core_s=change.nodes * change.terms.cores_per_node,
                    gpu_s=change.nodes * change.terms.gpus_per_node,
                )
                self._accounts.add_offered(
                    offer_id.centre, resource.name, day_of(cut_ms), units * seconds
                )

    def _standing(self, centre: CentreName) -> Standing:
        committed = self._committed.get(centre, 0)
        return self._accounts.standing(centre, day_of(self._now_ms), committed)

    def _match(self, cut_ms: int) -> None:
        if not len(self._queue):
            return
        centres = tuple(sorted(self._history.credit_lines))
        given = MatchInput(
            round=cut_ms // self._rules.round_ms,
            cut_ms=cut_ms,
            rules=self._rules,
            queue=self._queue,
            offers={o: c.state() for o, c in sorted(self._offers.items()) if c.change.nodes},
            standings={centre: self._standing(centre) for centre in centres},
            alive=frozenset(centres),
        )
        for placement in match(given).placements:
            self._start(placement.job_id, placement.offer_id, cut_ms)

    def _start(self, job_id: JobId, offer_id: OfferId, cut_ms: int) -> None:
        past = self._jobs[job_id]
        self._queue.drop(job_id)
        start_ms = cut_ms + self._rules.settle_ms + self._history.handover_ms
        self.waits_ms[job_id] = start_ms - past.posted_ms
        surely_ms = start_ms + past.job.walltime_s * 1000 + self._rules.kill_grace_ms
        claim_id = ClaimId(job_id)
        self._offers[offer_id].held[claim_id] = Running(
            ends_ms=surely_ms, amount=amount_of(past.job), claim_id=claim_id
        )
        resource = self._rules.resource_class(past.job.resource_class)
        if resource is not None:
            points = points_of(past.job, resource)
            self._committed[job_id.centre] = self._committed.get(job_id.centre, 0) + points
        heapq.heappush(self._running, (start_ms + past.ran_ms, job_id, offer_id))

    def balances(self) -> dict[CentreName, int]:
        """Per centre at the end."""
        return {c: balance(self._standing(c)) for c in sorted(self._history.credit_lines)}
