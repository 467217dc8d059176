"""What a proposal needs, who has a vote on it, how many it takes, and what it brings about.

A proposal is judged three times, each time from what stands in the ledger alone: its form when it
is folded (`check_form`: its own fields, and the signature of the card that it carries), whether it
can be applied under a version (`refusal`), and, once adopted, what the next version is (`enact`).

More than a share of those who have a vote must be in favour; the share stands in the rules, per
kind. The subject of a decision has no vote on it, nor have the parties of a dispute, nor a centre
whose fork is proven, nor one that has left. A removal takes at least two votes, else of two members
either could expel the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from p2pfed.core import cose
from p2pfed.core.charter import CARD_CONTEXT, Card
from p2pfed.core.codec import decode, encode
from p2pfed.core.constitution import Decision, Member, Version
from p2pfed.core.ids import CentreName, ClaimId, Position, PublicKey, parse_centre_name
from p2pfed.core.keys import key_id, parse_public_key, verify
from p2pfed.core.limits import RULES_BYTES_MAX
from p2pfed.core.records import ProposalKind, Propose
from p2pfed.core.rules import PPM, RULE_FIELDS, Group, Rules
from p2pfed.core.units import HlcTime, hlc_ms
from p2pfed.errors import InputError

_CARD_KINDS: Final = frozenset({ProposalKind.ADMIT, ProposalKind.READMIT, ProposalKind.REPLACE_KEY})
EPOCH_KINDS: Final = _CARD_KINDS | {ProposalKind.NEW_EPOCH}
"""Kinds that grant a centre a feed to write."""
_REMOVAL_VOTES_MIN: Final = 2
_SHARES: Final = {
    ProposalKind.ADMIT: "admit_above_ppm",
    ProposalKind.REMOVE: "remove_above_ppm",
    ProposalKind.READMIT: "readmit_above_ppm",
    ProposalKind.REPLACE_KEY: "replace_key_above_ppm",
    ProposalKind.RULES: "rules_above_ppm",
    ProposalKind.DISPUTE: "dispute_above_ppm",
    ProposalKind.NEW_EPOCH: "new_epoch_above_ppm",
}
_THRESHOLDS: Final = tuple(
    f.name for f in RULE_FIELDS if f.group is Group.GOVERNANCE and f.name.endswith("_above_ppm")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A proposal whose form is right.

    Attributes:
        subject: the centre that it is about; of a dispute, the host; empty for the rules.
        card: the subject's card, where the kind needs one.
        rules: the proposed rules, where the kind is RULES.
        claim_id: the disputed claim, where the kind is DISPUTE.
    """

    proposal_id: Position
    kind: ProposalKind
    proposed: HlcTime
    deadline_ms: int
    reason: str
    subject: CentreName
    epoch: int = 0
    card: Card | None = None
    rules: Rules | None = None
    claim_id: ClaimId | None = None
    core_s: int = 0
    gpu_s: int = 0

    @property
    def proposer(self) -> CentreName:
        """Who proposed it."""
        return self.proposal_id.centre


@dataclass(frozen=True, slots=True, kw_only=True)
class Disputed:
    """A dispute as the ledger shows it.

    Attributes:
        host: the centre that ran the job; the home is the claim's centre.
        disputed_ms: when the home disputed.
        settled_ms: when the parties agreed, None if they have not.
    """

    host: CentreName
    disputed_ms: int
    settled_ms: int | None = None


