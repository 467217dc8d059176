"""The federated world: each centre under EASY, and the daemon's own matching between them.

Theory of operation. Events stand in a heap: ends, claims, accepts, returns. After the events of one
time, every machine that something happened to makes a scheduling pass. Rounds are at the multiples
of `round_ms`; in a round the state at its cut goes through the same `Matcher`, `Accounts` and
`Rules` as in a daemon, and what it decides happens `settle_ms` later: by then the home may have
started the job itself (then nothing is claimed) or the host may have filled up (then the claim is
turned down, and the job goes back into its queue). A round before which nothing changed would
decide what the one before it decided, so it is not computed: that is why 16 weeks of rounds of 10 s
take seconds.

A job that waits is in two queues, its home's and the federation's; whichever comes first takes it
out of the other. A centre that leaves keeps what runs. A guest that is cut short goes back to its
home, after `evictions_max` goes only to centres that don't preempt, and after `max_attempts` is not
sent out again.

Simulated hardware has processors only: one is a node of one core without memory to speak of.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from p2pfed.simulate.workload.accounts import ReplayAccounts
from p2pfed.simulate.workload.exchange import Exchange, Pair
from p2pfed.simulate.workload.ideal import scaled_s
from p2pfed.simulate.workload.machine import Machine
from p2pfed.simulate.workload.options import FederationOptions
from p2pfed.simulate.workload.outcome import Outcome
from p2pfed.simulate.workload.trace import WEEK_S
from p2pfed.simulate.workload.workload import Workload

Progress = Callable[[int, int], None]
"""Told now and then how far a replay is: (jobs that have come, all jobs)."""

_NEVER: Final = 1 << 62
_HOUR_MS: Final = 3_600_000
_WEEK_MS: Final = WEEK_S * 1_000
_MESSAGES: Final = 3
"""From an accept to the start of its job: accept, handover, payload."""
_STEP: Final = 2_048
"""Jobs that come between two reports of progress."""

# Kinds of events; those of one time happen in this order.
_END_LOCAL, _END_GUEST, _BACK, _CLAIM, _ACCEPT, _WAITED, _BOOK, _WINDOW, _LEAVE = range(9)


def run_federated(
    workload: Workload,
    options: FederationOptions | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Replays the workload with all its centres in one federation.

    Args:
        workload: the jobs.
        options: policies, rules and the like; the defaults are what p2pfed ships.
        progress: told how far it is.

    Raises:
        InputError: `workload-option` for rules without the class `normal` or the resource `cpu`;
            `workload-centre` for a policy of a centre that is not there.
    """
    world = FederatedWorld(workload, options or FederationOptions(), progress)
    world.run()
    return world.outcome()


