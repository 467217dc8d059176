"""Faults of batch systems, and what their administrators and users do."""

from __future__ import annotations

from p2pfed.core.ids import CentreName, JobId
from p2pfed.core.records import Offer
from p2pfed.node.admission import AdmissionPolicy, AdmissionRule, Decision, Mode
from p2pfed.node.events import HoldJob, PolicyChanged, RequestId, ResizeOffer, SetMode
from p2pfed.simulate.hardship.strikes import for_a_while, somebody, somebody_up
from p2pfed.simulate.world import World


def drop_native(world: World) -> None:
    """A batch system forgets a job that has not begun."""
    centre = somebody(world)
    waiting = [
        name for name, native in centre.disk.natives.items() if native.begins_ms > world.now_ms
    ]
    if waiting:
        world.forget_native(centre, world.rng.choice(sorted(waiting)))


def end_native(world: World) -> None:
    """A node of a batch system fails: what runs there is over at once."""
    centre = somebody(world)
    running = [
        name for name, native in sorted(centre.disk.natives.items()) if native.runs_at(world.now_ms)
    ]
    if running:
        world.fail_native(centre, world.rng.choice(running))


def pause(world: World) -> None:
    """An administrator takes no guests for a while."""
    name = somebody(world).name
    world.tell(name, PolicyChanged(policy=AdmissionPolicy(paused=True)))
    for_a_while(world, 1_000, 10_000, lambda: _default_policy(world, name))


def change_policy(world: World) -> None:
    """An administrator wants no jobs of one class, or of one centre, for a while."""
    name, other = somebody(world).name, somebody(world).name
    rule = AdmissionRule(decision=Decision.DECLINE, name="not now", classes=frozenset({"normal"}))
    policy = world.rng.choice(
        (AdmissionPolicy(rules=(rule,)), AdmissionPolicy(deny_centres=frozenset({other})))
    )
    world.tell(name, PolicyChanged(policy=policy))
    for_a_while(world, 500, 6_000, lambda: _default_policy(world, name))


def _default_policy(world: World, name: CentreName) -> None:
    world.tell(name, PolicyChanged(policy=AdmissionPolicy()))


def withdraw(world: World) -> None:
    """An administrator takes everything back at once, and comes back later."""
    name = somebody(world).name

    def mode(wanted: Mode) -> None:
        request = RequestId(world.new_id())
        world.tell(name, SetMode(request=request, mode=wanted, who="admin"))

    mode(world.rng.choice((Mode.WITHDRAWN, Mode.PAUSED)))
    for_a_while(world, 1_000, 10_000, lambda: mode(Mode.OPEN))


def resize(world: World) -> None:
    """An administrator offers fewer nodes, and all of them again later."""
    centre = somebody_up(world)
    node = None if centre is None else centre.node
    if centre is None or node is None:
        return
    open_offers = [
        (offer_id, offer.terms)
        for offer_id, offer in sorted(node.ledger.live.offers.items())
        if offer_id.centre == centre.name and not offer.closed
    ]
    if not open_offers:
        return
    offer_id, terms = world.rng.choice(open_offers)
    name = centre.name

    def to(nodes: int, terms: Offer) -> None:
        request = RequestId(world.new_id())
        resized = ResizeOffer(
            request=request,
            offer_id=offer_id,
            nodes=nodes,
            walltime_max_s=terms.walltime_max_s,
            until_ms=terms.until_ms,
        )
        world.tell(name, resized)

    to(1, terms)
    for_a_while(world, 1_000, 10_000, lambda: to(terms.nodes, terms))


def cancel(world: World) -> None:
    """A user cancels a job."""
    job_id = _some_job(world)
    if job_id is not None:
        world.cancel(job_id.centre, job_id)


def hold(world: World) -> None:
    """A user holds a job, and lets it go again."""
    job_id = _some_job(world)
    if job_id is None:
        return

    def held(wanted: bool) -> None:
        request = RequestId(world.new_id())
        world.tell(job_id.centre, HoldJob(request=request, job_id=job_id, held=wanted, who="user"))

    held(True)
    for_a_while(world, 500, 8_000, lambda: held(False))


def _some_job(world: World) -> JobId | None:
    jobs = world.checks.acknowledged
    return world.rng.choice(jobs) if jobs else None