def check_form(proposal_id: Position, proposed: HlcTime, record: Propose) -> Proposal:
    """The proposal of a record.

    Raises:
        InputError: `proposal-deadline`, `proposal-subject`, `proposal-card`, `proposal-claim`, or
            as `Rules.from_wire` and `parse_public_key`.
    """
    kind = ProposalKind(record.kind)
    if record.deadline_ms <= hlc_ms(proposed):
        raise InputError("proposal-deadline", "the deadline is past when it is proposed")
    if kind is not ProposalKind.RULES:
        parse_centre_name(record.subject, where="proposal")
    proposal = Proposal(
        proposal_id=proposal_id,
        kind=kind,
        proposed=proposed,
        deadline_ms=record.deadline_ms,
        reason=record.reason,
        subject=CentreName(record.subject),
        epoch=record.epoch,
        core_s=record.core_s,
        gpu_s=record.gpu_s,
    )
    if kind in _CARD_KINDS:
        return replace(proposal, card=_check_card(record))
    if kind is ProposalKind.RULES:
        return replace(proposal, rules=decode_rules(record.rules))
    if kind is ProposalKind.DISPUTE:
        if not record.claims or record.claims[0].centre == record.subject:
            raise InputError("proposal-claim", "it names no claim between two centres")
        return replace(proposal, claim_id=ClaimId(record.claims[0]))
    return proposal


def _check_card(record: Propose) -> Card:
    """The card in a proposal, if it is signed by its own key."""
    card = Card.from_wire(
        {0: 1, 1: record.subject, 2: record.public_key, 3: record.address, 4: record.credit_line},
        where="proposal",
    )
    key = parse_public_key(record.public_key, where="proposal")
    message = cose.to_be_signed(CARD_CONTEXT, key_id(key), encode(card.to_wire()))
    if not verify(key, record.card_signature, message):
        raise InputError("proposal-card", f"the card of {card.name} is not signed by its own key")
    return card


def decode_rules(data: bytes) -> Rules:
    """The rules that a proposal carries.

    Raises:
        InputError: as `Rules.from_wire`, or a `cbor-...` code.
    """
    return Rules.from_wire(decode(data, limit=RULES_BYTES_MAX, where="proposed rules"))


def encode_rules(rules: Rules) -> bytes:
    """The rules as a proposal carries them."""
    return encode(dict(rules.to_wire()))


# Votes


def without_vote(proposal: Proposal) -> frozenset[CentreName]:
    """Whom the decision is about: they have no vote on it."""
    match proposal.kind:
        case ProposalKind.DISPUTE if proposal.claim_id is not None:
            return frozenset({proposal.subject, proposal.claim_id.centre})
        case ProposalKind.RULES | ProposalKind.ADMIT:
            return frozenset()
        case _:
            return frozenset({proposal.subject})