class FederatedWorld:
    """One federated replay; `run` it, then ask for its `outcome`."""

    def __init__(
        self, workload: Workload, options: FederationOptions, progress: Progress | None = None
    ) -> None:
        for name in options.policies:
            workload.index(name)
        self._workload = workload
        self._options = options
        self._progress = progress
        self._rules = options.rules
        self._origin_ms = workload.origin_unix_s * 1_000
        self._policies = [options.of(name) for name in workload.centres]
        self._set_up_columns()
        self._accounts = ReplayAccounts(
            options.rules,
            workload.centres,
            workload.procs,
            options.credit_days,
            self._origin_ms,
        )
        self.machines = [
            Machine(procs, policy, list(workload.width), self._walltime_ms[centre])
            for centre, (procs, policy) in enumerate(
                zip(workload.procs, self._policies, strict=True)
            )
        ]
        self._exchange = Exchange(
            workload, options.rules, self.machines, self._accounts, self._closes_ms
        )
        self._events: list[tuple[int, int, int, int]] = []  # (time, kind, job or centre, extra)
        self._now_ms = 0
        self._touched = [False] * len(workload.procs)
        self._any_touched = False
        self._round_ms = _NEVER
        self._to_post: list[int] = []
        self._left = [False] * len(workload.procs)

    def _set_up_columns(self) -> None:
        workload, count = self._workload, len(self._workload)
        self._run_ms, self._walltime_ms = [], []
        for policy in self._policies:
            speed = policy.speed
            self._run_ms.append([scaled_s(run, speed) * 1_000 for run in workload.run_s])
            self._walltime_ms.append(
                [max(1, scaled_s(asked, speed)) * 1_000 for asked in workload.walltime_s]
            )
        slowest = min(policy.speed for policy in self._policies)
        self._posted_s = [max(1, scaled_s(asked, slowest)) for asked in workload.walltime_s]
        self._where = list(workload.home)
        self._start_ms = [0] * count
        self._end_ms = [0] * count
        self._useful_ms = [0] * count  # lasting work of earlier runs, if jobs checkpoint
        self._wait_ms = [0] * count
        self._done_part = [0.0] * count  # the part of the work that is done
        self._requeues = [0] * count
        self._wasted_s = [0] * count
        self._delayed_ms = [0] * count
        self._held_since: dict[int, int] = {}
        self._claims = self._declined = 0

    # The loop

    def run(self) -> None:
        """Lets everything happen, until the last job has ended."""
        workload, events = self._workload, self._events
        submit_s, count = workload.submit_s, len(workload)
        heappush(events, (0, _BOOK, 0, 0))
        for centre, policy in enumerate(self._policies):
            if policy.windows:
                heappush(events, (0, _WINDOW, centre, 0))
            if policy.leaves_s is not None:
                heappush(events, (policy.leaves_s * 1_000, _LEAVE, centre, 0))
        arrived, self._open = 0, count
        next_ms = submit_s[0] * 1_000 if count else _NEVER
        while self._open:
            now = min(events[0][0], next_ms, self._round_ms)
            self._now_ms = now
            while events and events[0][0] == now:
                _, kind, number, extra = heappop(events)
                self._happen(kind, number, extra)
            while next_ms == now:
                self._arrive(arrived)
                arrived += 1
                next_ms = submit_s[arrived] * 1_000 if arrived < count else _NEVER
                if self._progress and not arrived % _STEP:
                    self._progress(arrived, count)
            if self._any_touched:
                self._pass_all()
            if self._round_ms == now:
                self._round()
        if self._progress:
            self._progress(count, count)

    def _happen(self, kind: int, number: int, extra: int) -> None:
        if kind == _END_LOCAL:
            self._end_local(number)
        elif kind == _END_GUEST:
            if extra == self._requeues[number]:
                self._end_guest(number)
        elif kind == _BACK:
            self._come_back(number)
        elif kind == _CLAIM:
            self._claim(Pair(number, extra))
        elif kind == _ACCEPT:
            self._accept(Pair(number, extra))
        elif kind == _WAITED:
            self._to_post.append(number)
            self._wake()
        elif kind == _BOOK:
            self._book()
        elif kind == _WINDOW:
            self._turn_window(number)
        else:
            self._leave(number)

    def _touch(self, centre: int) -> None:
        self._touched[centre] = True
        self._any_touched = True
        self._exchange.touch(centre)
        self._wake()

    def _wake(self) -> None:
        """Something changed: the next round must be computed."""
        if self._round_ms == _NEVER:
            round_ms = self._rules.round_ms
            cut_ms = -(-(self._origin_ms + self._now_ms) // round_ms) * round_ms
            self._round_ms = cut_ms - self._origin_ms

    # Local jobs

    def _arrive(self, job: int) -> None:
        home = self._workload.home[job]
        self.machines[home].submit(job)
        self._touch(home)
        self._export(job)

    def _export(self, job: int) -> None:
        """Lets a job go out once it has waited long enough, if its home lets jobs out."""
        home = self._workload.home[job]
        policy = self._policies[home]
        if not policy.exports or self._left[home]:
            return
        if self._requeues[job] >= self._rules.max_attempts:
            return
        due_ms = (self._workload.submit_s[job] + policy.after_wait_s) * 1_000
        if due_ms <= self._now_ms:
            self._to_post.append(job)
        else:
            heappush(self._events, (due_ms, _WAITED, job, 0))

    def _pass_all(self) -> None:
        self._any_touched = False
        for centre, touched in enumerate(self._touched):
            if touched:
                self._touched[centre] = False
                self._pass(centre)

    def _pass(self, centre: int) -> None:
        """One scheduling pass of a machine."""
        machine, now = self.machines[centre], self._now_ms
        decided = machine.schedule(now)
        for job in decided.preempted:
            self._preempt(job)
        for job in decided.started:
            self._exchange.drop(job)
            self._start_ms[job] = now
            self._where[job] = centre
            left = self._run_left_ms(job, centre)
            heappush(self._events, (now + left, _END_LOCAL, job, 0))
            since = self._held_since.pop(job, None)
            if since is not None:
                self._delayed_ms[job] = now - since
        first = machine.held_up()
        if first is not None:
            self._held_since.setdefault(first, now)

    def _run_left_ms(self, job: int, centre: int) -> int:
        """How long the job still runs there."""
        whole = self._run_ms[centre][job]
        done = self._done_part[job]
        return whole - int(whole * done) if done else whole

    def _end_local(self, job: int) -> None:
        home = self._workload.home[job]
        self.machines[home].end_local(self._start_ms[job] + self._walltime_ms[home][job], job)
        self._finish(job)
        self._touch(home)

    def _finish(self, job: int) -> None:
        now = self._now_ms
        self._end_ms[job] = now
        useful_ms = self._useful_ms[job] + now - self._start_ms[job]
        self._wait_ms[job] = now - self._workload.submit_s[job] * 1_000 - useful_ms
        self._open -= 1

    # Between centres

    def _round(self) -> None:
        self._round_ms = _NEVER
        for job in self._to_post:
            home = self._workload.home[job]
            if self.machines[home].waits(job) and not self._left[home]:
                since_ms = self._workload.submit_s[job] * 1_000
                since_ms += self._policies[home].after_wait_s * 1_000
                self._exchange.post(job, since_ms, self._posted_s[job], self._requeues[job])
        self._to_post.clear()
        pairs = self._exchange.match(self._now_ms)
        claim_ms = self._now_ms + self._rules.settle_ms
        for pair in pairs:
            heappush(self._events, (claim_ms, _CLAIM, *pair))
        if pairs:
            self._now_ms += 1  # the next round, not this one again
            self._wake()
            self._now_ms -= 1

    def _claim(self, pair: Pair) -> None:
        """The home takes the match, if the job still waits; it leaves the home's queue."""
        home = self._workload.home[pair.job]
        machine = self.machines[home]
        if not machine.waits(pair.job) or self._left[home]:
            self._exchange.settle(pair)
            self._wake()
            return
        machine.withdraw(pair.job)
        self._held_since.pop(pair.job, None)
        self._claims += 1
        self._touch(home)
        accept_ms = self._now_ms + self._options.delay_ms
        heappush(self._events, (accept_ms, _ACCEPT, *pair))

    def _accept(self, pair: Pair) -> None:
        """The host accepts if it still has room; its own jobs come first, to this very time."""
        job, host = pair
        if self._any_touched:
            self._pass_all()
        machine, delay_ms = self.machines[host], self._options.delay_ms
        lead_ms = _MESSAGES * delay_ms
        self._exchange.settle(pair)
        self._wake()
        closes_ms = None if self._left[host] else self._closes_ms(host)
        if closes_ms is None or not machine.takes(self._now_ms + lead_ms, job, closes_ms):
            self._declined += 1
            heappush(self._events, (self._now_ms + delay_ms, _BACK, job, 0))
            return
        start_ms = self._now_ms + lead_ms
        machine.admit_guest(job, start_ms + self._walltime_ms[host][job], long=machine.is_long(job))
        self._where[job] = host
        self._start_ms[job] = start_ms
        self._commit(job, 1)
        end_ms = start_ms + self._run_left_ms(job, host)
        heappush(self._events, (end_ms, _END_GUEST, job, self._requeues[job]))

    def _commit(self, job: int, sign: int) -> None:
        points = self._exchange.charge(job, self._posted_s[job])
        self._accounts.commit(self._workload.home[job], sign * points)

    def _come_back(self, job: int) -> None:
        """A job is in its home's queue again, where it stood."""
        home = self._workload.home[job]
        self.machines[home].submit(job)
        self._touch(home)
        self._export(job)

    def _end_guest(self, job: int) -> None:
        host, now = self._where[job], self._now_ms
        machine = self.machines[host]
        machine.end_guest(job, long=machine.is_long(job))
        self._commit(job, -1)
        amount_s = (now - self._start_ms[job]) * self._workload.width[job] // 1_000
        self._accounts.book_usage(job, self._workload.home[job], host, amount_s, now)
        self._finish(job)
        self._touch(host)

    def _preempt(self, job: int) -> None:
        """A guest is cut short; what a host ends itself is not charged."""
        host, now = self._where[job], self._now_ms
        machine = self.machines[host]
        machine.end_guest(job, long=machine.is_long(job))
        self._commit(job, -1)
        self._requeues[job] += 1  # so its end, which stands in the heap, happens no more
        ran_ms = max(0, now - self._start_ms[job])
        if self._options.checkpoints:
            self._useful_ms[job] += ran_ms
            whole_ms = self._run_ms[host][job]
            self._done_part[job] = min(1.0, self._done_part[job] + ran_ms / max(1, whole_ms))
        else:
            self._wasted_s[job] += ran_ms * self._workload.width[job] // 1_000
        heappush(self._events, (now + self._options.delay_ms, _BACK, job, 0))
        self._exchange.touch(host)
        self._wake()

    # What comes with time

    def _book(self) -> None:
        now = self._now_ms
        if now:
            self._accounts.book_offered(now)
        if not now % (self._options.sample_s * 1_000):
            self._accounts.sample(now)
        step_ms = min(_HOUR_MS, self._options.sample_s * 1_000)
        heappush(self._events, (now + step_ms, _BOOK, 0, 0))
        if len(self._exchange):
            self._wake()  # balances have moved

    def _week_ms(self) -> int:
        """The time of the week, from Monday 00:00 UTC."""
        return (self._origin_ms + self._now_ms - 4 * 24 * _HOUR_MS) % _WEEK_MS

    def _closes_ms(self, centre: int) -> int | None:
        """When the centre's window closes; 0 if it has none, None if it is closed now."""
        windows = self._policies[centre].windows
        if not windows:
            return 0
        week_ms = self._week_ms()
        for begin, end in windows:
            if begin * 1_000 <= week_ms < end * 1_000:
                return self._now_ms + end * 1_000 - week_ms
        return None

    def _turn_window(self, centre: int) -> None:
        """A window opens or closes; the next such time becomes an event."""
        week_ms = self._week_ms()
        edges = [edge * 1_000 for window in self._policies[centre].windows for edge in window]
        ahead = min((edge - week_ms - 1) % _WEEK_MS + 1 for edge in edges)
        heappush(self._events, (self._now_ms + ahead, _WINDOW, centre, 0))
        self._touch(centre)

    def _leave(self, centre: int) -> None:
        self._left[centre] = True
        self._exchange.leave(centre)
        for job in self.machines[centre].waiting:
            self._exchange.drop(job)
        self._touch(centre)

    def outcome(self) -> Outcome:
        """What happened to each job."""
        return Outcome(
            world="federated",
            workload=self._workload,
            start_ms=self._start_ms,
            end_ms=self._end_ms,
            wait_ms=self._wait_ms,
            where=self._where,
            requeues=self._requeues,
            wasted_s=self._wasted_s,
            delayed_ms=self._delayed_ms,
            balances=self._accounts.samples,
            rounds=self._exchange.rounds,
            claims=self._claims,
            declined=self._declined,
        )
