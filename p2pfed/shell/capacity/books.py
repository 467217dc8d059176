"""What the ledger says that we promised: the planner's books, read from the node's registers."""

from __future__ import annotations

from collections.abc import Mapping

from p2pfed.core.entries import ClaimEntry, OfferEntry
from p2pfed.core.ids import OfferId
from p2pfed.core.lifecycle import HOLDS_CAPACITY, HostPhase
from p2pfed.core.records import Job
from p2pfed.node.node import Node
from p2pfed.shell.capacity.evict import Guest
from p2pfed.shell.capacity.plan import Books, Held, Promise, Site
from p2pfed.shell.capacity.room import Shape
from p2pfed.shell.sections import OfferTemplate


def own_offers(node: Node) -> list[OfferEntry]:
    """All our offers that are known, closed ones too, by id."""
    offers = node.ledger.live.offers
    return [offers[key] for key in sorted(offers) if key.centre == node.me.name]


def read_books(
    node: Node,
    parts: Mapping[OfferId, str],
    templates: Mapping[str, OfferTemplate],
    site: Site,
    limits_s: Mapping[str, int],
) -> Books:
    """What is held of our offers, and what those that are not the planner's promise beyond that.

    Args:
        parts: the planner's open offers.
        templates: by the name of the offers made from them.
        limits_s: see `Books`.
    """
    held: list[Held] = []
    promised: list[Promise] = []
    for offer in own_offers(node):
        template = templates.get(offer.terms.name)
        gpu_gres = (template.gpu_gres if template else "") or site.gpu_gres
        gpu_type, queue = gpu_gres.partition(":")[2], template.partition if template else ""
        cores = 0
        for entry, job in _holders(node, offer.offer_id):
            cores += job.nodes * job.cores_per_node
            held.append(
                Held(
                    name=entry.host_side.native_name,
                    part=parts.get(offer.offer_id, ""),
                    nodes=job.nodes,
                    shape=Shape(
                        job.cores_per_node, job.gpus_per_node, job.memory_mib_per_node, gpu_type
                    ),
                    queue=queue,
                )
            )
        terms = offer.terms
        free = offer.nodes * terms.cores_per_node - cores
        if not offer.closed and offer.offer_id not in parts and free > 0:
            shape = Shape(
                terms.cores_per_node, terms.gpus_per_node, terms.memory_mib_per_node, gpu_type
            )
            promised.append(
                Promise(nodes=-(-free // terms.cores_per_node), shape=shape, queue=queue)
            )
    return Books(held=tuple(held), promised=tuple(promised), limits_s=dict(limits_s))


def evictable(
    node: Node,
    leaving: Mapping[str, int],
    templates: Mapping[str, OfferTemplate],
    gpu_gres: str,
) -> dict[str, tuple[Guest, int]]:
    """The guests that may be sent away, by native name, with the notice in seconds that they have.

    Args:
        templates, gpu_gres: which GPUs they hold.
        leaving: those that were told to go.
    """
    found: dict[str, tuple[Guest, int]] = {}
    for offer in own_offers(node):
        if not offer.terms.preemptible:
            continue
        template = templates.get(offer.terms.name)
        kind = ((template.gpu_gres if template else "") or gpu_gres).partition(":")[2]
        for entry, job in _holders(node, offer.offer_id):
            if entry.host_side.phase is HostPhase.STARTED:
                name = entry.host_side.native_name
                guest = Guest(
                    name=name,
                    started_ms=entry.host_side.started_ms,
                    shape=Shape(
                        job.cores_per_node, job.gpus_per_node, job.memory_mib_per_node, kind
                    ),
                    leaving=name in leaving,
                )
                found[name] = guest, offer.terms.notice_s
    return found


def _holders(node: Node, offer_id: OfferId) -> list[tuple[ClaimEntry, Job]]:
    """The claims that hold capacity of an offer, and their jobs."""
    live = node.ledger.live
    found = []
    for claim_id in live.claims_by_offer.get(offer_id, ()):
        entry, job = live.claims.get(claim_id), live.job_of(claim_id)
        if entry is not None and job is not None and entry.state in HOLDS_CAPACITY:
            found.append((entry, job.job))
    return found
