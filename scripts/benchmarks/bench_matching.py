"""What one round of matching costs, beside the bare cost of picking as many jobs from heaps.

Synthetic federations of 200 homes and 1 000 offers, made from one seed. The baseline is what no
matcher can save: for every placement a pop and a push on a heap of homes, and one insertion into
and one removal from a sorted list of offers.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from heapq import heapify, heapreplace
from itertools import count

from p2pfed.core.accounting import Standing
from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId, Position
from p2pfed.core.matching import (
    Amount,
    Matcher,
    Matching,
    MatchInput,
    OfferState,
    Running,
    amount_of,
    capacity_of,
    match,
)
from p2pfed.core.queue import Queue, QueuedJob, Shape
from p2pfed.core.records import Offer
from p2pfed.core.rules import Rules

HOMES = 200
OFFERS = 1_000
CUT_MS = 1_800_000_000_000
RULES = Rules()
CENTRES = [CentreName(f"centre-{number:03}") for number in range(HOMES)]
ShapeSource = Callable[[random.Random, CentreName], Shape]


def make_offer(rng: random.Random, number: int) -> OfferState:
    """An offer that is partly in use, so that about ten of the jobs below still fit."""
    offer_id = OfferId(Position(CENTRES[number % HOMES], 0, number, 0))
    terms = Offer(
        resource_class="cpu",
        nodes=rng.randint(20, 60),
        cores_per_node=rng.choice((16, 32, 64)),
        memory_mib_per_node=rng.choice((65_536, 131_072)),
        walltime_max_s=rng.choice((86_400, 172_800, 604_800)),
        until_ms=rng.choice((0, 0, CUT_MS + rng.randint(3_600_000, 700_000_000))),
        features=rng.choice(((), ("apptainer",), ("apptainer", "mpi"))),
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
    )


def odd_shape(rng: random.Random, home: CentreName) -> Shape:
    """Never the same twice: no two jobs of a home are alike."""
    return common_shape(rng, home)._replace(
        nodes=rng.randint(1, 6),
        cores_per_node=rng.randint(1, 32),
        memory_mib_per_node=rng.randint(1_000, 60_000),
        walltime_s=rng.randint(600, 400_000),
    )


def make_queue(seed: int, jobs: int, shape_source: ShapeSource, *, giants: bool = False) -> Queue:
    """A queue of `jobs` jobs; with `giants`, each home's first job fits nowhere."""
    rng = random.Random(seed)
    queue = Queue(RULES.urgency_points_per_hour)
    points = {c.name: c.points for c in RULES.classes}
    for number in range(jobs):
        home = CENTRES[rng.randrange(HOMES)]
        shape = shape_source(rng, home)
        if giants and number < HOMES * 5:
            shape = shape._replace(nodes=10_000 + number)
        queue.put(
            QueuedJob(
                job_id=JobId(Position(home, 0, number, 0)),
                shape=shape,
                class_points=points[shape.work_class],
                waiting_since_ms=CUT_MS - 600_000_000 + number * 500,
            )
        )
    return queue


def make_input(queue: Queue, *, equal_offers: bool = False) -> MatchInput:
    """A round over 1 000 offers and 200 homes."""
    rng = random.Random(7)
    offers = [make_offer(rng, 0 if equal_offers else number) for number in range(OFFERS)]
    if equal_offers:
        first = offers[0]
        offers = [
            OfferState(
                offer_id=OfferId(Position(CENTRES[number % HOMES], 0, number, 0)),
                terms=first.terms,
                nodes=first.nodes,
                walltime_max_s=first.walltime_max_s,
                until_ms=0,
                free=first.free,
                running=first.running,
            )
            for number in range(OFFERS)
        ]
    standings = {
        home: Standing(rng.randrange(10**9), rng.randrange(10**9), RULES.credit_line)
        for home in CENTRES
    }
    return MatchInput(
        round=CUT_MS // RULES.round_ms,
        cut_ms=CUT_MS,
        rules=RULES,
        queue=queue,
        offers={offer.offer_id: offer for offer in offers},
        standings=standings,
        alive=frozenset(CENTRES),
    )


