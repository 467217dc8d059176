"""Why a centre is a member or not, and why these rules hold: told record by record.

Everything follows from the registers of governance and the cut, so that every node which holds the
same blocks tells the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from p2pfed.core.governance import Governance
from p2pfed.core.ids import CentreName
from p2pfed.core.progress import progress
from p2pfed.core.proposals import Proposal
from p2pfed.core.records import ProposalKind
from p2pfed.core.rules import Rules


@dataclass(frozen=True, slots=True)
class Reasons:
    """A fact, and the sentences that it follows from, in order."""

    fact: str
    reasons: tuple[str, ...]


def kind_word(kind: ProposalKind) -> str:
    """The word for a kind of proposal: `replace-key`."""
    return kind.name.lower().replace("_", "-")


def changed_rules(before: Rules, after: Rules) -> list[str]:
    """The names of the rules that differ, in the order of their declaration."""
    old = before.to_mapping()
    return [name for name, value in after.to_mapping().items() if value != old[name]]


def why_member(
    governance: Governance, name: CentreName, cut_ms: int, *, suspended: bool
) -> Reasons | None:
    """Whether a centre is a member at a cut, and by which records.

    Returns:
        None if it never was one, and nobody proposed it.
    """
    about = [p for _, p in sorted(governance.proposals.items()) if _is_about(p, name)]
    if name not in governance.version_at(cut_ms).known and not about:
        return None
    chain = governance.versions()
    reasons = ["the charter names it as a founder"] if name in chain[0].members else []
    for made in chain[1:]:
        assert made.proposal_id is not None
        by = governance.proposals[made.proposal_id]
        if _is_about(by, name):
            reasons.append(
                f"version {made.number}, from round {made.start_round} on: proposal "
                f"{made.proposal_id} ({kind_word(by.kind)}), carried by the votes "
                f"{', '.join(map(str, made.votes))}, adopted by {made.adopt}"
            )
    decided = {version.proposal_id for version in chain}
    for other in about:
        if other.proposal_id not in decided:
            found = progress(governance, other.proposal_id, cut_ms)
            reasons.append(
                f"proposal {other.proposal_id} ({kind_word(other.kind)}) is "
                f"{found.state.value}: {found.why}"
            )
    for feed, (leave_id, _) in sorted(governance.leaves.items()):
        if feed.centre == name:
            reasons.append(f"it left by {leave_id}")
    declared = [feed.epoch for feed in sorted(governance.declared) if feed.centre == name]
    reasons += [f"it declared epoch {epoch} without a vote" for epoch in declared]
    forked = [feed.epoch for feed in sorted(governance.convicted) if feed.centre == name]
    reasons += [f"its feed of epoch {epoch} is proven forked" for epoch in forked]
    member = governance.members_at(cut_ms).get(name)
    if member is None:
        return Reasons(f"{name} is not a member", tuple(reasons))
    note = ", suspended for a proven fork" if suspended else ""
    return Reasons(f"{name} is a member, epoch {member.epoch}{note}", tuple(reasons))


def _is_about(proposal: Proposal, name: CentreName) -> bool:
    return proposal.subject == name and proposal.claim_id is None


def why_rules(governance: Governance, cut_ms: int) -> Reasons:
    """Which rules hold at a cut, by which records, and which adoptions came to nothing."""
    chain = governance.versions()
    reasons = ["rules version 1 stands in the charter"]
    for base, made in pairwise(chain):
        if made.rules_version == made.number:
            names = ", ".join(changed_rules(base.rules, made.rules))
            reasons.append(
                f"rules version {made.number}, from round {made.start_round} on, changes {names}: "
                f"proposal {made.proposal_id}, carried by {', '.join(map(str, made.votes))}, "
                f"adopted by {made.adopt}"
            )
    won = {version.adopt for version in chain}
    for adopt_id, adoption in sorted(governance.adopts.items()):
        if adopt_id not in won:
            past = chain[: adoption.record.base_version]
            why = governance.void(adopt_id, past) if past else "it builds on no version"
            reasons.append(
                f"{adopt_id} adopts nothing: {why or 'another adoption was lower in its place'}"
            )
    held = governance.version_at(cut_ms).rules_version
    return Reasons(f"rules version {held} holds", tuple(reasons))
