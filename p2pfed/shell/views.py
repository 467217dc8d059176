"""What people and programs are shown: the node's registers and state as plain JSON-able values.

Every function reads one node and returns the dicts that `p2pfed.shell.door` describes. Nothing here
changes anything, and nothing waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Literal

from p2pfed.core.accounting import balance, days_in_debt
from p2pfed.core.entries import ClaimEntry, JobEntry, OfferEntry
from p2pfed.core.ids import CentreName, ClaimId, OfferId
from p2pfed.core.lifecycle import ClaimState, HostPhase, JobState
from p2pfed.core.matching_fit import capacity_of
from p2pfed.core.posting import points_of
from p2pfed.core.records import Dispute, Outcome, Receipt
from p2pfed.core.rules import PPM
from p2pfed.core.units import day_of, hlc_ms
from p2pfed.node.node import Node
from p2pfed.node.standing import standing_of
from p2pfed.shell.answers import (
    AmountView,
    AttemptView,
    BalanceView,
    CountersView,
    CounterView,
    HeadView,
    JobView,
    MemberView,
    OfferView,
    PeerView,
    ResultState,
    StandingName,
    TemplateView,
)
from p2pfed.shell.answers import JobState as JobWord
from p2pfed.shell.capacity.plan import part_names
from p2pfed.shell.localrows import LocalJob
from p2pfed.shell.sections import OfferTemplate

_RATE_DAYS: Final = 7
"""Days that the rate of a forecast is taken from."""

JOB_WORDS: dict[JobState, JobWord] = {
    JobState.QUEUED: "queued",
    JobState.CLAIMED: "claimed",
    JobState.ACCEPTED: "accepted",
    JobState.LEASED: "leased",
    JobState.STARTED: "started",
    JobState.ENDED: "ended",
    JobState.CANCELLING: "cancelling",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}

ResultOf = Callable[[ClaimEntry], ResultState]


def outcome_word(number: int) -> str:
    """`Outcome.OUT_OF_MEMORY` as people read it: `out-of-memory`."""
    return Outcome(number).name.lower().replace("_", "-")


def heads(node: Node) -> list[HeadView]:
    """The frontier, ascending by centre and epoch."""
    return [
        HeadView(
            centre=feed.centre,
            epoch=feed.epoch,
            seq_num=head.seq_num,
            block_id=head.block_id.hex(),
        )
        for feed, head in sorted(node.ledger.replica.frontier().items())
    ]


def members(node: Node) -> list[MemberView]:
    """Every centre that is or was a member at the last cut, by name."""
    state, keyring = node.ledger.view.state, node.ledger.replica.keyring
    # Of a member, what holds now: it may have begun an epoch since the version.
    known = {**state.version.known, **state.governance.members_at(node.ledger.view.cut_ms)}
    return [
        MemberView(
            centre=centre,
            public_key=(keyring.newest(member.feed) or member.public_key).hex(),
            address=state.registers.contacts.get(centre, member.address),
            epoch=member.epoch,
            credit_line=member.credit_line,
            state=standing_name(node, centre),
            since_ms=member.since_ms,
            adopt=None if member.adopt is None else str(member.adopt),
            votes=[str(vote_id) for vote_id in member.votes],
        )
        for centre, member in sorted(known.items())
    ]


def standing_name(node: Node, centre: CentreName) -> StandingName:
    """What the centre is in the newest round."""
    return standing_of(node.ledger, centre).value


def heard_ms(node: Node, centre: CentreName) -> int | None:
    """The time of the centre's newest block that we hold."""
    replica = node.ledger.replica
    feeds = [feed for feed in replica.frontier() if feed.centre == centre]
    times = [replica.time_of(feed, replica.frontier()[feed].seq_num) for feed in feeds]
    return max((hlc_ms(t) for t in times if t is not None), default=None)


