"""Synthetic federations for the matching benchmarks: offers, queues, and hostile ones among them.

Everything comes from seeds. A *shape source* makes the requirements of one job of a home; the real
ones are drawn from batch logs, if a folder of them is there, else from Lublin and Feitelson's model
of such logs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from pathlib import Path

from p2pfed.core.accounting import Standing
from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId, Position
from p2pfed.core.matching import Amount, MatchInput, OfferState, Running, capacity_of
from p2pfed.core.queue import Queue, QueuedJob, Shape
from p2pfed.core.records import Offer
from p2pfed.core.rules import Rules
from p2pfed.simulate.workload import read_trace
from p2pfed.simulate.workload.lublin import synthetic_trace

HOMES = 200
OFFERS = 1_000
CUT_MS = 1_800_000_000_000
RULES = Rules()
CENTRES = [CentreName(f"centre-{number:03}") for number in range(HOMES)]
CLASSES = [f"class-{number:03}" for number in range(1_000)]
"""Rules hold 64 of them at most; more are only to see what the matching would say."""
ShapeSource = Callable[[random.Random, CentreName], Shape]

_ROOT = Path(__file__).resolve().parents[2]


# Jobs


def common_shape(rng: random.Random, home: CentreName) -> Shape:
    """What people ask for: round numbers, so that a home has a few dozen shapes."""
    cores = rng.choice((4, 8, 16, 16, 32))
    return Shape(
        home=home,
        resource_class="cpu",
        nodes=rng.choice((1, 1, 1, 2, 4)),
        cores_per_node=cores,
        gpus_per_node=0,
        memory_mib_per_node=cores * 1_024,
        walltime_s=rng.choice((3_600, 86_400, 259_200)),
        features=(),
        work_class=rng.choice(("normal", "normal", "low")),
        data_class="open",
        allow=(),
        deny=(),
        declined=(),
        no_preempt=False,
    )


def odd_shape(rng: random.Random, home: CentreName) -> Shape:
    """Never the same twice: no two jobs of a home are alike."""
    return common_shape(rng, home)._replace(
        nodes=rng.randint(1, 6),
        cores_per_node=rng.randint(1, 32),
        memory_mib_per_node=rng.randint(1_000, 60_000),
        walltime_s=rng.randint(600, 400_000),
    )


def classed_shape(count: int) -> ShapeSource:
    """Common jobs, each of one of the first `count` work classes."""

    def shape(rng: random.Random, home: CentreName) -> Shape:
        return common_shape(rng, home)._replace(work_class=CLASSES[rng.randrange(count)])

    return shape


def logged_shape(rng: random.Random, home: CentreName) -> Shape:
    """Width and requested time of a job that somebody really submitted, or that the model says."""
    wants = logged_jobs()
    procs, walltime_s = wants[rng.randrange(len(wants))]
    cores = min(procs, 16)
    return common_shape(rng, home)._replace(
        nodes=-(-procs // 16),
        cores_per_node=cores,
        memory_mib_per_node=cores * 1_024,
        walltime_s=walltime_s,
    )


@cache
def logged_jobs() -> list[tuple[int, int]]:
    """Processors and requested seconds of all jobs in the logs."""
    shared = Path(os.environ.get("P2PFED_SHARED", _ROOT.parent / "shared"))
    paths = sorted((shared / "traces").glob("*.swf*"))
    traces = [read_trace(path, CentreName(path.name.split(".")[0])) for path in paths]
    model = synthetic_trace(
        CentreName("model"), procs=128, jobs=10_000, seed=1, load=0.7, start_unix_s=0
    )
    return [(job.procs, job.walltime_s) for trace in traces or [model] for job in trace.jobs]


def logs_found() -> str:
    """What `logged_shape` draws from, for people."""
    return f"{len(logged_jobs()):,} logged jobs, {len(set(logged_jobs())):,} shapes"


def make_queue(
    seed: int, jobs: int, shape_source: ShapeSource, *, homes: int = HOMES, giants: bool = False
) -> Queue:
    """A queue of `jobs` jobs; with `giants`, each home's first jobs fit nowhere."""
    rng = random.Random(seed)
    queue = Queue(RULES.urgency_points_per_hour)
    points = {c.name: c.points for c in RULES.classes}
    for number in range(jobs):
        home = CENTRES[rng.randrange(homes)]
        shape = shape_source(rng, home)
        if giants and number < homes * 5:
            shape = shape._replace(nodes=10_000 + number)
        queue.put(
            QueuedJob(
                job_id=JobId(Position(home, 0, number, 0)),
                shape=shape,
                class_points=points.get(shape.work_class, 0),
                waiting_since_ms=CUT_MS - 600_000_000 + number * 500,
            )
        )
    return queue


