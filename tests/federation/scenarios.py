"""What the simulated federations of these tests have in common: fast rules, small jobs, an end."""

from __future__ import annotations

from p2pfed.core.ids import CentreName, JobId
from p2pfed.core.records import Job, Offer
from p2pfed.core.rules import Rules
from p2pfed.simulate.scene import Faults
from p2pfed.simulate.world import World

RULES = Rules(
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
    checkpoint_ms=10_000,
    walltime_max_s=60,
)
UNKIND = Faults(delay_ms=(1, 80), crash_per_mille=4, cut_per_mille=3, clock_offset_ms=100)
CALM = Faults()
HOSTS = (CentreName("c000"), CentreName("c002"))
HOMES = (CentreName("c001"), CentreName("c003"))


def offer(nodes: int = 2) -> Offer:
    """Capacity for eight cores at a time."""
    return Offer(
        resource_class="cpu",
        nodes=nodes,
        cores_per_node=4,
        memory_mib_per_node=4_000,
        walltime_max_s=50,
    )


def job(number: int = 0, *, cores: int = 2, walltime_s: int = 5) -> Job:
    """A job of one node; the number makes its payload digest its own."""
    return Job(
        resource_class="cpu",
        nodes=1,
        cores_per_node=cores,
        memory_mib_per_node=500,
        walltime_s=walltime_s,
        work_class="normal",
        payload_digest=number.to_bytes(32, "big"),
        payload_bytes=10,
    )


class Busy(World):
    """Four centres; two offer, two post jobs over twenty seconds."""

    def __init__(self, seed: int, jobs: int) -> None:
        super().__init__(seed, 4, RULES, CALM)
        self.posts_left = jobs

    def post(self, home: CentreName, number: int) -> None:
        """Posts a job as soon as its centre takes any."""
        if self.centres[home].up:
            self.posts_left -= 1
            self.submit(home, job(number))
        else:
            self.at(self.now_ms + 500, lambda: self.post(home, number))


def busy_federation(seed: int, faults: Faults, jobs: int = 20) -> Busy:
    """A federation that has begun to work, and then meets the faults."""
    world = Busy(seed, jobs)
    assert world.run(20_000, world.all_up), f"seed {seed}: not all centres came up"
    for host in HOSTS:
        world.open_offer(host, offer())
    world.faults = faults
    for number in range(jobs):
        home = HOMES[number % len(HOMES)]
        _post_later(world, home, number)
    return world


def _post_later(world: Busy, home: CentreName, number: int) -> None:
    when_ms = world.now_ms + world.rng.randint(0, 20_000)
    world.at(when_ms, lambda: world.post(home, number))


def heal(world: Busy) -> None:
    """Ends the faults and waits until every job has come to its end everywhere."""
    world.faults = CALM
    world.network.severed.clear()
    assert world.run(400_000, lambda: world.posts_left == 0 and settled(world)), (
        f"seed {world.seed}: not settled: {report(world)}"
    )
    world.run(10_000)
    world.checks.at_the_end()


def settled(world: World) -> bool:
    """True if all centres are up and agree that every job is at its end."""
    if not world.all_up():
        return False
    for centre in world.centres.values():
        assert centre.node is not None
        live = centre.node.ledger.live
        if not all(live.passed(job_id) for job_id in world.checks.acknowledged):
            return False
        if not all(live.judge(entry).state.final for entry in live.jobs.values()):
            return False
    return True


def report(world: World) -> dict[str, dict[str, str]]:
    """Where every job stands, by centre, for a failed test."""
    found: dict[str, dict[str, str]] = {}
    for name, centre in world.centres.items():
        if centre.node is None:
            found[name] = {"node": "down"}
            continue
        live = centre.node.ledger.live
        states = {
            str(entry.job_id): live.judge(entry).state.value
            for entry in live.jobs.values()
            if not live.judge(entry).state.final
        }
        found[name] = {"recovery": centre.node.recovery.explain(), **states}
    return found


def states(world: World, name: CentreName = HOMES[0]) -> dict[JobId, str]:
    """The state of every job, as one centre sees it."""
    node = world.centres[name].node
    assert node is not None
    live = node.ledger.live
    return {job_id: live.judge(entry).state.value for job_id, entry in live.jobs.items()}