def peers(node: Node) -> list[PeerView]:
    """Every other member by name, as we are connected to it."""
    heads_of = {feed.centre: head for feed, head in node.ledger.replica.frontier().items()}
    found = []
    for peer in sorted(node.gossip.peer_status(), key=lambda p: p.centre):
        head = heads_of.get(peer.centre)
        linked = peer.state in ("linked", "opening")
        found.append(
            PeerView(
                centre=peer.centre,
                address=peer.address or None,
                linked=linked,
                outbound=peer.outbound if linked else None,
                since_ms=peer.since_ms,
                heard_ms=heard_ms(node, peer.centre),
                seq_num=None if head is None else head.seq_num,
                lacks_blocks=peer.lacking_blocks if linked else None,
                offset_ms=peer.offset_ms,
                round_trip_ms=peer.round_trip_ms,
                next_dial_ms=peer.next_dial_ms,
                error=peer.error or None,
            )
        )
    return found


# Offers


def offer(node: Node, entry: OfferEntry, now_ms: int) -> OfferView:
    """One offer with what the claims that we know of leave of it."""
    terms = entry.terms
    held = [c for c in claims_on(node, entry.offer_id) if c.state in HOLDING]
    taken = [job.job for c in held if (job := node.ledger.live.job_of(c.claim_id)) is not None]
    total = capacity_of(terms, entry.nodes)
    heard = heard_ms(node, entry.host)
    fresh = heard is not None and now_ms - heard < node.ledger.rules.offer_lease_ms
    free_cores = total.cores - sum(j.nodes * j.cores_per_node for j in taken)
    return OfferView(
        offer_id=str(entry.offer_id),
        host=entry.host,
        name=terms.name,
        open=not entry.closed,
        live=not entry.closed and fresh and entry.host not in node.ledger.live.suspended,
        opened_ms=hlc_ms(entry.opened),
        until_ms=entry.until_ms,
        resource_class=terms.resource_class,
        nodes=entry.nodes,
        cores_per_node=terms.cores_per_node,
        gpus_per_node=terms.gpus_per_node,
        memory_mib_per_node=terms.memory_mib_per_node,
        walltime_max_s=entry.walltime_max_s,
        features=list(terms.features),
        classes=list(terms.classes),
        data_classes=list(terms.data_classes),
        allow=list(terms.allow),
        deny=list(terms.deny),
        per_centre_cores=terms.per_centre_cores,
        min_balance=terms.min_balance,
        may_ask=terms.may_ask,
        preemptible=terms.preemptible,
        notice_s=terms.notice_s,
        free_nodes=max(0, free_cores) // terms.cores_per_node,
        free_cores=max(0, free_cores),
        free_gpus=max(0, total.gpus - sum(j.nodes * j.gpus_per_node for j in taken)),
        claims=len(held),
    )


HOLDING = frozenset(
    {ClaimState.CLAIMED, ClaimState.ACCEPTED, ClaimState.LEASED, ClaimState.STARTED}
)


def claims_on(node: Node, offer_id: OfferId) -> list[ClaimEntry]:
    """The claims on an offer that are known live, by id."""
    live = node.ledger.live
    return [live.claims[c] for c in sorted(live.claims_by_offer.get(offer_id, ()))]


# Jobs


