"""How far each proposal has come at a cut: what people see, and what the nodes act upon.

Every proposal reaches an end: it is adopted, withdrawn, refused, or its time runs out. All of it
follows from the registers of `p2pfed.core.governance` and the cut, so every node tells the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from p2pfed.core.constitution import Version
from p2pfed.core.governance import UNWITNESSED, Ballot, Governance
from p2pfed.core.ids import CentreName, Position
from p2pfed.core.proposals import Proposal, votes_needed, without_vote
from p2pfed.core.units import HlcTime, hlc, hlc_ms


class ProposalState(Enum):
    """Where a proposal stands."""

    OPEN = "open"
    CARRIED = "carried"  # enough votes: it waits for its adoption
    ADOPTED = "adopted"  # a version that has not begun yet
    IN_FORCE = "in force"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"  # so many are against it that it can't be carried
    EXPIRED = "expired"
    IMPOSSIBLE = "impossible"  # what it wants can't be done as things are

    @property
    def final(self) -> bool:
        """Whether nobody needs to look at it any more."""
        return self not in (ProposalState.OPEN, ProposalState.CARRIED, ProposalState.ADOPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is to be said of a proposal at a cut.

    Attributes:
        electors: who has a vote on it, ascending.
        needed: how many of them must be in favour.
        ballots: the first vote of each centre that has voted in time, by centre.
        version: the version that it made, if it did.
        why: a sentence on its state.
    """

    proposal: Proposal
    state: ProposalState
    electors: tuple[CentreName, ...]
    needed: int
    ballots: tuple[Ballot, ...]
    version: Version | None
    why: str

    @property
    def in_favour(self) -> tuple[Ballot, ...]:
        """The votes in favour that count."""
        return tuple(b for b in self.ballots if b.in_favour and b.vote_id.centre in self.electors)

    @property
    def against(self) -> tuple[Ballot, ...]:
        """The votes against that count."""
        return tuple(
            b for b in self.ballots if not b.in_favour and b.vote_id.centre in self.electors
        )


def progress(governance: Governance, proposal_id: Position, cut_ms: int) -> Progress:
    """How far a proposal has come at the cut.

    An adopted one is told of as its adoption found it, any other by the newest version there is.
    """
    proposal = governance.proposals[proposal_id]
    chain = governance.versions()
    made = next((v for v in chain if v.proposal_id == proposal_id), None)
    if made is None:
        base, time = chain[-1], hlc(cut_ms + 1)
    else:
        assert made.adopt is not None
        base, time = chain[made.number - 2], governance.adopts[made.adopt].time
    electors = governance.electors(base, HlcTime(time)).keys() - without_vote(proposal)
    needed = votes_needed(proposal, len(electors), base.rules)
    ballots = tuple(
        ballot
        for ballot in governance.ballots(proposal_id).values()
        if hlc_ms(ballot.time) <= min(proposal.deadline_ms, cut_ms)
    )
    found = Progress(
        proposal=proposal,
        state=ProposalState.OPEN,
        electors=tuple(sorted(electors)),
        needed=needed,
        ballots=ballots,
        version=made,
        why="",
    )
    state, why = _judge(governance, found, base, cut_ms)
    return Progress(
        proposal=proposal,
        state=state,
        electors=found.electors,
        needed=needed,
        ballots=ballots,
        version=made,
        why=why,
    )


def _judge(
    governance: Governance, found: Progress, base: Version, cut_ms: int
) -> tuple[ProposalState, str]:
    proposal, made = found.proposal, found.version
    yes, no, needed = len(found.in_favour), len(found.against), found.needed
    if made is not None:
        if made.start_ms <= cut_ms:
            return ProposalState.IN_FORCE, f"version {made.number}, since round {made.start_round}"
        return ProposalState.ADOPTED, f"version {made.number}, from round {made.start_round} on"
    if proposal.proposal_id in governance.withdrawn:
        return ProposalState.WITHDRAWN, f"{proposal.proposer} withdrew it"
    if cut_ms > governance.adopt_until_ms(proposal, base) or (
        cut_ms > proposal.deadline_ms and yes < needed
    ):
        return ProposalState.EXPIRED, f"{yes} of {needed} votes needed by its deadline"
    obstacle = governance.obstacle(proposal, base, hlc(cut_ms + 1))
    if obstacle is not None:
        return ProposalState.IMPOSSIBLE, obstacle
    if len(found.electors) - no < needed:
        return ProposalState.REFUSED, f"{no} against, so {needed} votes can't be reached"
    if yes >= needed:
        return ProposalState.CARRIED, f"{yes} votes of {needed} needed; it waits for its adoption"
    return ProposalState.OPEN, f"{yes} votes of {needed} needed"


def awaits_witness(governance: Governance, base: Version, now_ms: int) -> bool:
    """Whether an Adopt that builds on the version lacks only that somebody acks it in time."""
    chain = governance.versions()
    return any(
        adoption.record.base_version == base.number
        and base.cut_ms(adoption.record.effective_round) > now_ms
        and governance.void(adopt_id, chain) == UNWITNESSED
        for adopt_id, adoption in governance.adopts.items()
    )
