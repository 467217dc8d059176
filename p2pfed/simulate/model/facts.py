"""What the search reads of a centre, by the centre's own word."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfed.core.ids import (
    ClaimId,
    JobId,
    OfferId,
)
from p2pfed.core.lifecycle import ClaimState, HostPhase, JobState
from p2pfed.core.units import hlc_ms
from p2pfed.simulate.model.node import ModelNode


@dataclass(frozen=True, slots=True)
class Facts:
    """What the search reads of a centre, by the centre's own word."""

    up: bool
    ready: bool = False
    careful_until_ms: int = 0
    waiting: tuple[JobId, ...] = ()
    offers: tuple[OfferId, ...] = ()
    free: frozenset[ClaimId] = frozenset()
    bound: frozenset[ClaimId] = frozenset()
    held: frozenset[ClaimId] = frozenset()
    started: tuple[ClaimId, ...] = ()
    asked: frozenset[ClaimId] = frozenset()
    claims: int = 0
    claimed_ms: int = 0
    done: bool = False
    cancelled: bool = False


DOWN = Facts(up=False)


def facts_of(node: ModelNode) -> Facts:
    """Reads the node's live registers and books."""
    live, me = node.ledger.live, node.me.name
    own_jobs = [job for job_id, job in sorted(live.jobs.items()) if job_id.centre == me]
    verdicts = {job.job_id: live.judge(job) for job in own_jobs}
    own_claims = [e for _, e in sorted(live.claims.items()) if e.claim and e.home == me]
    guests = [e for _, e in sorted(live.claims.items()) if node.host.is_ours(e)]
    court = node.host._court  # noqa: SLF001
    return Facts(
        up=True,
        ready=node.recovery.ready,
        careful_until_ms=node.trust.careful_until_ms,
        waiting=tuple(j for j, v in verdicts.items() if v.state is JobState.QUEUED),
        offers=tuple(o for o in sorted(live.offers) if o.centre != me),
        free=frozenset(e.claim_id for e in own_claims if e.over or e.state is ClaimState.ENDED),
        bound=frozenset(e.claim_id for e in own_claims if not e.over),
        held=frozenset(c for held in court._holding.values() for c in held),  # noqa: SLF001
        started=tuple(e.claim_id for e in guests if e.host_side.phase is HostPhase.STARTED),
        asked=frozenset(node.home._early),  # noqa: SLF001
        claims=len(own_claims),
        claimed_ms=max((hlc_ms(e.claimed) for e in own_claims), default=0),
        cancelled=any(job.cancelled for job in own_jobs),
        done=all(v.state.final for v in verdicts.values()),
    )