def votes_needed(proposal: Proposal, electors: int, rules: Rules) -> int:
    """How many of that many electors must be in favour; more than there are: it can't be reached.

    More than the share that the rules set, and never more than all. Rules that change a threshold
    need the share for thresholds, if it is the greater.
    """
    share_ppm: int = getattr(rules, _SHARES[proposal.kind])
    if proposal.rules is not None and changes_thresholds(rules, proposal.rules):
        share_ppm = max(share_ppm, rules.thresholds_above_ppm)
    needed = max(1, min(electors, electors * share_ppm // PPM + 1))
    return max(needed, _REMOVAL_VOTES_MIN) if proposal.kind is ProposalKind.REMOVE else needed


def changes_thresholds(rules: Rules, proposed: Rules) -> bool:
    """Whether the proposed rules change how many votes a decision takes."""
    return any(getattr(rules, name) != getattr(proposed, name) for name in _THRESHOLDS)


# What it brings about


def refusal(
    proposal: Proposal,
    base: Version,
    present: Mapping[CentreName, Member],
    disputed: Disputed | None,
) -> str | None:
    """Why the proposal can't be applied to a version; None if it can.

    Args:
        proposal: of right form.
        base: the version that it would change.
        present: the members of `base` that have not left.
        disputed: the dispute of the claim that it names, if there is one.
    """
    if proposal.deadline_ms - hlc_ms(proposal.proposed) > base.rules.proposal_max_ms:
        return "its deadline is further away than the rules allow"
    subject = proposal.subject
    known = present.get(subject, base.known.get(subject))
    epoch = -1 if known is None else known.epoch
    match proposal.kind:
        case ProposalKind.RULES:
            return "these rules hold already" if proposal.rules == base.rules else None
        case ProposalKind.DISPUTE:
            return _dispute_refusal(proposal, base.rules, disputed)
        case ProposalKind.ADMIT:
            if known is not None:
                return f"{subject} was a member before: it can be readmitted"
            if proposal.epoch != 0:
                return "a centre begins with epoch 0"
        case ProposalKind.READMIT:
            if known is None or subject in present:
                return f"{subject} is not a former member"
            if proposal.epoch != epoch + 1:
                return f"the next epoch of {subject} is {epoch + 1}"
        case _:
            if known is None or subject not in present:
                return f"{subject} is not a member"
            if proposal.kind is not ProposalKind.REMOVE and proposal.epoch != epoch + 1:
                return f"the next epoch of {subject} is {epoch + 1}"
            if proposal.card is not None and proposal.card.public_key == known.public_key:
                return f"{subject} has this key already"
    return _key_refusal(proposal, base)


def _key_refusal(proposal: Proposal, base: Version) -> str | None:
    if proposal.card is None:
        return None
    for other in base.known.values():
        if other.name != proposal.subject and other.public_key == proposal.card.public_key:
            return f"{other.name} has the same key"
    return None


def _dispute_refusal(proposal: Proposal, rules: Rules, disputed: Disputed | None) -> str | None:
    if disputed is None or disputed.host != proposal.subject:
        return "no such dispute with this host"
    if disputed.settled_ms is not None:
        return "the parties have settled it"
    open_ms = disputed.disputed_ms + rules.dispute_settle_ms
    if hlc_ms(proposal.proposed) < open_ms:
        return "the parties still have time to settle it"
    if proposal.deadline_ms > open_ms + rules.dispute_vote_ms:
        return "the time for a vote on it is over before its deadline"
    return None


def enact(
    proposal: Proposal,
    base: Version,
    present: Mapping[CentreName, Member],
    *,
    effective_round: int,
    adopt: Position,
    votes: tuple[Position, ...],
) -> Version:
    """The version that the adopted proposal makes of `base`; whoever has left is not in it."""
    start_ms = base.cut_ms(effective_round)
    number = base.number + 1
    members = {name: m for name, m in base.members.items() if name in present}
    known, rules, decision = dict(base.known), base.rules, None
    if proposal.kind is ProposalKind.REMOVE:
        members.pop(proposal.subject, None)
    elif proposal.kind in EPOCH_KINDS:
        member = _member(proposal, base, start_ms, adopt, votes)
        members[member.name] = known[member.name] = member
    elif proposal.rules is not None:
        rules = proposal.rules
    elif proposal.claim_id is not None:
        decision = Decision(
            claim_id=proposal.claim_id,
            host=proposal.subject,
            core_s=proposal.core_s,
            gpu_s=proposal.gpu_s,
        )
    same_length = rules.round_ms == base.rules.round_ms
    return Version(
        number=number,
        rules_version=base.rules_version if rules is base.rules else number,
        rules=rules,
        members=dict(sorted(members.items())),
        known=dict(sorted(known.items())),
        start_round=effective_round,
        start_ms=start_ms,
        origin=base.origin if same_length else (effective_round, start_ms),
        proposal_id=proposal.proposal_id,
        adopt=adopt,
        votes=votes,
        decision=decision,
    )


def _member(
    proposal: Proposal,
    base: Version,
    start_ms: int,
    adopt: Position,
    votes: tuple[Position, ...],
) -> Member:
    card, before = proposal.card, base.known.get(proposal.subject)
    key = card.public_key if card is not None else None
    known_key = before.public_key if before is not None else PublicKey(b"")
    stays = before is not None and proposal.kind not in (ProposalKind.ADMIT, ProposalKind.READMIT)
    return Member(
        name=proposal.subject,
        epoch=proposal.epoch,
        public_key=key or known_key,
        address=card.address if card is not None else (before.address if before else ""),
        credit_line=(
            card.credit_line if card is not None else (before.credit_line if before else 0)
        ),
        since_ms=before.since_ms if stays and before is not None else start_ms,
        adopt=adopt,
        votes=votes,
    )
