"""Why a job is where it is: the last round's reasons, in words.

The answers come from the state at the last cut and from the constraints that the matcher itself
uses, so what is told is what every node decided. Sentences name both figures, so that a user sees
what to change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pfed.core.accounting import Standing, balance
from p2pfed.core.entries import JobEntry
from p2pfed.core.ids import OfferId
from p2pfed.core.lifecycle import JobState
from p2pfed.core.matching import MatchInput, Score
from p2pfed.core.matching_explain import Explanation as Reasons
from p2pfed.core.matching_explain import explain
from p2pfed.core.matching_fit import CAPACITY_CODES, OfferState, fits
from p2pfed.core.queue import Shape
from p2pfed.core.registers import Verdict
from p2pfed.core.seen import shape_of
from p2pfed.node.node import Node
from p2pfed.shell.answers import CompetitorView, Explanation, FitView, ScoreView
from p2pfed.shell.views import JOB_WORDS

_SENTENCES: Final[dict[str, Callable[[Shape, OfferState], str]]] = {
    "host-silent": lambda s, o: f"{o.offer_id.centre} has not been heard for a while",
    "reserved": lambda s, o: "what is free is kept for a job that waits longer",
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
    "preemptible": lambda s, o: (
        "hosts sent this job away often enough (the rule evictions_max); "
        "it goes only to offers that don't preempt"
    ),
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
}
"""A sentence for each constraint code of `p2pfed.core.matching_fit`."""


def sentence(code: str, shape: Shape, offer: OfferState) -> str:
    """The constraint in words, with both figures."""
    return _SENTENCES[code](shape, offer)


def explanation(node: Node, entry: JobEntry) -> Explanation:
    """Score and rank of a waiting job, and for each open offer what of it does not fit."""
    state = node.ledger.view.state
    cut_ms = node.ledger.view.cut_ms
    verdict = node.ledger.live.judge(entry)
    queued = state.queue.get(entry.job_id)
    used = queued.shape.work_class if queued else entry.job.work_class
    shape = shape_of(entry.job_id, entry.job, used, verdict, state.rules)
    given = state.match_input(node.rounds.last, cut_ms)
    matching = node.rounds.last_matching
    why = explain(given, matching, entry.job_id) if matching else None
    codes = _codes(given, shape) if why is None else dict(why.offers)
    offers = [_fit(shape, given.offers[offer_id], codes[offer_id]) for offer_id in sorted(codes)]
    placement = why.placement if why else None
    kept = why.reservation if why else None
    return Explanation(
        job_id=str(entry.job_id),
        state=JOB_WORDS[verdict.state],
        round=node.rounds.last,
        summary=_summary(node, verdict, why, offers),
        class_used=used,
        score=_score(why.score) if why else None,
        ahead=why.rank - 1 if why else 0,
        ahead_first=[
            CompetitorView(job_id=str(job.job_id), home=job.home, total=job.score.total)
            for job in (why.ahead if why else ())
        ],
        matched_offer_id=None if placement is None else str(placement.offer_id),
        reserved_offer_id=None if kept is None else str(kept.offer_id),
        reserved_from_ms=None if kept is None else kept.starts_ms,
        offers=offers,
    )


def _codes(given: MatchInput, shape: Shape) -> dict[OfferId, tuple[str, ...]]:
    """What keeps a job out of each offer that no round has seen waiting."""
    standing = given.standings.get(shape.home, Standing(0, 0, 0))
    found = {}
    for offer_id, offer in given.offers.items():
        codes = fits(shape, offer, given.cut_ms, balance(standing), given.rules)
        silent = () if offer_id.centre in given.alive else ("host-silent",)
        found[offer_id] = (*silent, *codes)
    return found


def _fit(shape: Shape, offer: OfferState, codes: tuple[str, ...]) -> FitView:
    busy = (*CAPACITY_CODES, "reserved")
    return FitView(
        offer_id=str(offer.offer_id),
        host=offer.offer_id.centre,
        name=offer.terms.name,
        fits=all(code in busy for code in codes),
        free_now=not any(code in busy for code in codes),
        reasons=[sentence(code, shape, offer) for code in codes],
    )


def _score(score: Score) -> ScoreView:
    return ScoreView(
        work_class=score.class_points,
        urgency=score.urgency_points,
        balance=score.balance_points,
        total=score.total,
    )


def _summary(node: Node, verdict: Verdict, why: Reasons | None, offers: list[FitView]) -> str:
    if verdict.state is not JobState.QUEUED:
        claim = node.ledger.live.claims[verdict.live].claim if verdict.live else None
        where = "" if claim is None else f" at {claim.offer_id.centre}"
        return f"the job is {verdict.state.value}{where}"
    if why is None:
        return "no round has seen the job yet: it takes part once another centre has acked it"
    if "beyond-live-jobs" in why.codes:
        return "this centre has more jobs waiting than may take part at a time"
    if not offers:
        return "nobody offers capacity now"
    ahead = "1 job ahead" if why.rank == 2 else f"{why.rank - 1} jobs ahead"
    fitting = [offer for offer in offers if offer["fits"]]
    if not fitting:
        return f"none of the {len(offers)} open offers fits the job"
    if why.reservation is not None:
        return f"the job fits, and capacity is kept for it at {why.reservation.offer_id.centre}"
    if not any(offer["free_now"] for offer in fitting):
        of = f"{len(fitting)} of {len(offers)} offers"
        return f"the job fits {of}, but none has room now; {ahead}"
    return f"the job fits and waits for its turn; {ahead}"
