"""Why a job waits: its place in the order, and for each offer what keeps it out.

Computed on demand from the round's input and result, so that a round pays nothing for it. What an
offer lacks is stated as it stands after the round's placements: constraints only get tighter
within a round, so these are all the reasons there were at the job's turn, and those of later
placements besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Final, NamedTuple

from p2pfed.core.accounting import Standing, balance
from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId, Position
from p2pfed.core.matching import (
    BALANCE_SCALE,
    ORDER_SCALE,
    Matching,
    MatchInput,
    Placement,
    Reservation,
    Score,
    charge_of,
    score_of,
)
from p2pfed.core.matching_fit import Amount, OfferState, Running, amount_of, end_ms, fits

AHEAD_SHOWN: Final = 10
"""How many of the jobs ahead are named."""

_FIRST_ID: Final = JobId(Position(CentreName(""), 0, 0, 0))


class Ahead(NamedTuple):
    """A job that stands before the one in question, and its score at the cut."""

    home: CentreName
    job_id: JobId
    score: Score


class OfferVerdict(NamedTuple):
    """What keeps a job out of an offer: codes of `fits`, `host-silent`, or `reserved`.

    `reserved` means that all constraints hold and the capacity is free, but taking it would delay
    a job that it is kept for. No codes: the job was placed there, or could have been.
    """

    offer_id: OfferId
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where a job stands in a round and why it was placed or not.

    Attributes:
        score: its terms at the cut, before its home was charged for this round's placements.
        home_rank: its place among the jobs of its home, from 1.
        rank: its place among all jobs that take part, by the scores at the cut, from 1.
        ahead: the first `AHEAD_SHOWN` of those before it.
        codes: what keeps it out of the round altogether: `home-silent`, `beyond-live-jobs`.
        offers: a verdict for every open offer, ascending by id.
    """

    job_id: JobId
    score: Score
    home_rank: int
    rank: int
    ahead: tuple[Ahead, ...]
    placement: Placement | None
    reservation: Reservation | None
    codes: tuple[str, ...]
    offers: tuple[OfferVerdict, ...]


def explain(given: MatchInput, matching: Matching, job_id: JobId) -> Explanation | None:
    """What a round decided about a job, and why; None if the job does not wait in it.

    Args:
        given: the round's input, as it was matched.
        matching: `match(given)`.
        job_id: any job.

    Cost: a pass over the offers and a search per home, never over the queue.
    """
    queue, rules = given.queue, given.rules
    job = queue.get(job_id)
    if job is None:
        return None
    home = job.shape.home
    home_rank = queue.before(home, queue.key(job)) + 1
    codes = []
    if home not in given.alive:
        codes.append("home-silent")
    if home_rank > rules.live_jobs_max:
        codes.append("beyond-live-jobs")
    before = list(_before(given, job_id))
    placement = matching.placement(job_id)
    return Explanation(
        job_id=job_id,
        score=score_of(job, given.cut_ms, _balance(given, home), rules),
        home_rank=home_rank,
        rank=sum(count for _, count in before) + 1,
        ahead=_first_ahead(given, before),
        placement=placement,
        reservation=matching.reservation(job_id),
        codes=tuple(codes),
        offers=_verdicts(given, matching, job_id, waits=placement is None and not codes),
    )


def _balance(given: MatchInput, home: CentreName, charged: int = 0) -> int:
    return balance(given.standings.get(home, Standing(0, 0, 0)), charged)


def _weight(given: MatchInput, home: CentreName) -> int:
    """What the home's balance takes off the rank of its jobs, in scaled points."""
    return _balance(given, home) * BALANCE_SCALE * given.rules.balance_points


def _before(given: MatchInput, job_id: JobId) -> Iterator[tuple[CentreName, int]]:
    """Per living home, how many of its jobs that take part stand before this one."""
    queue = given.queue
    job = queue[job_id]
    rank = queue.key(job)[0] * ORDER_SCALE - _weight(given, job.shape.home)
    for home in queue.homes():
        if home not in given.alive:
            continue
        order, rest = divmod(rank + _weight(given, home), ORDER_SCALE)
        key = (order + 1, _FIRST_ID) if rest else (order, job_id)
        yield home, min(queue.before(home, key), given.rules.live_jobs_max)


def _first_ahead(given: MatchInput, before: list[tuple[CentreName, int]]) -> tuple[Ahead, ...]:
    """The highest of the jobs before."""
    ranked = []
    for home, count in before:
        weight = _weight(given, home)
        for index in range(min(count, AHEAD_SHOWN)):
            key = given.queue.key_at(home, index)
            if key is not None:
                ranked.append((key[0] * ORDER_SCALE - weight, key[1]))
    found = []
    for _, job_id in nsmallest(AHEAD_SHOWN, ranked):
        job = given.queue[job_id]
        ppm = _balance(given, job.shape.home)
        score = score_of(job, given.cut_ms, ppm, given.rules)
        found.append(Ahead(job.shape.home, job_id, score))
    return tuple(found)


def offers_after(given: MatchInput, matching: Matching) -> dict[OfferId, OfferState]:
    """The offers when every placement of the round is taken as claimed (under its job's id)."""
    offers = dict(sorted(given.offers.items()))
    for job_id, offer_id, _ in matching.placements:
        shape, offer = given.queue[job_id].shape, offers[offer_id]
        amount = amount_of(shape)
        held = offer.held_cores.get(shape.home, 0) + amount.cores
        ends_ms = end_ms(given.cut_ms, shape.walltime_s, given.rules)
        offers[offer_id] = replace(
            offer,
            free=Amount(*(a - b for a, b in zip(offer.free, amount, strict=True))),
            held_cores={**offer.held_cores, shape.home: held},
            running=(*offer.running, Running(ends_ms, amount, ClaimId(job_id))),
        )
    return offers


def _verdicts(
    given: MatchInput, matching: Matching, job_id: JobId, *, waits: bool
) -> tuple[OfferVerdict, ...]:
    shape, rules = given.queue[job_id].shape, given.rules
    own = (
        given.queue[p.job_id].shape for p in matching.placements if p.job_id.centre == shape.home
    )
    ppm = _balance(given, shape.home, sum(charge_of(placed, rules) for placed in own))
    placement = matching.placement(job_id)
    verdicts = []
    for offer_id, offer in offers_after(given, matching).items():
        codes = fits(shape, offer, given.cut_ms, ppm, rules)
        if offer_id.centre not in given.alive:
            codes = ("host-silent", *codes)
        elif placement is not None and placement.offer_id == offer_id:
            codes = ()
        elif waits and not codes:
            codes = ("reserved",)
        verdicts.append(OfferVerdict(offer_id, codes))
    return tuple(verdicts)
