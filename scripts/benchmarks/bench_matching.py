"""What one round of matching costs, beside the bare cost of picking as many jobs from heaps.

First the marks: queues up to a million jobs, 1 000 offers, 200 homes, among them hostile ones. Then
the slopes: queue, offers and homes one after the other, and how the cost of a round grows with each
(the exponent of a power law through the points: 0 does not grow, 1 grows alike). The baseline is
what no matcher can save: for every placement a pop and a push on a heap of homes, and one insertion
into and one removal from a sorted list of offers.
"""

from __future__ import annotations

import argparse
import gc
import math
import random
import resource
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from statistics import fmean

from p2pfed.core.ids import ClaimId, Position
from p2pfed.core.matching import (
    Amount,
    Matcher,
    Matching,
    MatchInput,
    OfferState,
    Running,
    amount_of,
    match,
)
from p2pfed.core.queue import Queue
from scripts.benchmarks.matching_worlds import (
    CENTRES,
    CUT_MS,
    OFFERS,
    RULES,
    ShapeSource,
    classed_shape,
    common_shape,
    logged_shape,
    logs_found,
    make_input,
    make_queue,
    odd_shape,
)

World = Callable[[int], MatchInput]
"""A round over a queue of so many jobs."""

WORLDS: dict[str, World] = {
    "common shapes": lambda jobs: make_input(make_queue(1, jobs, common_shape)),
    "logged shapes": lambda jobs: make_input(make_queue(1, jobs, logged_shape)),
    "64 classes": lambda jobs: make_input(make_queue(1, jobs, classed_shape(64)), classes=64),
    "a thousand classes": lambda jobs: make_input(
        make_queue(1, jobs, classed_shape(1_000)), classes=1_000
    ),
    "giants first": lambda jobs: make_input(make_queue(1, jobs, common_shape, giants=True)),
    "equal offers": lambda jobs: make_input(make_queue(1, jobs, common_shape), equal=True),
    "all shapes different": lambda jobs: make_input(make_queue(1, jobs, odd_shape)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a round did and took, in seconds of CPU."""

    placed: int
    reserved: int
    tried: int
    round_s: float
    bare_s: float


def bare_cost_s(placements: int, offers: int = OFFERS) -> float:
    """Heap and sorted list only, for as many placements."""
    rng = random.Random(3)
    heap = [(rng.randrange(10**12), Position(home, 0, 0, 0)) for home in CENTRES]
    heapify(heap)
    ordered = sorted((0, rng.randint(150, 420), 0, number) for number in range(offers))
    moves = [(rng.randrange(10**12), rng.randrange(offers)) for _ in range(placements)]
    start = time.process_time()
    for rank, index in moves:
        heapreplace(heap, (rank, heap[0][1]))
        offer = ordered[index]
        del ordered[bisect_left(ordered, offer)]
        insort(ordered, (0, offer[1] - 1, 0, offer[3]))
    return time.process_time() - start


def best_of(runs: int, given: MatchInput) -> tuple[float, Matching]:
    """The least CPU time of some runs, garbage collection on, and what was matched."""
    found = []
    for _ in range(runs):
        start = time.process_time()
        matching = match(given)
        found.append((time.process_time() - start, matching))
    return min(found, key=lambda run: run[0])


def cost_of(given: MatchInput) -> tuple[Cost, Matching]:
    """What the round costs, and its matching."""
    gc.collect()
    round_s, matching = best_of(3, given)
    placed = len(matching.placements)
    bare_s = min(bare_cost_s(placed, len(given.offers)) for _ in range(3))
    cost = Cost(
        placed=placed,
        reserved=len(matching.reservations),
        tried=matching.tried,
        round_s=round_s,
        bare_s=bare_s,
    )
    return cost, matching


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


def settle(given: MatchInput, matching: Matching) -> tuple[MatchInput, Matcher]:
    """Rounds until nothing is placed any more."""
    matcher = Matcher()
    while matching.placements:
        given = after(given, matching)
        matching = matcher.match(given)
    return given, matcher


# What is printed


def print_marks(sizes: Sequence[int]) -> None:
    """Every kind of queue: the common ones at all sizes, the others at the largest."""
    print(
        f"{'200 homes, 1 000 offers':24} {'queued':>9} {'placed':>7} {'kept':>6} {'tried':>7}"
        f" {'ms':>8} {'ratio':>7} {'full ms':>8} {'same ms':>8}"
    )
    common = []
    for name, world in WORLDS.items():
        for size in sizes if name == "common shapes" else sizes[-1:]:
            given = world(size)
            cost, matching = cost_of(given)
            if name == "common shapes":
                common.append(cost)
            given, matcher = settle(given, matching)
            full_s, _ = best_of(1, given)
            start = time.process_time()
            matcher.match(given)
            same_s = time.process_time() - start
            print(
                f"{name:24} {size:>9,} {cost.placed:>7,} {cost.reserved:>6,} {cost.tried:>7,}"
                f" {cost.round_s * 1e3:>8.1f} {cost.round_s / cost.bare_s:>6.0f}x"
                f" {full_s * 1e3:>8.1f} {same_s * 1e3:>8.2f}",
                flush=True,
            )
    print("CPU time. ratio: to heap and sorted list alone. full: a round that places nothing.")
    print(f"same: that round again, nothing changed. logged: {logs_found()}.")
    print_exponents("queue", sizes, common)


def print_slope(what: str, points: Sequence[int], world: Callable[[int], MatchInput]) -> None:
    """How the cost grows with one of the numbers, the others fixed."""
    print(f"\n{what:>9} {'placed':>7} {'tried':>7} {'ms':>8} {'us/placed':>10} {'us/tried':>9}")
    costs = []
    for point in points:
        cost, _ = cost_of(world(point))
        costs.append(cost)
        us = cost.round_s * 1e6
        print(
            f"{point:>9,} {cost.placed:>7,} {cost.tried:>7,} {cost.round_s * 1e3:>8.1f}"
            f" {us / max(1, cost.placed):>10.1f} {us / max(1, cost.tried):>9.1f}",
            flush=True,
        )
    print_exponents(what, points, costs)


def print_exponents(what: str, points: Sequence[int], costs: Sequence[Cost]) -> None:
    """The powers by which the cost of a round grows."""
    rounds, tried = [cost.round_s for cost in costs], [cost.tried for cost in costs]
    if max(tried) > 2 * min(tried):
        print(
            f"the round's cost grows with {what} to the power of {exponent(points, rounds):.2f},"
            f" with tried shapes {exponent(tried, rounds):.2f}"
        )


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The exponent of the power law that lies closest (least squares of the logarithms)."""
    across, up = [math.log(x) for x in xs], [math.log(y) for y in ys]
    middle, height = fmean(across), fmean(up)
    both = sum((x - middle) * (y - height) for x, y in zip(across, up, strict=True))
    return both / sum((x - middle) ** 2 for x in across)


def print_slopes(jobs: int) -> None:
    """Offers and homes, one after the other."""
    print_slope(
        "offers",
        (10, 30, 100, 300, 1_000),
        lambda offers: make_input(make_queue(1, jobs, common_shape), offers=offers),
    )
    print_slope(
        "homes",
        (3, 10, 30, 100, 200),
        lambda homes: make_input(make_queue(1, jobs, common_shape, homes=homes), homes=homes),
    )


def resident_kib() -> int:
    """The peak of the resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_per_job(shape_source: ShapeSource, jobs: int) -> tuple[int, Queue]:
    """Bytes of resident memory per queued job; must be the first to allocate much."""
    before = resident_kib()
    queue = make_queue(1, jobs, shape_source)
    return (resident_kib() - before) * 1024 // len(queue), queue


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--no-marks", action="store_true")
    parser.add_argument("--no-slopes", action="store_true")
    options = parser.parse_args()
    used, _ = memory_per_job(odd_shape, max(options.sizes))
    print(f"memory per queued job, {max(options.sizes):,} different ones: {used} bytes")
    if not options.no_marks:
        print_marks(options.sizes)
    if not options.no_slopes:
        print_slopes(min(100_000, max(options.sizes)))


if __name__ == "__main__":
    main()
