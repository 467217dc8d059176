"""One trial: a federation that works, is treated badly, heals, and is examined.

All of a trial follows from its `Plan`, and a plan from a seed. Invariants are checked after every
call of a node (`p2pfed.simulate.checks`). Then the faults end. Within `HEAL_MS` every centre must
be whole again and every job of every home at its end; all ledgers must agree, and each must pass
the audit that a stranger would make of its export.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from p2pfed.core.audit import FileSource, audit_ledger
from p2pfed.core.audit.findings import Severity
from p2pfed.core.charter import encode_charter
from p2pfed.core.ids import CentreName
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.records import Job, Offer
from p2pfed.core.rules import Rules
from p2pfed.simulate.hardship.faults import KINDS, Kind
from p2pfed.simulate.scene import Faults
from p2pfed.simulate.world import World

FOUND_MS: Final = 20_000
HEAL_MS: Final = 600_000

RULES: Final = Rules(
    objection_ms=0,
    round_ms=1_000,
    settle_ms=300,
    heartbeat_ms=1_000,
    offer_lease_ms=5_000,
    max_skew_ms=5_000,
    clock_error_ms=500,
    claim_wait_ms=5_000,
    approval_wait_ms=10_000,
    accept_wait_ms=5_000,
    fetch_ms=5_000,
    queue_ms=3_000,
    kill_grace_ms=1_000,
    walltime_max_s=60,
)
"""Rules for jobs of seconds, so that a minute is a long time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a trial does.

    Attributes:
        seed: everything random follows from it.
        centres: how many; every other one offers, the rest post jobs.
        jobs: how many are posted.
        minutes: how long the faults last.
        kinds: names of the faults that strike.
    """

    seed: int
    centres: int
    jobs: int
    minutes: int
    kinds: tuple[str, ...]

    def command(self) -> str:
        """What replays the trial."""
        return (
            f"scripts/simulate-faults --seed {self.seed} --centres {self.centres} "
            f"--jobs {self.jobs} --minutes {self.minutes} --kinds {','.join(self.kinds) or 'none'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a trial: `broken` is empty if all held."""

    plan: Plan
    broken: str
    trace: str
    simulated_ms: int
    runs: int


def draw_plan(seed: int) -> Plan:
    """The plan of a seed."""
    rng = Random(f"plan {seed}")
    kinds = tuple(kind.name for kind in KINDS if rng.random() < 0.5)
    return Plan(
        seed=seed,
        centres=rng.choice((3, 4, 4, 5)),
        jobs=rng.randint(4, 12),
        minutes=1,
        kinds=kinds,
    )


def shrink(broken: Outcome) -> Outcome:
    """The smallest trial found that breaks something, trying one thing less at a time."""
    smallest = broken
    tried: set[Plan] = set()
    while True:
        for smaller in _smaller(smallest.plan):
            if smaller in tried:
                continue
            tried.add(smaller)
            found = run_trial(smaller)
            if found.broken:
                smallest = found
                break
        else:
            return smallest


