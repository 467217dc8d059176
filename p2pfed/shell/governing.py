"""The members' decisions, as this centre's people ask about them and take part in them.

Every word goes to the node as one event and returns when it is durable. What is proposed is checked
there against what holds now; a proposal that could not be adopted as things are is refused at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfed.core.charter import Card
from p2pfed.core.entries import ClaimEntry
from p2pfed.core.ids import CentreName, ClaimId, JobId, Position, parse_position
from p2pfed.core.proposals import encode_rules
from p2pfed.core.records import (
    Dispute,
    Leave,
    ProposalKind,
    Propose,
    Settle,
    Vote,
    WithdrawProposal,
)
from p2pfed.core.rules import Rules
from p2pfed.core.units import DAY_MS, HLC_MAX, HlcTime
from p2pfed.errors import StateError
from p2pfed.node.events import Govern
from p2pfed.shell import council_views
from p2pfed.shell.brain import Brain, wall_ms
from p2pfed.shell.council_answers import DisputeView, ProposalView, VersionView, WhyView

DEADLINE_MS: Final = 7 * DAY_MS
"""From a proposal to its deadline, if nobody says otherwise and the rules allow as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRequest:
    """What shall be proposed.

    Attributes:
        card: with its signature, for the kinds that need one.
        deadline_ms: milliseconds from now; None for the usual time.
    """

    kind: ProposalKind
    reason: str = ""
    deadline_ms: int | None = None
    subject: CentreName | None = None
    card: tuple[Card, bytes] | None = None
    rules: Rules | None = None
    claim_id: ClaimId | None = None
    core_s: int = 0
    gpu_s: int = 0


