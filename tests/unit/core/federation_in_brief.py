"""Shorthand for the tests of the matching: a federation of small numbers, written in few words."""

from __future__ import annotations

from collections.abc import Container, Iterable

from p2pfed.core.accounting import Standing
from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId, Position
from p2pfed.core.matching import Amount, MatchInput, OfferState, Running, capacity_of
from p2pfed.core.queue import Queue, QueuedJob, Shape
from p2pfed.core.records import Offer
from p2pfed.core.rules import Rules

CUT_MS = 1_000_000_000
RULES = Rules()
SLACK_MS = RULES.claim_wait_ms + RULES.kill_grace_ms
ALPHA, BETA, GAMMA = CentreName("alpha"), CentreName("beta"), CentreName("gamma")


def shape(home: CentreName = ALPHA, **changes: object) -> Shape:
    """One core of one node for 100 s."""
    plain = Shape(
        home=home,
        resource_class="cpu",
        nodes=1,
        cores_per_node=1,
        gpus_per_node=0,
        memory_mib_per_node=1,
        walltime_s=100,
        features=(),
        work_class="normal",
        data_class="open",
        allow=(),
        deny=(),
        declined=(),
        no_preempt=False,
    )
    return plain._replace(**changes)  # type: ignore[arg-type]


def job(
    number: int,
    home: CentreName = ALPHA,
    *,
    points: int = 500,
    waited_s: int = 0,
    **changes: object,
) -> QueuedJob:
    """The home's job `number`."""
    return QueuedJob(
        job_id=JobId(Position(home, 0, number, 0)),
        shape=shape(home, **changes),
        class_points=points,
        waiting_since_ms=CUT_MS - waited_s * 1_000,
    )


def offer(
    number: int = 0,
    host: CentreName = BETA,
    *,
    nodes: int = 1,
    cores: int = 8,
    until_ms: int = 0,
    walltime_max_s: int = 1_000_000,
    used: Iterable[tuple[int, int]] = (),
    held_cores: dict[CentreName, int] | None = None,
    gpus: int = 0,
    memory_mib: int = 100,
    resource_class: str = "cpu",
    features: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
    data_classes: tuple[str, ...] = (),
    allow: tuple[str, ...] = (),
    deny: tuple[str, ...] = (),
    per_centre_cores: int = 0,
    min_balance: int = -1_000_000,
    preemptible: bool = False,
) -> OfferState:
    """An offer of the host; `used` are (cores, seconds after the cut when they are back)."""
    terms = Offer(
        resource_class=resource_class,
        nodes=nodes,
        cores_per_node=cores,
        gpus_per_node=gpus,
        memory_mib_per_node=memory_mib,
        walltime_max_s=walltime_max_s,
        until_ms=until_ms,
        features=features,
        classes=classes,
        data_classes=data_classes,
        allow=allow,
        deny=deny,
        per_centre_cores=per_centre_cores,
        min_balance=min_balance,
        preemptible=preemptible,
    )
    running = tuple(
        Running(
            CUT_MS + back_s * 1_000,
            Amount(0, held, 0, 0),
            ClaimId(Position(GAMMA, 0, 900 + index, 0)),
        )
        for index, (held, back_s) in enumerate(used)
    )
    total = capacity_of(terms, nodes)
    return OfferState(
        offer_id=OfferId(Position(host, 0, number, 0)),
        terms=terms,
        nodes=nodes,
        walltime_max_s=walltime_max_s,
        until_ms=until_ms,
        free=total._replace(cores=total.cores - sum(part.amount.cores for part in running)),
        held_cores=held_cores or {},
        running=running,
    )


def a_round(
    jobs: Iterable[QueuedJob],
    offers: Iterable[OfferState],
    *,
    round_number: int = 1,
    cut_ms: int = CUT_MS,
    rules: Rules = RULES,
    standings: dict[CentreName, Standing] | None = None,
    alive: Container[CentreName] = (ALPHA, BETA, GAMMA),
) -> MatchInput:
    """A round of these jobs and offers."""
    queue = Queue(rules.urgency_points_per_hour)
    for queued in jobs:
        queue.put(queued)
    return MatchInput(
        round=round_number,
        cut_ms=cut_ms,
        rules=rules,
        queue=queue,
        offers={state.offer_id: state for state in offers},
        standings=standings or {},
        alive=alive,
    )
