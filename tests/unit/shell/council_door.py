"""The members' decisions for tests of the control API: one proposal, one version, one dispute."""

from __future__ import annotations

from p2pfed.core.ids import CentreName, ClaimId, JobId, Position
from p2pfed.core.rules import Rules
from p2pfed.errors import StateError
from p2pfed.shell.council_answers import DisputeView, ProposalView, VersionView, WhyView
from p2pfed.shell.governing import ProposalRequest


def proposal_view() -> ProposalView:
    """An open proposal of beta."""
    return ProposalView(
        proposal_id="beta.4.0",
        kind="admit",
        subject="gamma",
        proposer="beta",
        reason="a new cluster",
        proposed_ms=1,
        deadline_ms=2,
        state="open",
        why="1 votes of 2 needed",
        electors=["alpha", "beta"],
        needed=2,
        ballots=[],
        version=None,
        start_ms=None,
        epoch=0,
        public_key="00" * 32,
        address="gamma.example.org:7411",
        credit_line=1,
        claim_id=None,
        core_s=0,
        gpu_s=0,
        changes=[],
    )


def version_view() -> VersionView:
    """The charter's version."""
    return VersionView(
        number=1,
        rules_version=1,
        start_round=0,
        start_ms=0,
        in_force=True,
        kind="charter",
        subject="",
        proposal_id=None,
        adopt=None,
        votes=[],
        members=["alpha", "beta"],
        changes=[],
    )


def dispute_view() -> DisputeView:
    """An open dispute of alpha about a run at beta."""
    return DisputeView(
        claim_id="alpha.3.0",
        job_id="alpha.2.0",
        home="alpha",
        host="beta",
        reason="it stood still",
        state="open",
        disputed_ms=1,
        settle_until_ms=2,
        decide_until_ms=3,
        stated_core_s=100,
        stated_gpu_s=0,
        measured_core_s=40,
        measured_gpu_s=0,
        counts_core_s=40,
        counts_gpu_s=0,
    )


class MemoryGovernance:
    """Answers from memory and keeps what was said."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def proposals(self) -> list[ProposalView]:
        return [proposal_view()]

    def proposal(self, proposal_id: Position) -> ProposalView:
        if str(proposal_id) != "beta.4.0":
            raise StateError("proposal-unknown", f"no proposal {proposal_id} is known here")
        return proposal_view()

    def proposed_rules(self, proposal_id: Position) -> dict[str, object]:
        self.proposal(proposal_id)
        return Rules().to_mapping()

    def rules(self) -> dict[str, object]:
        return Rules().to_mapping()

    def versions(self) -> list[VersionView]:
        return [version_view()]

    def why_member(self, name: CentreName) -> WhyView:
        return WhyView(fact=f"{name} is a member", reasons=["the charter names it"])

    def why_rules(self) -> WhyView:
        return WhyView(fact="rules version 1 holds", reasons=["it stands in the charter"])

    def disputes(self) -> list[DisputeView]:
        return [dispute_view()]

    def invitation(self) -> dict[str, object]:
        return {"charter": "00", "invited_by": "alpha", "contacts": {}}

    async def propose(self, request: ProposalRequest) -> ProposalView:
        self.said.append(("propose", request))
        return proposal_view()

    async def vote(self, proposal_id: Position, *, in_favour: bool, reason: str) -> ProposalView:
        self.said.append(("vote", str(proposal_id), in_favour, reason))
        return self.proposal(proposal_id)

    async def withdraw(self, proposal_id: Position) -> ProposalView:
        self.said.append(("withdraw", str(proposal_id)))
        return self.proposal(proposal_id)

    async def leave(self, reason: str) -> str:
        self.said.append(("leave", reason))
        return "alpha.9.0"

    async def dispute(
        self, job_id: JobId, *, core_s: int | None, gpu_s: int | None, reason: str
    ) -> DisputeView:
        self.said.append(("dispute", str(job_id), core_s, gpu_s, reason))
        return dispute_view()

    async def settle(self, claim_id: ClaimId, *, core_s: int, gpu_s: int) -> DisputeView:
        self.said.append(("settle", str(claim_id), core_s, gpu_s))
        return dispute_view()
