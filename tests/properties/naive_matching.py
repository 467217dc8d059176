"""The matching by definition: docs/explanation/matching.md, sentence by sentence, with no thought
of cost. It shares nothing with the real one but the types."""

from __future__ import annotations

from fractions import Fraction
from hashlib import sha256

from p2pfed.core.accounting import Standing, balance
from p2pfed.core.ids import CentreName, JobId, OfferId, Position
from p2pfed.core.matching import MatchInput, OfferState
from p2pfed.core.queue import QueuedJob

Pairs = list[tuple[JobId, OfferId]]
Kept = list[tuple[JobId, OfferId, int]]


def naive_match(given: MatchInput) -> tuple[Pairs, Kept]:
    """Placements and reservations in the order in which they are made."""
    rules, waiting = given.rules, {}
    for home in given.queue.homes():
        if home in given.alive:
            jobs = sorted(
                given.queue.in_order(home), key=lambda j: (-own_points(j, given), j.job_id)
            )
            waiting.update({job.job_id: job for job in jobs[: rules.live_jobs_max]})
    offers = {i: o for i, o in sorted(given.offers.items()) if i.centre in given.alive}
    charged: dict[CentreName, int] = dict.fromkeys(given.standings, 0)
    held: dict[OfferId, list[tuple[int, QueuedJob]]] = {i: [] for i in offers}
    kept: dict[OfferId, list[tuple[int, QueuedJob]]] = {i: [] for i in offers}
    placements: Pairs = []
    reservations: Kept = []

    def balance_of(home: CentreName) -> int:
        return balance(given.standings.get(home, Standing(0, 0, 0)), charged.get(home, 0))

    def score(job: QueuedJob) -> Fraction:
        weight = Fraction(balance_of(job.shape.home) * rules.balance_points, 1_000_000)
        return own_points(job, given) + weight

    def free_at(offer_id: OfferId, time_ms: int | None) -> list[int]:
        """(Nodes,) cores, GPUs and memory; with a time, all that is back by then."""
        free = list(offers[offer_id].free)
        for _, job in held[offer_id]:
            free = [a - b for a, b in zip(free, parts(job), strict=True)]
        if time_ms is not None:
            back: list[tuple[int, ...]] = [
                r.amount for r in offers[offer_id].running if r.ends_ms <= time_ms
            ]
            back += [parts(job) for ends_ms, job in held[offer_id] if ends_ms <= time_ms]
            free = [a + sum(b[i] for b in back) for i, a in enumerate(free)]
        return free

    def room(offer_id: OfferId, time_ms: int | None, ahead: list[QueuedJob]) -> list[int]:
        free = free_at(offer_id, time_ms)
        return [a - sum(parts(job)[i] for job in ahead) for i, a in enumerate(free)]

    def meets_terms(job: QueuedJob, offer_id: OfferId) -> bool:
        own = sum(
            j.shape.nodes * j.shape.cores_per_node
            for _, j in held[offer_id]
            if j.shape.home == job.shape.home
        )
        return may_go(job, offers[offer_id], given, balance_of(job.shape.home), own)

    def fits_now(job: QueuedJob, offer_id: OfferId) -> bool:
        ends_ms, places = end(job, given.cut_ms, given), kept[offer_id]
        return is_within(job, free_at(offer_id, None)) and all(
            ends_ms <= starts_ms
            or is_within(job, room(offer_id, starts_ms, [j for _, j in places[: i + 1]]))
            for i, (starts_ms, _) in enumerate(places)
        )

    def left_over(job: QueuedJob, offer_id: OfferId) -> tuple[bool, int, int, int, int, OfferId]:
        left = [a - b for a, b in zip(free_at(offer_id, None), parts(job), strict=True)]
        tie = lot(given.round, job.job_id) ^ lot(given.round, offer_id)
        avoided = offer_id.centre in job.shape.avoided
        return avoided, left[2], left[1], left[3], tie, offer_id

    def earliest(job: QueuedJob, offer_id: OfferId) -> int | None:
        times = [r.ends_ms for r in offers[offer_id].running] + [e for e, _ in held[offer_id]]
        ahead = [j for _, j in kept[offer_id]]
        found = [t for t in times if is_within(job, room(offer_id, t, ahead))]
        if not found or len(ahead) >= rules.reserve_depth:
            return None
        until_ms = offers[offer_id].until_ms
        late = until_ms and end(job, max(min(found), given.cut_ms), given) > until_ms
        return None if late else min(found)

    while waiting:
        job = min(waiting.values(), key=lambda j: (-score(j), j.job_id))
        possible = [i for i in offers if meets_terms(job, i)]
        fitting = [i for i in possible if fits_now(job, i)]
        if fitting:
            chosen = min(fitting, key=lambda i: left_over(job, i))
            placements.append((job.job_id, chosen))
            held[chosen].append((end(job, given.cut_ms, given), job))
            charged[job.shape.home] = charged.get(job.shape.home, 0) + points(job, given)
            del waiting[job.job_id]
            continue
        starts = [(s, i) for i in possible if (s := earliest(job, i)) is not None]
        if starts:
            starts_ms, chosen = min(starts)
            kept[chosen].append((starts_ms, job))
            reservations.append((job.job_id, chosen, starts_ms))
        waiting = {i: j for i, j in waiting.items() if j.shape != job.shape}
    return placements, reservations


