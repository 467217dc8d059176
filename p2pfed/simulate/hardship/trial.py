"""One trial: a federation that works, is treated badly, heals, and is examined.

All of a trial follows from its `Plan`, and a plan from a seed. Invariants are checked after every
call of a node and before every effect (`p2pfed.simulate.checks`). Then the faults end, and
`p2pfed.simulate.hardship.healing` says what must be true again within how long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from p2pfed.core.ids import CentreName
from p2pfed.core.records import Job
from p2pfed.core.rules import Rules
from p2pfed.simulate.hardship import council
from p2pfed.simulate.hardship.faults import KINDS, NAMES, ONCE, Kind
from p2pfed.simulate.hardship.healing import OFFER, Healing
from p2pfed.simulate.hardship.older import OlderNode
from p2pfed.simulate.hardship.rogues import rogue_kind
from p2pfed.simulate.scene import Faults
from p2pfed.simulate.world import World

FOUND_MS: Final = 20_000

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
    receipt_deadline_ms=60_000,
    walltime_max_s=60,
    notice_rounds=4,
)
"""Rules for jobs of seconds, so that a minute is a long time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a trial does.

    Attributes:
        seed: everything random follows from it.
        centres: how many found the federation; every other one offers, the rest post jobs, and
            by half of the seeds those that offer post some, too.
        jobs: how many are posted.
        seconds: how long the faults last.
        kinds: names of the faults that strike.
    """

    seed: int
    centres: int
    jobs: int
    seconds: int
    kinds: tuple[str, ...]

    @property
    def rogue(self) -> bool:
        """Whether one more member does what it likes."""
        return any(kind.rogue for kind in KINDS if kind.name in self.kinds)

    def command(self) -> str:
        """What replays the trial."""
        return (
            f"scripts/simulate-faults --seed {self.seed} --centres {self.centres} "
            f"--jobs {self.jobs} --seconds {self.seconds} --kinds {','.join(self.kinds) or 'none'}"
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
    rogue, members, density = rng.random() < 0.3, rng.random() < 0.3, rng.uniform(0.1, 0.4)
    drawn = {kind.name for kind in KINDS if not kind.rogue and rng.random() < density}
    drawn |= {kind.name for kind in KINDS if kind.rogue and rogue and rng.random() < 0.3}
    if members:
        drawn.add(rng.choice(ONCE))
    return Plan(
        seed=seed,
        centres=rng.choice((3, 3, 3, 4, 4, 5)),
        jobs=rng.choice((4, 8, 12, 20)),
        seconds=rng.choice((15, 25, 40)),
        kinds=tuple(name for name in NAMES if name in drawn),
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
    if plan.seconds > 5:
        fewer.append(replace(plan, seconds=plan.seconds // 2))
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
    except Exception as error:  # noqa: BLE001 - a node that raises is one of the things looked for
        broken = f"seed {plan.seed}: {type(error).__name__}: {error}"
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
        near_midnight = plan.seed % 3 == 0
        self.world = World(
            plan.seed, plan.centres + plan.rogue, RULES, Faults(), near_midnight=near_midnight
        )
        names = sorted(self.world.centres)
        if plan.rogue:
            self._corrupt(names.pop())
        self._hosts, self._homes = names[::2], names[1::2] or names[:1]
        if plan.seed % 2:
            self._homes += self._hosts
        self._left = plan.jobs
        if "older" in plan.kinds:
            self.world.centres[self._homes[-1]].kind = OlderNode
            self._restart(self._homes[-1])

    def _corrupt(self, name: CentreName) -> None:
        centre = self.world.centres[name]
        centre.honest, centre.kind = False, rogue_kind(self.plan.kinds)
        self._restart(name)

    def _restart(self, name: CentreName) -> None:
        self.world.crash(name, down_ms=10)

    def run(self) -> None:
        """Plays all acts."""
        world, plan = self.world, self.plan
        world.hold(world.run(FOUND_MS, world.all_up), "a centre does not come up in a calm world")
        self._work()
        end_ms = world.now_ms + plan.seconds * 1_000
        world.faults = self._weather()
        for kind in KINDS:
            if kind.name in plan.kinds:
                a_minute = world.rng.randint(1, kind.most_a_minute)
                self._strike_until(end_ms, kind, a_minute, self.plan.seconds * 800)
        for name in ONCE:
            if name in plan.kinds:
                when_ms = world.now_ms + world.rng.randint(1_000, plan.seconds * 800)
                world.at(when_ms, self._once(name))
        world.run(end_ms - world.now_ms)
        Healing(world, self._hosts, self._homes, lambda: self._left == 0).run()

    def _work(self) -> None:
        """Offers are opened, and jobs come: some of them alone, some at one moment everywhere."""
        world, rng = self.world, self.world.rng
        rogues = [name for name, centre in world.centres.items() if not centre.honest]
        for host in (*self._hosts, *rogues):
            world.open_offer(host, OFFER)
        number = 0
        while number < self.plan.jobs:
            when_ms = world.now_ms + rng.randint(0, self.plan.seconds * 800)
            for home in (*self._homes, *rogues) if rng.random() < 0.5 else self._homes[:1]:
                if number < self.plan.jobs:
                    self._post_at(when_ms, home, job(number, rng))
                    number += 1
            rng.shuffle(self._homes)

    def _weather(self) -> Faults:
        """What lasts as long as the faults do."""
        rng, kinds = self.world.rng, self.plan.kinds
        return Faults(
            delay_ms=(1, rng.randint(5, 300)),
            loss_per_mille=rng.randint(1, 300) if "loss" in kinds else 0,
            bytes_per_ms=rng.randint(1, 20) if "slow" in kinds else 0,
            crash_per_mille=rng.randint(0, 4) if "kill" in kinds else 0,
            cut_per_mille=rng.randint(0, 4) if "cut" in kinds else 0,
            queue_ms=(0, rng.randint(1_000, 12_000)) if "queue" in kinds else (0, 500),
            lie_per_mille=rng.randint(100, 700) if "lies" in kinds else 0,
        )

    def _strike_until(self, end_ms: int, kind: Kind, a_minute: int, most_ms: int) -> None:
        """Lets a fault strike again and again; the first time within `most_ms`."""
        world = self.world
        wait_ms = world.rng.randint(1, min(most_ms, 2 * 60_000 // a_minute))

        def strike() -> None:
            if world.now_ms < end_ms:
                world.log("fault", kind.name)
                kind.strike(world)
                self._strike_until(end_ms, kind, a_minute, 2 * 60_000)

        world.at(world.now_ms + wait_ms, strike)

    def _once(self, name: str) -> Callable[[], None]:
        world = self.world

        def strike() -> None:
            world.log("fault", name)
            if name == "join":
                council.join(world, self._hosts.append)
            elif name == "epoch":
                council.lose_all(world, world.rng.choice(self._hosts + self._homes))
            elif len(self._hosts) > 1 and self._hosts[-1] not in self._homes:
                # Not somebody with jobs of its own, which would wait for ever.
                (council.leave if name == "leave" else council.remove)(world, self._hosts.pop())

        return strike

    def _post_at(self, when_ms: int, home: CentreName, posted: Job) -> None:
        world = self.world

        def post() -> None:
            if world.centres[home].up or not world.centres[home].honest:
                self._left -= 1
                world.submit(home, posted)
            else:
                self._post_at(world.now_ms + 500, home, posted)

        world.at(when_ms, post)


def job(number: int, rng: Random) -> Job:
    """Some work; the number makes its payload digest its own."""
    return Job(
        resource_class="cpu",
        nodes=rng.choice((1, 1, 2)),
        cores_per_node=rng.choice((1, 2, 4, 4)),
        memory_mib_per_node=500,
        walltime_s=rng.randint(2, 12),
        work_class=rng.choice(("normal", "normal", "urgent")),
        payload_digest=number.to_bytes(32, "big"),
        payload_bytes=10,
    )
