"""Small federations for the properties of the matching: few names, small numbers, many ties.

A world is made from a seed, because worlds drawn choice by choice turn out too tame: nearly
everything in them is refused for one reason or another. Sizes are drawn, so failures still shrink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from hypothesis import strategies as st

from p2pfed.core.accounting import Standing
from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId, Position
from p2pfed.core.matching import Amount, MatchInput, OfferState, Running, amount_of, match
from p2pfed.core.queue import Queue, QueuedJob, Shape
from p2pfed.core.records import Offer
from p2pfed.core.rules import ResourceClass, Rules

CUT_MS = 1_000_000_000
CENTRES = [CentreName(name) for name in ("alpha", "beta", "gamma", "delta", "omega")]
TIMES_MS = (-5_000, 70_000, 120_000, 160_000, 160_001, 260_000)
"""Around the ends of jobs of 10, 60, 100 and 200 s placed at the cut."""
POINTS = {"urgent": 1_000, "normal": 500, "low": 0}


class Dice:
    """A seeded source of choices; a plain world has no conditions."""

    def __init__(self, seed: int, *, plain: bool) -> None:
        self.rng = Random(seed)
        self.plain = plain

    def of(self, *values: int) -> int:
        return self.rng.choice(values)

    def centre(self) -> CentreName:
        return self.rng.choice(CENTRES)

    def condition(self, names: Sequence[str]) -> tuple[str, ...]:
        """Mostly empty; else some of the names."""
        if self.plain or self.rng.random() < 0.75:
            return ()
        return tuple(sorted(self.rng.sample(names, self.rng.randint(1, 2))))


def make_offer(dice: Dice, number: int) -> OfferState:
    offer_id = OfferId(Position(dice.centre(), dice.of(0, 1), number, 0))
    gpus = 0 if dice.plain else dice.of(0, 0, 2)
    terms = Offer(
        resource_class="gpu" if gpus else "cpu",
        nodes=dice.of(1, 2, 3, 4),
        cores_per_node=dice.of(4, 8),
        gpus_per_node=gpus,
        memory_mib_per_node=dice.of(8, 16),
        walltime_max_s=3_600 if dice.plain else dice.of(100, 3_600, 3_600),
        features=("mpi",) if dice.of(0, 1) else (),
        classes=dice.condition(("normal", "low")),
        data_classes=dice.condition(("open", "closed")),
        allow=dice.condition(CENTRES),
        deny=dice.condition(CENTRES),
        per_centre_cores=0 if dice.plain else dice.of(0, 0, 6, 12),
        min_balance=dice.of(-1_000_000, -1_000_000, -1_000_000, -500_000, 0),
        preemptible=bool(dice.of(0, 1)) and not dice.plain,
    )
    nodes = terms.nodes
    running: list[Running] = []
    held_cores: dict[CentreName, int] = {}
    free = [nodes, nodes * terms.cores_per_node, nodes * gpus, nodes * terms.memory_mib_per_node]
    for index in range(dice.of(0, 1, 2, 4)):
        cores = dice.rng.randint(0, min(8, free[1]))
        amount = Amount(0, cores, dice.rng.randint(0, gpus), dice.of(0, 1, 3))
        home = dice.centre()
        claim_id = ClaimId(Position(home, 0, 10_000 + number, index))
        running.append(Running(CUT_MS + dice.of(*TIMES_MS), amount, claim_id))
        held_cores[home] = held_cores.get(home, 0) + amount.cores
        free = [a - b for a, b in zip(free, amount, strict=True)]
    return OfferState(
        offer_id=offer_id,
        terms=terms,
        nodes=nodes,
        walltime_max_s=terms.walltime_max_s,
        until_ms=dice.of(0, 0, 0, CUT_MS + 160_000, CUT_MS + 260_000),
        free=Amount(*free),
        held_cores=held_cores,
        running=tuple(running),
    )


def make_job(dice: Dice, number: int, offers: list[OfferId]) -> QueuedJob:
    home = dice.centre()
    work_class = dice.rng.choice(("urgent", "normal", "low"))
    resource_class = "cpu" if dice.plain else dice.rng.choice(("cpu", "cpu", "gpu"))
    declined = () if dice.plain or dice.of(0, 1) else dice.rng.sample(offers, 1)
    shape = Shape(
        home=home,
        resource_class=resource_class,
        nodes=dice.of(1, 1, 2, 3),
        cores_per_node=dice.of(1, 2, 4, 8),
        gpus_per_node=dice.of(0, 1, 2) if resource_class == "gpu" else 0,
        memory_mib_per_node=dice.of(0, 1, 1, 4, 8),
        walltime_s=dice.of(10, 60, 100, 200),
        features=("mpi",) if dice.of(0, 0, 0, 1) else (),
        work_class=work_class,
        data_class="closed" if dice.of(0, 0, 0, 1) else "open",
        allow=dice.condition(CENTRES),
        deny=dice.condition(CENTRES),
        declined=tuple(declined),
        no_preempt=bool(dice.of(0, 0, 1)) and not dice.plain,
        avoided=tuple(map(CentreName, dice.condition(CENTRES))),
    )
    return QueuedJob(
        job_id=JobId(Position(home, 0, number, dice.of(0, 1))),
        shape=shape,
        class_points=POINTS[work_class],
        waiting_since_ms=CUT_MS - dice.of(0, 1, 1_000, 3_600_000, 18_000_000),
    )


def make_world(seed: int, offer_count: int, job_count: int, plain: bool) -> MatchInput:
    """A round of a small federation; a third of its offers and jobs have a twin."""
    dice = Dice(seed, plain=plain)
    rules = Rules(
        reserve_depth=dice.of(0, 1, 1, 2, 3),
        live_jobs_max=dice.of(2, 100, 100),
        urgency_points_per_hour=dice.of(7, 100),
        balance_points=dice.of(0, 500, 3_001),
        resource_classes=(
            ResourceClass(name="cpu", unit="core", points_num=2, points_den=3),
            ResourceClass(name="gpu", unit="gpu", points_num=50),
        ),
    )
    offers = [make_offer(dice, number) for number in range(offer_count)]
    for number in range(0, offer_count, 3):  # twins make ties, which all must break alike
        twin_id = OfferId(offers[number].offer_id._replace(seq_num=1_000 + number))
        offers.append(replace(offers[number], offer_id=twin_id))
    ids = [offer.offer_id for offer in offers]
    jobs = [make_job(dice, number, ids) for number in range(job_count)]
    for number in range(0, job_count, 3):
        twin = JobId(jobs[number].job_id._replace(seq_num=1_000 + number))
        since_ms = jobs[number].waiting_since_ms - dice.of(0, 0, 500)
        jobs.append(replace(jobs[number], job_id=twin, waiting_since_ms=since_ms))
    dice.rng.shuffle(jobs)
    dice.rng.shuffle(offers)
    queue = Queue(dice.of(7, 100))
    for job in jobs:
        queue.put(job)
    known = CENTRES[: dice.of(4, 5)]
    return MatchInput(
        round=dice.of(0, 1, 2),
        cut_ms=CUT_MS,
        rules=rules,
        queue=queue,
        offers={offer.offer_id: offer for offer in offers},
        standings={
            name: Standing(dice.rng.randint(0, 20_000), dice.rng.randint(0, 20_000), dice.of(0, 9))
            for name in known
        },
        alive=frozenset(CENTRES[: dice.of(4, 5)]),
    )


def worlds(jobs_max: int = 32) -> st.SearchStrategy[MatchInput]:
    """Rounds of small federations."""
    return st.builds(
        make_world,
        seed=st.integers(0, 2**32),
        offer_count=st.integers(1, 9),
        job_count=st.integers(1, jobs_max),
        plain=st.booleans(),
    )


def claimed(world: MatchInput) -> MatchInput:
    """The next round's world, once every placement of this one was claimed."""
    offers = dict(world.offers)
    for job_id, offer_id, _ in match(world).placements:
        job, offer = world.queue[job_id], offers[offer_id]
        world.queue.drop(job_id)
        amount, home = amount_of(job.shape), job.shape.home
        ends_ms = world.cut_ms + 60_000 + job.shape.walltime_s * 1_000
        offers[offer_id] = replace(
            offer,
            free=Amount(*(a - b for a, b in zip(offer.free, amount, strict=True))),
            held_cores={
                **offer.held_cores,
                home: offer.held_cores.get(home, 0) + amount.cores,
            },
            running=(*offer.running, Running(ends_ms, amount, ClaimId(job_id))),
        )
    return replace(world, round=world.round + 1, offers=offers)