def _smaller(plan: Plan) -> list[Plan]:
    fewer = [replace(plan, kinds=tuple(k for k in plan.kinds if k != gone)) for gone in plan.kinds]
    if plan.centres > 2:
        fewer.append(replace(plan, centres=plan.centres - 1))
    if plan.jobs > 1:
        fewer.append(replace(plan, jobs=plan.jobs // 2))
    return fewer


def run_trial(plan: Plan, tell: Callable[[str], None] | None = None) -> Outcome:
    """Runs a trial; what breaks is told in the outcome, never raised.

    Args:
        plan: what to do.
        tell: takes each line of the trace, if somebody wants to read it.
    """
    trial = _Trial(plan)
    trial.world.listener = tell
    broken = ""
    try:
        trial.run()
    except AssertionError as error:
        broken = str(error) or "an assertion without a word"
    world = trial.world
    return Outcome(
        plan=plan,
        broken=broken,
        trace=world.trace.hexdigest(),
        simulated_ms=world.elapsed_ms,
        runs=sum(map(len, world.runs.values())),
    )


class _Trial:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = World(plan.seed, plan.centres, RULES, Faults())
        names = sorted(self.world.centres)
        self._hosts, self._homes = names[::2], names[1::2] or names[:1]
        self._left = plan.jobs

    def run(self) -> None:
        world = self.world
        self._hold(world.run(FOUND_MS, world.all_up), "a centre does not come up in a calm world")
        for host in self._hosts:
            world.open_offer(host, _offer())
        for number in range(self.plan.jobs):
            home = self._homes[number % len(self._homes)]
            self._post_at(world.now_ms + world.rng.randint(0, 40_000), home, number)
        end_ms = world.now_ms + self.plan.minutes * 60_000
        world.faults = Faults(
            delay_ms=(1, world.rng.randint(5, 300)),
            crash_per_mille=world.rng.randint(0, 3) if "kill" in self.plan.kinds else 0,
            cut_per_mille=world.rng.randint(0, 4) if "cut" in self.plan.kinds else 0,
        )
        for kind in KINDS:
            if kind.name in self.plan.kinds:
                self._strike_until(end_ms, kind, world.rng.randint(1, kind.most_a_minute))
        world.run(end_ms - world.now_ms)
        self._heal()

    def _strike_until(self, end_ms: int, kind: Kind, a_minute: int) -> None:
        world = self.world
        wait_ms = world.rng.randint(1, 2 * 60_000 // a_minute)

        def strike() -> None:
            if world.now_ms < end_ms:
                world.log("fault", kind.name)
                kind.strike(world)
                self._strike_until(end_ms, kind, a_minute)

        world.at(world.now_ms + wait_ms, strike)

    def _post_at(self, when_ms: int, home: CentreName, number: int) -> None:
        world = self.world

        def post() -> None:
            if world.centres[home].up:
                self._left -= 1
                world.submit(home, _job(number))
            else:
                self._post_at(world.now_ms + 500, home, number)

        world.at(when_ms, post)

    def _heal(self) -> None:
        world = self.world
        world.faults = Faults()
        world.network.severed.clear()
        healed = world.run(HEAL_MS, lambda: self._left == 0 and self._settled())
        self._hold(healed, f"not healed after {HEAL_MS // 1000} s: {self._unsettled()}")
        world.run(10_000)
        world.checks.at_the_end()
        for name in sorted(world.centres):
            self._audit(name)

    def _settled(self) -> bool:
        return self.world.all_up() and not self._unsettled()

    def _unsettled(self) -> list[str]:
        """What is not at rest, centre by centre."""
        found = []
        for name, centre in sorted(self.world.centres.items()):
            if centre.node is None:
                found.append(f"{name} is down")
                continue
            live = centre.node.ledger.live
            if not centre.node.recovery.ready:
                found.append(f"{name}: {centre.node.recovery.explain()}")
            if not all(map(live.passed, self.world.checks.acknowledged)):
                found.append(f"{name} does not know every job")
            for entry in live.jobs.values():
                verdict = live.judge(entry)
                if not verdict.state.final:
                    found.append(f"{name}: {entry.job_id} is {verdict.state.value}")
        return found

    def _audit(self, name: CentreName) -> None:
        blocks = self.world.centres[name].disk.blocks
        data = b"".join(write_ledger(encode_charter(self.world.charter), blocks))
        report = audit_ledger(FileSource(io.BytesIO(data)), expected=self.world.federation.id)
        findings = report.ledger.findings
        found = [str(finding) for finding in findings if finding.severity is Severity.ERROR]
        self._hold(not found, f"the audit of {name}'s ledger accuses honest centres: {found[:3]}")

    def _hold(self, condition: bool, what: str) -> None:
        if not condition:
            raise AssertionError(f"seed {self.plan.seed} at {self.world.elapsed_ms} ms: {what}")


def _offer() -> Offer:
    return Offer(
        resource_class="cpu",
        nodes=2,
        cores_per_node=4,
        memory_mib_per_node=4_000,
        walltime_max_s=50,
    )


def _job(number: int) -> Job:
    return Job(
        resource_class="cpu",
        nodes=1,
        cores_per_node=2,
        memory_mib_per_node=500,
        walltime_s=5,
        work_class="normal",
        payload_digest=number.to_bytes(32, "big"),
        payload_bytes=10,
    )