def job(
    node: Node, entry: JobEntry, now_ms: int, local: LocalJob | None, result_of: ResultOf
) -> JobView:
    """One job in a line."""
    live = node.ledger.live
    verdict = live.judge(entry)
    last = live.claims[entry.claims[-1]] if entry.claims else None
    side = None if last is None else last.host_side
    end = None if side is None else side.end
    posted = hlc_ms(entry.posted)
    started = None
    if side is not None and side.phase in (HostPhase.STARTED, HostPhase.ENDED):
        started = end.started_ms if end is not None else side.started_ms
    request = entry.job
    return JobView(
        job_id=str(entry.job_id),
        home=entry.job_id.centre,
        name=None if local is None else local.name,
        script=None if local is None else local.script,
        user=None if local is None else local.user or None,
        pseudonym=None if local is None else local.pseudonym or None,
        state=JOB_WORDS[verdict.state],
        final=verdict.state.final,
        held=entry.held,
        host=None if last is None or last.claim is None else last.claim.offer_id.centre,
        claim_id=None if last is None else str(last.claim_id),
        attempts=len(entry.claims),
        resource_class=request.resource_class,
        nodes=request.nodes,
        cores_per_node=request.cores_per_node,
        gpus_per_node=request.gpus_per_node,
        memory_mib_per_node=request.memory_mib_per_node,
        walltime_s=request.walltime_s,
        work_class=request.work_class,
        data_class=request.data_class,
        features=list(request.features),
        allow=list(request.allow),
        deny=list(request.deny),
        posted_ms=posted,
        started_ms=started,
        ended_ms=None if end is None else end.ended_ms,
        waited_ms=max(0, (now_ms if started is None else started) - posted),
        outcome=None if end is None else outcome_word(end.outcome),
        exit_code=None if end is None else end.exit_code,
        signal=None if end is None else end.signal,
        core_s=None if end is None else end.core_s,
        gpu_s=None if end is None else end.gpu_s,
        memory_mib_max=None if end is None else end.memory_mib_max,
        result="none" if last is None else result_of(last),
        payload_digest=request.payload_digest.hex(),
        payload_bytes=request.payload_bytes,
        reason="held" if entry.held and not verdict.state.final else _reason(last),
    )


def _reason(last: ClaimEntry | None) -> str | None:
    """Why the last claim came to nothing, if it did."""
    if last is None:
        return None
    return last.host_side.close_reason or last.release_reason or None


def attempt(node: Node, claim_id: ClaimId) -> AttemptView | None:
    """One claim with the moments of its life; None if the claim itself is not known."""
    entry = node.ledger.live.claims[claim_id]
    claim, side = entry.claim, entry.host_side
    if claim is None:
        return None
    end = side.end
    ran = side.phase in (HostPhase.STARTED, HostPhase.ENDED)
    return AttemptView(
        claim_id=str(claim_id),
        offer_id=str(claim.offer_id),
        host=claim.offer_id.centre,
        attempt=claim.attempt,
        round=claim.round,
        state=entry.state.value,
        reason=_reason(entry),
        claimed_ms=hlc_ms(entry.claimed),
        accepted_ms=side.accepted_ms or None,
        handed_over_ms=entry.handover_ms or None,
        lease_until_ms=entry.lease_until_ms or None,
        started_ms=end.started_ms if end is not None else (side.started_ms if ran else None),
        ended_ms=None if end is None else end.ended_ms,
        outcome=None if end is None else outcome_word(end.outcome),
        exit_code=None if end is None else end.exit_code,
        signal=None if end is None else end.signal,
        core_s=None if end is None else end.core_s,
        gpu_s=None if end is None else end.gpu_s,
        result_digest=None
        if end is None or not any(end.result_digest)
        else end.result_digest.hex(),
        receipt=isinstance(entry.settlement, Receipt),
        dispute=isinstance(entry.settlement, Dispute),
    )


def job_counts(node: Node, entries: Iterable[JobEntry]) -> dict[str, int]:
    """How many of the jobs stand in each live state."""
    live = node.ledger.live
    words = (live.judge(entry).state for entry in entries)
    return dict(sorted(Counter(w.value for w in words if not w.final).items()))


def hosted_counts(node: Node) -> dict[str, int]:
    """How many claims of others on our offers stand in each live state."""
    me = node.me.name
    states = (
        entry.state
        for entry in node.ledger.live.claims.values()
        if entry.claim is not None and entry.claim.offer_id.centre == me
    )
    return dict(sorted(Counter(s.value for s in states if s in HOLDING).items()))


# Accounts


def balances(node: Node) -> list[BalanceView]:
    """Every member's account at the last cut."""
    state = node.ledger.view.state
    cut_ms = node.ledger.view.cut_ms
    amounts, asked = _amounts(node), _asked(node)
    found = []
    for centre in state.version.known:
        standing = state.standing(centre, cut_ms)
        own = amounts.get(centre, [])
        consumed = _points(node, own, "consumed")
        requested = consumed + asked[centre]
        delivered = _points(node, own, "delivered")
        today = day_of(cut_ms)
        gain = state.accounts.gain_per_day(centre, today, _RATE_DAYS)
        found.append(
            BalanceView(
                centre=centre,
                balance=balance(standing),
                contribution=standing.contribution,
                usage=standing.usage,
                committed=state.committed(centre),
                credit_line=standing.credit_line,
                satisfaction_ppm=consumed * PPM // requested if requested else None,
                fairness_ppm=consumed * PPM // delivered if delivered else None,
                debt_free_days=days_in_debt(standing, gain, state.rules),
                amounts=own,
            )
        )
    return found


