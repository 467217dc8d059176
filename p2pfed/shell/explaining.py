"""Why a job is where it is: the last round's reasons, in words.

The answers come from the state at the last cut and from the constraints that the matcher itself
uses, so what is told is what every node decided. Sentences name both figures, so that a user sees
what to change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pfed.core.accounting import balance
from p2pfed.core.lifecycle import JobState
from p2pfed.core.matching import score_of
from p2pfed.core.matching_fit import CAPACITY_CODES, OfferState, fits
from p2pfed.core.queue import QueuedJob, Shape
from p2pfed.core.registers import JobEntry
from p2pfed.core.state import shape_of
from p2pfed.node.node import Node
from p2pfed.shell.door import CompetitorView, Explanation, FitView, ScoreView

AHEAD_SHOWN: Final = 10

_SENTENCES: Final[dict[str, Callable[[Shape, OfferState], str]]] = {
    "own-offer": lambda s, o: "it is an offer of the job's own centre",
    "resource-class": lambda s, o: (
        f"asks for {s.resource_class}, the offer is {o.terms.resource_class}"
    ),
    "nodes": lambda s, o: f"asks for {s.nodes} nodes, the offer has {o.nodes}",
    "cores-per-node": lambda s, o: (
        f"asks for {s.cores_per_node} cores a node, the offer has {o.terms.cores_per_node}"
    ),
    "gpus-per-node": lambda s, o: (
        f"asks for {s.gpus_per_node} GPUs a node, the offer has {o.terms.gpus_per_node}"
    ),
    "memory-per-node": lambda s, o: (
        f"asks for {s.memory_mib_per_node} MiB a node, the offer has {o.terms.memory_mib_per_node}"
    ),
    "walltime": lambda s, o: (
        f"asks for {s.walltime_s} s, the offer takes jobs up to {o.walltime_max_s} s"
    ),
    "window": lambda s, o: f"would run for {s.walltime_s} s, beyond the end of the offer's window",
    "features": lambda s, o: (
        f"needs {', '.join(f for f in s.features if f not in o.terms.features)}, "
        "which the offer does not have"
    ),
    "work-class": lambda s, o: (
        f"is of class {s.work_class}, the offer takes {', '.join(o.terms.classes)}"
    ),
    "data-class": lambda s, o: (
        f"has data class {s.data_class}, the offer takes {', '.join(o.terms.data_classes)}"
    ),
    "offer-allow": lambda s, o: f"the offer is only for {', '.join(o.terms.allow)}",
    "offer-deny": lambda s, o: f"the offer is not for {s.home}",
    "job-allow": lambda s, o: f"the job may only go to {', '.join(s.allow)}",
    "job-deny": lambda s, o: f"the job may not go to {o.offer_id.centre}",
    "declined": lambda s, o: "the host declined this job before",
    "min-balance": lambda s, o: (
        f"the balance of {s.home} is below {o.terms.min_balance}, which the offer demands"
    ),
    "per-centre-cap": lambda s, o: (
        f"with this job {s.home} would hold more than {o.terms.per_centre_cores} cores there"
    ),
    "no-cores": lambda s, o: (
        f"needs {s.nodes * s.cores_per_node} cores, {max(0, o.free.cores)} are free"
    ),
    "no-gpus": lambda s, o: (
        f"needs {s.nodes * s.gpus_per_node} GPUs, {max(0, o.free.gpus)} are free"
    ),
    "no-memory": lambda s, o: (
        f"needs {s.nodes * s.memory_mib_per_node} MiB, {max(0, o.free.memory_mib)} are free"
    ),
    "no-nodes": lambda s, o: f"needs {s.nodes} nodes, {max(0, o.free.nodes)} are free",
}
"""A sentence for each constraint code of `p2pfed.core.matching_fit`."""


def sentence(code: str, shape: Shape, offer: OfferState) -> str:
    """The constraint in words, with both figures."""
    return _SENTENCES[code](shape, offer)


def explanation(node: Node, entry: JobEntry) -> Explanation:
    """Score and rank of a waiting job, and for each visible offer what of it does not fit."""
    state = node.ledger.view.state
    cut_ms = node.ledger.view.cut_ms
    verdict = node.ledger.live.judge(entry)
    queued = state.queue.get(entry.job_id)
    used = queued.shape.work_class if queued else entry.job.work_class
    shape = shape_of(entry.job_id, entry.job, used, verdict.declined)
    home_balance = balance(state.standing(entry.job_id.centre, cut_ms))
    alive = state.alive(cut_ms)
    offers = [
        _fit(shape, offer, fits(shape, offer, cut_ms, home_balance, state.rules))
        for offer_id, offer in sorted(state.offers().items())
        if offer_id.centre in alive
    ]
    ahead = _ahead(node, queued) if queued else []
    matching = node.rounds.last_matching
    placement = matching.placement(entry.job_id) if matching else None
    kept = matching.reservation(entry.job_id) if matching else None
    return Explanation(
        job_id=str(entry.job_id),
        state=verdict.state.value,
        round=node.rounds.last,
        summary=_summary(node, entry, queued, offers, len(ahead)),
        class_used=used,
        score=_score(node, queued) if queued else None,
        ahead=len(ahead),
        ahead_first=[
            CompetitorView(
                job_id=str(job.job_id), home=job.job_id.centre, total=_score(node, job)["total"]
            )
            for job in ahead[:AHEAD_SHOWN]
        ],
        matched_offer_id=None if placement is None else str(placement.offer_id),
        reserved_offer_id=None if kept is None else str(kept.offer_id),
        reserved_from_ms=None if kept is None else kept.starts_ms,
        offers=offers,
    )


def _fit(shape: Shape, offer: OfferState, codes: tuple[str, ...]) -> FitView:
    return FitView(
        offer_id=str(offer.offer_id),
        host=offer.offer_id.centre,
        name=offer.terms.name,
        fits=all(code in CAPACITY_CODES for code in codes),
        free_now=not any(code in CAPACITY_CODES for code in codes),
        reasons=[sentence(code, shape, offer) for code in codes],
    )


def _score(node: Node, job: QueuedJob) -> ScoreView:
    state, cut_ms = node.ledger.view.state, node.ledger.view.cut_ms
    ppm = balance(state.standing(job.job_id.centre, cut_ms))
    score = score_of(job, cut_ms, ppm, state.rules)
    return ScoreView(
        work_class=score.class_points,
        urgency=score.urgency_points,
        balance=score.balance_points,
        total=score.total,
    )


def _ahead(node: Node, queued: QueuedJob) -> list[QueuedJob]:
    """The waiting jobs with a higher score, best first. Cost: a pass over the whole queue."""
    queue = node.ledger.view.state.queue
    mine = _score(node, queued)["total"]
    found: list[tuple[int, QueuedJob]] = []
    for home in queue.homes():
        for job in queue.in_order(home):
            total = _score(node, job)["total"]
            if (total, queued.job_id) <= (mine, job.job_id):
                break
            found.append((total, job))
    found.sort(key=lambda item: (-item[0], item[1].job_id))
    return [job for _, job in found]


def _summary(
    node: Node, entry: JobEntry, queued: QueuedJob | None, offers: list[FitView], ahead: int
) -> str:
    verdict = node.ledger.live.judge(entry)
    if verdict.state is not JobState.QUEUED:
        where = ""
        claim = node.ledger.live.claims[verdict.live].claim if verdict.live else None
        if claim is not None:
            where = f" at {claim.offer_id.centre}"
        return f"the job is {verdict.state.value}{where}"
    if queued is None:
        return "no round has seen the job yet: it takes part once another centre has acked it"
    fitting = [offer for offer in offers if offer["fits"]]
    if not offers:
        return "nobody offers capacity now"
    if not fitting:
        return f"none of the {len(offers)} visible offers fits the job"
    if not any(offer["free_now"] for offer in fitting):
        return f"{len(fitting)} offers fit, but what the job needs is not free; {ahead} jobs ahead"
    return f"the job fits and waits for its turn; {ahead} jobs ahead"