class Governing:
    """Implements `p2pfed.shell.door.GovernanceDoor` for one daemon."""

    def __init__(self, brain: Brain, charter: bytes) -> None:
        self._brain = brain
        self._node = brain.node
        self._charter = charter

    # Questions

    def proposals(self) -> list[ProposalView]:
        """Every proposal, the newest first."""
        return council_views.proposals(self._node)

    def proposal(self, proposal_id: Position) -> ProposalView:
        """One proposal."""
        return council_views.proposal(self._node, proposal_id)

    def proposed_rules(self, proposal_id: Position) -> dict[str, object]:
        """The complete rules that a proposal carries."""
        self.proposal(proposal_id)
        rules = self._node.ledger.live.governance.proposals[proposal_id].rules
        if rules is None:
            raise StateError("proposal-rules", f"proposal {proposal_id} proposes no rules")
        return rules.to_mapping()

    def rules(self) -> dict[str, object]:
        """The rules that hold in the newest round."""
        return self._node.ledger.rules.to_mapping()

    def versions(self) -> list[VersionView]:
        """Every version, the charter first."""
        return council_views.versions(self._node)

    def why_member(self, name: CentreName) -> WhyView:
        """Whether a centre is a member, and by which records."""
        return council_views.why_member(self._node, name)

    def why_rules(self) -> WhyView:
        """Which rules hold, and by which records."""
        return council_views.why_rules(self._node)

    def disputes(self) -> list[DisputeView]:
        """Every disputed claim, the newest first."""
        return council_views.disputes(self._node)

    def invitation(self) -> dict[str, object]:
        """What a newcomer needs to find us: the charter and where the members listen."""
        node = self._node
        addresses = {c: m.address for c, m in node.ledger.view.state.version.members.items()}
        addresses.update(node.ledger.live.contacts)
        return {
            "charter": self._charter.hex(),
            "invited_by": node.me.name,
            "contacts": {c: a for c, a in sorted(addresses.items()) if a},
        }

    # Words

    async def propose(self, request: ProposalRequest) -> ProposalView:
        """Proposes, and votes in favour."""
        record = self._record(request)
        answer = await self._brain.ask(lambda n: Govern(request=n, record=record))
        return self.proposal(parse_position(answer))

    def _record(self, request: ProposalRequest) -> Propose:
        rules, card, signature = self._node.ledger.rules, None, bytes(64)
        if request.card is not None:
            card, signature = request.card
        usual_ms = min(DEADLINE_MS, rules.proposal_max_ms)
        if request.kind is ProposalKind.DISPUTE:
            usual_ms = min(usual_ms, rules.dispute_vote_ms // 2)
        subject = (request.subject or CentreName("")) if card is None else card.name
        claim = None if request.claim_id is None else self._disputed(request.claim_id).claim
        if claim is not None:
            subject = claim.offer_id.centre
        plain = Propose(
            kind=int(request.kind),
            deadline_ms=wall_ms() + (request.deadline_ms or usual_ms),
            reason=request.reason,
            subject=subject,
            epoch=self._epoch(request, subject),
            rules=b"" if request.rules is None else encode_rules(request.rules),
            claims=() if request.claim_id is None else (request.claim_id,),
            core_s=request.core_s,
            gpu_s=request.gpu_s,
        )
        if card is None:
            return plain
        return Propose(
            kind=plain.kind,
            deadline_ms=plain.deadline_ms,
            reason=plain.reason,
            subject=card.name,
            epoch=plain.epoch,
            public_key=card.public_key,
            address=card.address,
            credit_line=card.credit_line,
            card_signature=signature,
        )

    def _epoch(self, request: ProposalRequest, subject: CentreName) -> int:
        """The epoch that the subject would write in."""
        governance = self._node.ledger.live.governance
        newest = governance.versions()[-1]
        members = governance.present(newest, HlcTime(HLC_MAX))
        known = members.get(subject, newest.known.get(subject))
        if known is None or request.kind in (ProposalKind.REMOVE, ProposalKind.DISPUTE):
            return 0
        return known.epoch + 1

    async def vote(self, proposal_id: Position, *, in_favour: bool, reason: str) -> ProposalView:
        """Votes, once and for all."""
        record = Vote(proposal_id=proposal_id, in_favour=in_favour, reason=reason)
        await self._brain.ask(lambda n: Govern(request=n, record=record))
        return self.proposal(proposal_id)

    async def withdraw(self, proposal_id: Position) -> ProposalView:
        """Takes an own proposal back."""
        record = WithdrawProposal(proposal_id=proposal_id)
        await self._brain.ask(lambda n: Govern(request=n, record=record))
        return self.proposal(proposal_id)

    async def leave(self, reason: str) -> str:
        """Ends our membership; returns the id of the record."""
        return await self._brain.ask(lambda n: Govern(request=n, record=Leave(reason=reason)))

    async def dispute(
        self, job_id: JobId, *, core_s: int | None, gpu_s: int | None, reason: str
    ) -> DisputeView:
        """Disputes the usage of the job's last run; measures left out are taken as none."""
        entry = self._last_run(job_id)
        record = Dispute(
            claim_id=entry.claim_id, core_s=core_s or 0, gpu_s=gpu_s or 0, reason=reason
        )
        await self._brain.ask(lambda n: Govern(request=n, record=record))
        return council_views.dispute(self._node, self._disputed(entry.claim_id))

    def _last_run(self, job_id: JobId) -> ClaimEntry:
        live = self._node.ledger.live
        job = live.jobs.get(job_id)
        ended = [live.claims[c] for c in job.claims if live.claims[c].host_side.end] if job else []
        if not ended:
            raise StateError(
                "job-unknown", f"no job {job_id} that has run is known here", remedy="p2pfed jobs"
            )
        return ended[-1]

    async def settle(self, claim_id: ClaimId, *, core_s: int, gpu_s: int) -> DisputeView:
        """Offers to settle a dispute at these amounts; it is settled when both say the same."""
        record = Settle(claim_id=claim_id, core_s=core_s, gpu_s=gpu_s)
        await self._brain.ask(lambda n: Govern(request=n, record=record))
        return council_views.dispute(self._node, self._disputed(claim_id))

    def _disputed(self, claim_id: ClaimId) -> ClaimEntry:
        return council_views.known_dispute(self._node, claim_id)
