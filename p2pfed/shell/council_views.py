"""What the daemon tells of the members' decisions, from the registers of its last round."""

from __future__ import annotations

import json
from typing import cast

from p2pfed.core import reasons
from p2pfed.core.constitution import Version
from p2pfed.core.entries import ClaimEntry
from p2pfed.core.ids import CentreName, ClaimId, Position
from p2pfed.core.progress import progress
from p2pfed.core.proposals import Proposal
from p2pfed.core.records import ProposalKind
from p2pfed.core.rules import Rules
from p2pfed.core.units import hlc_ms
from p2pfed.errors import StateError
from p2pfed.node.node import Node
from p2pfed.shell.council_answers import (
    BallotView,
    ChangeView,
    DisputeStateName,
    DisputeView,
    ProposalKindName,
    ProposalView,
    VersionView,
    WhyView,
)


def kind_name(kind: ProposalKind) -> ProposalKindName:
    """The word for a kind of proposal."""
    return cast(ProposalKindName, reasons.kind_word(kind))


def changes(before: Rules, after: Rules) -> list[ChangeView]:
    """The rules that differ, in the order of their declaration."""
    old, new = before.to_mapping(), after.to_mapping()
    return [
        ChangeView(rule=name, before=json.dumps(old[name]), after=json.dumps(value))
        for name, value in new.items()
        if value != old[name]
    ]


def proposals(node: Node) -> list[ProposalView]:
    """Every proposal, the newest first."""
    known = node.ledger.live.governance.proposals.values()
    return [
        proposal(node, found.proposal_id)
        for found in sorted(known, key=lambda p: (p.proposed, p.proposal_id), reverse=True)
    ]


def proposal(node: Node, proposal_id: Position) -> ProposalView:
    """One proposal, by all that has arrived here.

    Raises:
        StateError: `proposal-unknown`.
    """
    governance = node.ledger.live.governance
    known = governance.proposals.get(proposal_id)
    if known is None:
        raise StateError(
            "proposal-unknown",
            f"no proposal {proposal_id} is known here",
            remedy="see: p2pfed proposals",
        )
    cut_ms = _now_ms(node)
    found = progress(governance, proposal_id, cut_ms)
    chain = governance.versions()
    base = chain[-1] if found.version is None else chain[found.version.number - 2]
    card = known.card
    return ProposalView(
        proposal_id=str(proposal_id),
        kind=kind_name(known.kind),
        subject=known.subject,
        proposer=known.proposer,
        reason=known.reason,
        proposed_ms=hlc_ms(known.proposed),
        deadline_ms=known.deadline_ms,
        state=found.state.value,
        why=found.why,
        electors=list(found.electors),
        needed=found.needed,
        ballots=[
            BallotView(
                centre=ballot.vote_id.centre,
                in_favour=ballot.in_favour,
                reason=ballot.reason,
                vote_id=str(ballot.vote_id),
                time_ms=hlc_ms(ballot.time),
                counts=ballot.vote_id.centre in found.electors,
            )
            for ballot in found.ballots
        ],
        version=None if found.version is None else found.version.number,
        start_ms=None if found.version is None else found.version.start_ms,
        epoch=known.epoch,
        public_key=None if card is None else card.public_key.hex(),
        address=None if card is None else card.address,
        credit_line=None if card is None else card.credit_line,
        claim_id=None if known.claim_id is None else str(known.claim_id),
        core_s=known.core_s,
        gpu_s=known.gpu_s,
        changes=[] if known.rules is None else changes(base.rules, known.rules),
    )


def _now_ms(node: Node) -> int:
    """The latest that the node knows of: its view's cut, or a block beyond it."""
    return max(node.ledger.view.cut_ms, hlc_ms(node.ledger.next_time(0)))


def versions(node: Node) -> list[VersionView]:
    """Every version that is known, the charter first; later ones may not have begun."""
    governance = node.ledger.view.state.governance
    chain = governance.versions()
    return [
        version_view(
            version,
            None if index == 0 else chain[index - 1],
            None if version.proposal_id is None else governance.proposals[version.proposal_id],
            in_force=version is governance.version_at(node.ledger.view.cut_ms),
        )
        for index, version in enumerate(chain)
    ]