def counters(node: Node) -> CountersView:
    """The raw counters at the last cut."""
    digest = node.rounds.last_digest
    return CountersView(
        centre=node.me.name,
        federation_id=node.federation.id.hex(),
        cut_ms=node.ledger.view.cut_ms,
        view_digest=None if digest is None else digest.hex(),
        counters=[
            CounterView(
                centre=key.writer,
                resource_class=key.resource_class,
                day=key.day,
                contributed=counter.contributed,
                consumed=counter.consumed,
            )
            for key, counter in node.ledger.view.state.accounts.counters().items()
        ],
    )


def _points(node: Node, amounts: Iterable[AmountView], of: Literal["consumed", "delivered"]) -> int:
    """What raw amounts are worth by the rules in force."""
    rules = node.ledger.rules
    classes = ((rules.resource_class(a["resource_class"]), a[of]) for a in amounts)
    return sum(resource.points(amount) for resource, amount in classes if resource is not None)


def _asked(node: Node) -> Counter[CentreName]:
    """Points that each centre's waiting and running jobs ask for."""
    live, rules = node.ledger.live, node.ledger.rules
    found: Counter[CentreName] = Counter()
    for entry in live.jobs.values():
        resource = rules.resource_class(entry.job.resource_class)
        if resource is not None and not live.judge(entry).state.final:
            found[entry.job_id.centre] += points_of(entry.job, resource)
    return found


def _amounts(node: Node) -> dict[CentreName, list[AmountView]]:
    totals: dict[tuple[CentreName, str], list[int]] = {}
    for centre, resource, delivered, offered, consumed in node.ledger.view.state.accounts.totals():
        totals[centre, resource] = [delivered, offered, consumed]
    found: dict[CentreName, list[AmountView]] = {}
    for (centre, resource), (delivered, offered, consumed) in sorted(totals.items()):
        unit = node.ledger.rules.resource_class(resource)
        found.setdefault(centre, []).append(
            AmountView(
                resource_class=resource,
                unit="core" if unit is None else unit.unit,
                delivered=delivered,
                offered=offered,
                consumed=consumed,
            )
        )
    return found


def templates(
    node: Node, known: Iterable[OfferTemplate], why_nothing: Callable[[OfferTemplate], str]
) -> list[TemplateView]:
    """What is offered from each template now, and why nothing is."""
    live, me = node.ledger.live, node.me.name
    mine = [o for o in live.offers.values() if o.host == me and not o.closed]
    return [
        TemplateView(
            name=template.name,
            follow=template.follow,
            nodes=sum(o.nodes for o in mine if o.terms.name in part_names(template)),
            why=why_nothing(template) or None,
        )
        for template in known
    ]


def control_warnings(node: Node) -> list[str]:
    """What our people's orders and policy keep from happening, in sentences."""
    found = []
    control, policy, asked = node.control, node.host.policy, len(node.host.asked)
    if not control.open:
        why = f": {control.order.reason}" if control.order.reason else ""
        found.append(f"{control.mode.value} by {control.order.who}{why}; see p2pfed resume")
    elif policy.paused:
        found.append("paused = true in centre.toml: no guests are taken")
    silent = sorted(
        str(offer.offer_id)
        for offer in node.ledger.live.offers.values()
        if offer.host == node.me.name and not offer.closed
        if policy.may_ask(offer.terms) and not offer.terms.may_ask
    )
    if silent:
        found.append(
            f"a rule now asks about guests on {', '.join(silent)}, opened before it: claims there "
            "wait too short a time for an answer; close and open again"
        )
    if asked:
        found.append(f"{asked} guests wait for an answer: p2pfed requests")
    return found
