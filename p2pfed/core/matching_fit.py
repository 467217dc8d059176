"""Whether a job fits an offer: the constraints, each with its code.

Theory of operation. An offer is nodes of one make. Its nodes are shared: a job takes cores, GPUs
and memory of them, and `nodes` only says how wide a job may be. What is free is kept as totals, so
a job fits if one of its per-node parts fits an empty node and its totals are free. Totals can't
see how the parts of running jobs lie on the nodes; the batch system can, and has `queue_ms` to
find the place.

A job's end is reckoned from the cut: a claim may take `claim_wait_ms` to be accepted, the job runs
for its walltime, and killing it may take `kill_grace_ms`. By then the capacity is back, and this
time must lie within the offer's window. A fetch or a batch queue that takes long is not reckoned
with: it usually takes seconds, and the host, which starts nothing that it could not end in time,
holds the window in any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from p2pfed.core.ids import CentreName, ClaimId, OfferId
from p2pfed.core.queue import Shape
from p2pfed.core.records import Offer
from p2pfed.core.rules import Rules


class Amount(NamedTuple):
    """A part of an offer: totals over `nodes` nodes.

    Nodes are shared, so `nodes` is no amount that could run out, and is compared nowhere.
    """

    nodes: int
    cores: int
    gpus: int
    memory_mib: int


class Running(NamedTuple):
    """Capacity that a claim holds on an offer, and when it is surely back.

    `ends_ms` may lie in the past while the host has not said that it is back.
    """

    ends_ms: int
    amount: Amount
    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferState:
    """An open offer at the cut.

    Attributes:
        terms: the offer as it was made; nodes, walltime and window below are what holds now.
        free: the capacity less what is held. Negative if the offer shrank below what is held.
        held_cores: cores that claims of each home hold here; a home that holds none may be absent.
        running: what is held, in any order.
    """

    offer_id: OfferId
    terms: Offer
    nodes: int
    walltime_max_s: int
    until_ms: int
    free: Amount
    held_cores: Mapping[CentreName, int] = field(default_factory=dict)
    running: Sequence[Running] = ()


class PerNode(Protocol):
    """What a shape, a job and an offer have in common."""

    @property
    def nodes(self) -> int:
        """See `p2pfed.core.records.Job`."""
        ...

    @property
    def cores_per_node(self) -> int:
        """See `p2pfed.core.records.Job`."""
        ...

    @property
    def gpus_per_node(self) -> int:
        """See `p2pfed.core.records.Job`."""
        ...

    @property
    def memory_mib_per_node(self) -> int:
        """See `p2pfed.core.records.Job`."""
        ...


def capacity_of(terms: PerNode, nodes: int) -> Amount:
    """All of an offer that has `nodes` nodes now."""
    return Amount(
        nodes,
        nodes * terms.cores_per_node,
        nodes * terms.gpus_per_node,
        nodes * terms.memory_mib_per_node,
    )


def amount_of(job: PerNode) -> Amount:
    """What a job needs of an offer to start, and holds while it is claimed."""
    return capacity_of(job, job.nodes)


def end_ms(cut_ms: int, walltime_s: int, rules: Rules) -> int:
    """When the capacity of a job placed at the cut is surely back, if it starts without delay."""
    return cut_ms + rules.claim_wait_ms + walltime_s * 1_000 + rules.kill_grace_ms


def covers(free: Amount, need: Amount) -> bool:
    """True if no total of `need` exceeds `free`."""
    return (
        need.cores <= free.cores and need.gpus <= free.gpus and need.memory_mib <= free.memory_mib
    )


def fits(
    shape: Shape, offer: OfferState, cut_ms: int, balance: int, rules: Rules
) -> tuple[str, ...]:
    """The codes of the constraints that the pair breaks; empty if the job fits now.

    A host asks this again before it accepts a claim, with the cut of the claim's round. Whether
    host and home are alive is not a property of the pair and not asked here.

    Args:
        shape: the job.
        offer: the offer, with what is free of it.
        cut_ms: the time that the job would be placed at.
        balance: of the job's home, in ppm.
        rules: for the times that a claim takes.

    Returns:
        Codes of `TERMS_CODES` and `CAPACITY_CODES`, in their order there.
    """
    return (*_broken_terms(shape, offer, cut_ms, balance, rules), *_lacking(shape, offer))


TERMS_CODES = (
    "own-offer",
    "resource-class",
    "nodes",
    "cores-per-node",
    "gpus-per-node",
    "memory-per-node",
    "walltime",
    "window",
    "features",
    "work-class",
    "data-class",
    "offer-allow",
    "offer-deny",
    "job-allow",
    "job-deny",
    "declined",
    "preemptible",
    "min-balance",
    "per-centre-cap",
)
"""Constraints that waiting for others' jobs to end does not meet."""

CAPACITY_CODES = ("no-cores", "no-gpus", "no-memory")
"""What is not free now; a job that breaks only these may get a reservation."""


def _broken_terms(
    shape: Shape, offer: OfferState, cut_ms: int, balance: int, rules: Rules
) -> Iterator[str]:
    terms = offer.terms
    host = offer.offer_id.centre
    held = offer.held_cores.get(shape.home, 0) + shape.nodes * shape.cores_per_node
    until_ms = offer.until_ms
    verdicts = (
        host != shape.home,
        shape.resource_class == terms.resource_class,
        shape.nodes <= offer.nodes,
        shape.cores_per_node <= terms.cores_per_node,
        shape.gpus_per_node <= terms.gpus_per_node,
        shape.memory_mib_per_node <= terms.memory_mib_per_node,
        shape.walltime_s <= offer.walltime_max_s,
        not until_ms or end_ms(cut_ms, shape.walltime_s, rules) <= until_ms,
        all(feature in terms.features for feature in shape.features),
        not terms.classes or shape.work_class in terms.classes,
        not terms.data_classes or shape.data_class in terms.data_classes,
        not terms.allow or shape.home in terms.allow,
        shape.home not in terms.deny,
        not shape.allow or host in shape.allow,
        host not in shape.deny,
        offer.offer_id not in shape.declined,
        not (shape.no_preempt and terms.preemptible),
        balance >= terms.min_balance,
        not terms.per_centre_cores or held <= terms.per_centre_cores,
    )
    return (code for code, holds in zip(TERMS_CODES, verdicts, strict=True) if not holds)


def _lacking(shape: Shape, offer: OfferState) -> Iterator[str]:
    need, free = amount_of(shape), offer.free
    verdicts = (
        need.cores <= free.cores,
        need.gpus <= free.gpus,
        need.memory_mib <= free.memory_mib,
    )
    return (code for code, holds in zip(CAPACITY_CODES, verdicts, strict=True) if not holds)