def version_view(
    version: Version, base: Version | None, made_by: Proposal | None, *, in_force: bool
) -> VersionView:
    """One version, and what it changed."""
    return VersionView(
        number=version.number,
        rules_version=version.rules_version,
        start_round=version.start_round,
        start_ms=version.start_ms,
        in_force=in_force,
        kind="charter" if made_by is None else kind_name(made_by.kind),
        subject="" if made_by is None else made_by.subject,
        proposal_id=None if version.proposal_id is None else str(version.proposal_id),
        adopt=None if version.adopt is None else str(version.adopt),
        votes=[str(vote_id) for vote_id in version.votes],
        members=list(version.members),
        changes=[] if base is None else changes(base.rules, version.rules),
    )


# Why


def why_member(node: Node, name: CentreName) -> WhyView:
    """Whether a centre is a member at the last cut, and by which records.

    Raises:
        StateError: `centre-unknown`: it never was one, and nobody proposed it.
    """
    ledger = node.ledger
    found = reasons.why_member(
        ledger.view.state.governance,
        name,
        ledger.view.cut_ms,
        suspended=name in ledger.view.state.registers.suspended,
    )
    if found is None:
        raise StateError("centre-unknown", f"nothing is known here of a centre {name}")
    return WhyView(fact=found.fact, reasons=list(found.reasons))


def why_rules(node: Node) -> WhyView:
    """Which rules hold at the last cut, and by which records."""
    found = reasons.why_rules(node.ledger.view.state.governance, node.ledger.view.cut_ms)
    return WhyView(fact=found.fact, reasons=list(found.reasons))


# Disputes


def disputes(node: Node) -> list[DisputeView]:
    """Every disputed claim, the newest first."""
    claims = node.ledger.live.claims
    found = [claims[c] for c in node.ledger.live.governance.disputes if c in claims]
    return [
        dispute(node, entry)
        for entry in sorted(found, key=lambda e: (e.disputed, e.claim_id), reverse=True)
    ]


def known_dispute(node: Node, claim_id: ClaimId) -> ClaimEntry:
    """The disputed claim.

    Raises:
        StateError: `dispute-unknown`.
    """
    entry = node.ledger.live.claims.get(claim_id)
    if entry is None or entry.dispute is None:
        raise StateError(
            "dispute-unknown", f"claim {claim_id} is not in dispute", remedy="see: p2pfed disputes"
        )
    return entry


def dispute(node: Node, entry: ClaimEntry) -> DisputeView:
    """A disputed claim as everybody judges it."""
    state, rules = node.ledger.view.state, node.ledger.rules
    end, said = entry.host_side.end, entry.dispute
    assert entry.claim is not None
    assert said is not None
    settle_until_ms = hlc_ms(entry.disputed) + rules.dispute_settle_ms
    core_s, gpu_s = state.charges.of_dispute(entry)
    return DisputeView(
        claim_id=str(entry.claim_id),
        job_id=str(entry.claim.job_id),
        home=entry.home,
        host=entry.claim.offer_id.centre,
        reason=said.reason,
        state=_dispute_state(node, entry, settle_until_ms),
        disputed_ms=hlc_ms(entry.disputed),
        settle_until_ms=settle_until_ms,
        decide_until_ms=settle_until_ms + rules.dispute_vote_ms,
        stated_core_s=0 if end is None else end.core_s,
        stated_gpu_s=0 if end is None else end.gpu_s,
        measured_core_s=said.core_s,
        measured_gpu_s=said.gpu_s,
        counts_core_s=core_s,
        counts_gpu_s=gpu_s,
    )


def _dispute_state(node: Node, entry: ClaimEntry, settle_until_ms: int) -> DisputeStateName:
    state, rules, now_ms = node.ledger.view.state, node.ledger.rules, _now_ms(node)
    agreed = entry.agreement()
    if agreed is not None and hlc_ms(agreed[0]) <= settle_until_ms:
        return "settled"
    if state.charges.decision_on(entry.claim_id) is not None:
        return "decided"
    if now_ms <= settle_until_ms:
        return "open"
    governance = node.ledger.live.governance
    open_still = any(
        proposal.claim_id == entry.claim_id
        and not progress(governance, proposal.proposal_id, now_ms).state.final
        for proposal in governance.proposals.values()
    )
    undecided = now_ms <= settle_until_ms + rules.dispute_vote_ms or open_still
    return "to be decided" if undecided else "lapsed"