def bare_cost_s(placements: int) -> float:
    """Heap and sorted list only, for as many placements."""
    rng = random.Random(3)
    heap = [(rng.randrange(10**12), Position(home, 0, 0, 0)) for home in CENTRES]
    heapify(heap)
    offers = sorted((0, rng.randint(150, 420), 0, number) for number in range(OFFERS))
    moves = [(rng.randrange(10**12), rng.randrange(OFFERS)) for _ in range(placements)]
    start = time.process_time()
    for rank, index in moves:
        heapreplace(heap, (rank, heap[0][1]))
        offer = offers[index]
        del offers[bisect_left(offers, offer)]
        insort(offers, (0, offer[1] - 1, 0, offer[3]))
    return time.process_time() - start


def best_of(runs: int, given: MatchInput) -> tuple[float, Matching]:
    """The least CPU time of some runs, garbage collection on, and what was matched."""
    found = []
    for _ in range(runs):
        start = time.process_time()
        matching = match(given)
        found.append((time.process_time() - start, matching))
    return min(found, key=lambda run: run[0])


def after(given: MatchInput, matching: Matching) -> MatchInput:
    """The next round, when all that was placed is claimed: nothing more fits."""
    offers = dict(given.offers)
    for placement in matching.placements:
        job, offer = given.queue[placement.job_id], offers[placement.offer_id]
        given.queue.drop(placement.job_id)
        shape = job.shape
        amount = amount_of(shape)
        ends_ms = CUT_MS + shape.walltime_s * 1_000
        claim = ClaimId(placement.job_id)
        offers[offer.offer_id] = OfferState(
            offer_id=offer.offer_id,
            terms=offer.terms,
            nodes=offer.nodes,
            walltime_max_s=offer.walltime_max_s,
            until_ms=offer.until_ms,
            free=Amount(*(a - b for a, b in zip(offer.free, amount, strict=True))),
            held_cores=offer.held_cores,
            running=(*offer.running, Running(ends_ms, amount, claim)),
        )
    return MatchInput(
        round=given.round + 1,
        cut_ms=given.cut_ms + RULES.round_ms,
        rules=RULES,
        queue=given.queue,
        offers=offers,
        standings=given.standings,
        alive=given.alive,
    )


def resident_kib() -> int:
    """The peak of the resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def settle(given: MatchInput, matching: Matching) -> tuple[MatchInput, Matcher]:
    """Rounds until nothing is placed any more."""
    matcher = Matcher()
    while matching.placements:
        given = after(given, matching)
        matching = matcher.match(given)
    return given, matcher


def report(name: str, queue: Queue, *, equal_offers: bool = False) -> None:
    """Prints one line of the table."""
    given = make_input(queue, equal_offers=equal_offers)
    gc.collect()
    queued = len(queue)
    round_s, matching = best_of(3, given)
    bare_s = bare_cost_s(len(matching.placements))
    placed = len(matching.placements)
    line = f"{name:28} {queued:>9,} {placed:>8,} {len(matching.reservations):>6,}"
    line += f" {matching.tried:>9,} {round_s * 1e3:>9.1f} {round_s / bare_s:>6.1f}x"
    given, matcher = settle(given, matching)
    full_s, _ = best_of(1, given)
    start = time.process_time()
    matcher.match(given)
    line += f" {full_s * 1e3:>9.1f} {(time.process_time() - start) * 1e3:>9.2f}"
    print(line)


def report_all(sizes: list[int], *, hostile: bool) -> None:
    """Prints every line of the table."""
    for size in sizes:
        report("common shapes", make_queue(1, size, common_shape))
    if not hostile:
        return
    size = sizes[-1]
    report("equal, fresh offers", make_queue(1, size, common_shape), equal_offers=True)
    report("giants first", make_queue(1, size, common_shape, giants=True))
    report("all shapes different", make_queue(1, size, odd_shape))


def memory_per_job(shape_source: ShapeSource, jobs: int) -> int:
    """Bytes of resident memory per queued job; must be the first to allocate much."""
    before = resident_kib()
    queue = make_queue(1, jobs, shape_source)
    return (resident_kib() - before) * 1024 // len(queue)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--no-hostile", action="store_true")
    options = parser.parse_args()
    used = memory_per_job(odd_shape, 200_000)
    print(f"memory per queued job, all shapes different: {used} bytes")
    print(
        f"{'':28} {'queued':>9} {'placed':>8} {'kept':>6} {'tried':>9} {'ms':>9} {'ratio':>7}"
        f" {'full ms':>9} {'same ms':>9}"
    )
    report_all(options.sizes, hostile=not options.no_hostile)
    print("CPU time. ratio: to heap and sorted list alone. full: a round that places nothing.")
    print("same: that round again, nothing changed.")


if __name__ == "__main__":
    main()
