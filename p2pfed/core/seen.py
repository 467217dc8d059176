"""Jobs, claims and offers as the matcher sees them: made from their registers, one at a time."""

from __future__ import annotations

from collections.abc import Mapping

from p2pfed.core.entries import ClaimEntry, OfferEntry
from p2pfed.core.ids import CentreName, ClaimId, JobId
from p2pfed.core.lifecycle import ClaimState
from p2pfed.core.matching_fit import Amount, OfferState, Running, amount_of, capacity_of
from p2pfed.core.queue import Shape
from p2pfed.core.records import Job
from p2pfed.core.registers import Verdict
from p2pfed.core.rules import Rules


def shape_of(job_id: JobId, job: Job, work_class: str, verdict: Verdict, rules: Rules) -> Shape:
    """What the matcher looks at in a job: equal shapes fit equally.

    Args:
        job_id: its place; its centre is the home.
        job: what it asks for.
        work_class: the class that it counts as.
        verdict: what became of it so far.
        rules: those that hold when it is matched.
    """
    return Shape(
        home=job_id.centre,
        resource_class=job.resource_class,
        nodes=job.nodes,
        cores_per_node=job.cores_per_node,
        gpus_per_node=job.gpus_per_node,
        memory_mib_per_node=job.memory_mib_per_node,
        walltime_s=job.walltime_s,
        features=job.features,
        work_class=work_class,
        data_class=job.data_class,
        allow=job.allow,
        deny=job.deny,
        declined=verdict.declined,
        no_preempt=verdict.evictions >= rules.evictions_max,
        avoided=verdict.avoided,
    )


def running_of(entry: ClaimEntry, job: Job, rules: Rules) -> Running:
    """What a claim holds, and when it is surely back."""
    run_ms = job.walltime_s * 1000 + rules.kill_grace_ms
    if entry.state is ClaimState.STARTED:
        ends_ms = entry.host_side.started_ms + run_ms
    elif entry.state is ClaimState.LEASED:
        ends_ms = entry.lease_until_ms
    else:
        ends_ms = (entry.claim.claim_until_ms if entry.claim else 0) + run_ms
    return Running(ends_ms=ends_ms, amount=amount_of(job), claim_id=entry.claim_id)


def offer_state(entry: OfferEntry, held: Mapping[ClaimId, Running]) -> OfferState:
    """An offer as the matcher sees it: what is free of it, who holds how much, until when."""
    terms = entry.terms
    running = tuple(held[claim_id] for claim_id in sorted(held))
    held_cores: dict[CentreName, int] = {}
    for part in running:
        home = part.claim_id.centre
        held_cores[home] = held_cores.get(home, 0) + part.amount.cores
    total = capacity_of(terms, entry.nodes)
    return OfferState(
        offer_id=entry.offer_id,
        terms=terms,
        nodes=entry.nodes,
        walltime_max_s=entry.walltime_max_s,
        until_ms=entry.until_ms,
        free=Amount(*(t - sum(p.amount[i] for p in running) for i, t in enumerate(total))),
        held_cores=held_cores,
        running=running,
    )