# Offers


def make_offer(
    rng: random.Random, number: int, homes: int = HOMES, classes: Sequence[str] = ()
) -> OfferState:
    """An offer that is partly in use, so that about ten of the common jobs still fit."""
    offer_id = OfferId(Position(CENTRES[number % homes], 0, number, 0))
    terms = Offer(
        resource_class="cpu",
        nodes=rng.randint(20, 60),
        cores_per_node=rng.choice((16, 32, 64)),
        memory_mib_per_node=rng.choice((65_536, 131_072)),
        walltime_max_s=rng.choice((86_400, 172_800, 604_800)),
        until_ms=rng.choice((0, 0, CUT_MS + rng.randint(3_600_000, 700_000_000))),
        features=rng.choice(((), ("apptainer",), ("apptainer", "mpi"))),
        classes=tuple(classes),
        deny=rng.choice(((), (), (rng.choice(CENTRES),))),
        min_balance=rng.choice((-500_000, -800_000, -1_000_000)),
    )
    total = capacity_of(terms, terms.nodes)
    free_cores = min(total.cores, rng.randint(150, 420))
    held, running, claims = total.cores - free_cores, [], count()
    while held > 0:
        cores = min(held, rng.choice((16, 64, 256)))
        held -= cores
        ends_ms = CUT_MS + rng.randint(1_000, 100_000_000)
        claim_id = ClaimId(Position(rng.choice(CENTRES), 1, number, next(claims)))
        running.append(Running(ends_ms, Amount(0, cores, 0, cores * 1_024), claim_id))
    free = Amount(
        total.nodes, free_cores, 0, total.memory_mib - sum(r.amount.memory_mib for r in running)
    )
    return OfferState(
        offer_id=offer_id,
        terms=terms,
        nodes=terms.nodes,
        walltime_max_s=terms.walltime_max_s,
        until_ms=terms.until_ms,
        free=free,
        running=tuple(running),
    )


def equal_offers(count: int, homes: int) -> list[OfferState]:
    """Offers that are all alike, so that every choice is a tie."""
    first = make_offer(random.Random(7), 0, homes)
    return [
        OfferState(
            offer_id=OfferId(Position(CENTRES[number % homes], 0, number, 0)),
            terms=first.terms,
            nodes=first.nodes,
            walltime_max_s=first.walltime_max_s,
            until_ms=0,
            free=first.free,
            running=first.running,
        )
        for number in range(count)
    ]


def make_input(
    queue: Queue,
    *,
    offers: int = OFFERS,
    homes: int = HOMES,
    equal: bool = False,
    classes: int = 0,
) -> MatchInput:
    """A round over so many offers and homes.

    Args:
        queue: its jobs.
        offers: how many.
        homes: as many as the queue was made with.
        equal: all offers are alike.
        classes: each offer takes a sixteenth of the first so many classes; 0: it takes all.
    """
    rng = random.Random(7)
    made = (
        equal_offers(offers, homes)
        if equal
        else [
            make_offer(rng, number, homes, sorted(rng.sample(CLASSES[:classes], classes // 16)))
            for number in range(offers)
        ]
    )
    standings = {
        home: Standing(rng.randrange(10**9), rng.randrange(10**9), RULES.credit_line)
        for home in CENTRES[:homes]
    }
    return MatchInput(
        round=CUT_MS // RULES.round_ms,
        cut_ms=CUT_MS,
        rules=RULES,
        queue=queue,
        offers={offer.offer_id: offer for offer in made},
        standings=standings,
        alive=frozenset(CENTRES[:homes]),
    )