def own_points(job: QueuedJob, given: MatchInput) -> Fraction:
    waited_ms = given.cut_ms - job.waiting_since_ms
    return job.class_points + Fraction(waited_ms * given.rules.urgency_points_per_hour, 3_600_000)


def parts(job: QueuedJob) -> tuple[int, int, int, int]:
    s = job.shape
    return 0, s.nodes * s.cores_per_node, s.nodes * s.gpus_per_node, s.nodes * s.memory_mib_per_node


def is_within(job: QueuedJob, free: list[int]) -> bool:
    return all(a <= b for a, b in zip(parts(job)[1:], free[1:], strict=True))


def end(job: QueuedJob, from_ms: int, given: MatchInput) -> int:
    rules = given.rules
    return from_ms + rules.claim_wait_ms + job.shape.walltime_s * 1_000 + rules.kill_grace_ms


def points(job: QueuedJob, given: MatchInput) -> int:
    exchange = given.rules.resource_class(job.shape.resource_class)
    if exchange is None:
        return 0
    _, cores, gpus, _ = parts(job)
    seconds = job.shape.walltime_s * (cores if exchange.unit == "core" else gpus)
    return seconds * exchange.points_num // exchange.points_den


def lot(round_number: int, i: Position) -> int:
    text = f"{round_number} {i.centre} {i.epoch} {i.seq_num} {i.record_index}"
    return int(sha256(text.encode()).hexdigest()[:16], 16)


def may_go(
    job: QueuedJob, offer: OfferState, given: MatchInput, balance_ppm: int, placed_cores: int
) -> bool:
    """All that does not depend on what is free."""
    s, t, host = job.shape, offer.terms, offer.offer_id.centre
    cores = offer.held_cores.get(s.home, 0) + placed_cores + s.nodes * s.cores_per_node
    return (
        host != s.home
        and s.resource_class == t.resource_class
        and s.nodes <= offer.nodes
        and s.cores_per_node <= t.cores_per_node
        and s.gpus_per_node <= t.gpus_per_node
        and s.memory_mib_per_node <= t.memory_mib_per_node
        and s.walltime_s <= offer.walltime_max_s
        and (offer.until_ms == 0 or end(job, given.cut_ms, given) <= offer.until_ms)
        and set(s.features) <= set(t.features)
        and (not t.classes or s.work_class in t.classes)
        and (not t.data_classes or s.data_class in t.data_classes)
        and (not t.allow or s.home in t.allow)
        and s.home not in t.deny
        and (not s.allow or host in s.allow)
        and host not in s.deny
        and offer.offer_id not in s.declined
        and not (s.no_preempt and t.preemptible)
        and t.min_balance <= balance_ppm
        and (t.per_centre_cores == 0 or cores <= t.per_centre_cores)
    )
