"""Our part in the decisions of the members: what our people propose, vote and leave, and adoption.

Votes are people's; adoption is not. Whenever enough votes for a proposal are here, some member
must write `Adopt`: the proposer at once, any other member if it is still missing a while later.
More than one may, and the chain of versions picks the lowest (effective round, id). One adoption is
under way at a time: each builds on a version, and one that lost is written again on the next.
"""

from __future__ import annotations

from p2pfed.core.entries import ClaimEntry
from p2pfed.core.governance import Governance
from p2pfed.core.ids import ClaimId, Position
from p2pfed.core.progress import Progress, ProposalState, awaits_witness, progress
from p2pfed.core.proposals import check_form
from p2pfed.core.records import (
    Adopt,
    Dispute,
    Leave,
    OfferClose,
    Propose,
    Record,
    Settle,
    Vote,
    WithdrawProposal,
)
from p2pfed.core.units import hlc_ms
from p2pfed.errors import InputError, P2pfedError, StateError
from p2pfed.node.effects import INFO, Reply
from p2pfed.node.events import Govern
from p2pfed.node.ledger import Ledger
from p2pfed.node.shelf import unsendable
from p2pfed.node.standing import require_member
from p2pfed.node.turn import Turn


class Council:
    """What we say in the federation's decisions."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._carried_since: dict[tuple[Position, int], int] = {}

    @property
    def _governance(self) -> Governance:
        return self._ledger.live.governance

    # People

    def govern(self, event: Govern, turn: Turn) -> None:
        """Writes what an administrator wants said, or replies why it can't be."""
        try:
            refusal = unsendable(event.record)
            if refusal is not None:
                raise refusal
            self._check(event.record, turn.now_ms)
        except P2pfedError as error:
            turn.do(Reply(request=event.request, error=error))
            return
        position = self._ledger.write(event.record, turn.now_ms)
        if isinstance(event.record, Propose):
            self._ledger.write(Vote(proposal_id=position, in_favour=True), turn.now_ms)
        elif isinstance(event.record, Leave):
            self._close_offers(turn)
        turn.do(Reply(request=event.request, result=str(position)))

    def _check(self, record: Record, now_ms: int) -> None:
        me = self._ledger.me.name
        if not isinstance(record, Dispute | Settle):  # what is owed outlives the membership
            require_member(self._ledger, now_ms)
        match record:
            case Propose():
                self._check_proposal(record, now_ms)
            case Vote():
                self._check_vote(record, now_ms)
            case WithdrawProposal():
                if record.proposal_id.centre != me:
                    raise StateError("proposal-foreign", "only its proposer can withdraw it")
                self._undecided(record.proposal_id, now_ms)
            case Dispute():
                self._check_dispute(record)
            case Settle():
                entry = self._disputed(record.claim_id)
                if entry.claim is None or me not in (entry.home, entry.claim.offer_id.centre):
                    raise StateError("dispute-foreign", "only home and host can settle a dispute")
            case _:
                pass

    def _check_proposal(self, record: Propose, now_ms: int) -> None:
        """Refuses at once what could never be adopted as things are."""
        governance = self._governance
        position, time = self._ledger.next_position, self._ledger.next_time(now_ms)
        proposal = check_form(position, time, record)
        base = governance.versions()[-1]
        obstacle = governance.obstacle(proposal, base, time)
        if obstacle is not None:
            raise StateError("proposal-impossible", obstacle)

    def _check_vote(self, record: Vote, now_ms: int) -> None:
        found = self._undecided(record.proposal_id, now_ms)
        me = self._ledger.me.name
        mine = self._governance.ballots(record.proposal_id).get(me)
        if mine is not None:
            said = "in favour" if mine.in_favour else "against"
            raise StateError(
                "vote-cast",
                f"this centre voted {said} already, and a vote stands",
                remedy="talk to the proposer: a new proposal can be voted on anew",
            )
        if me not in found.electors:
            raise StateError("vote-none", "this centre has no vote on what it is a party to")
        if now_ms > found.proposal.deadline_ms:
            raise StateError("vote-late", "the deadline of the proposal is over")

    def _undecided(self, proposal_id: Position, now_ms: int) -> Progress:
        if proposal_id not in self._governance.proposals:
            raise StateError(
                "proposal-unknown",
                f"no proposal {proposal_id} is known here",
                remedy="see: p2pfed proposals",
            )
        found = progress(self._governance, proposal_id, self._now(now_ms))
        if found.state.final or found.state is ProposalState.ADOPTED:
            raise StateError(
                "proposal-decided", f"proposal {proposal_id} is {found.state.value}: {found.why}"
            )
        return found

    def _check_dispute(self, record: Dispute) -> None:
        entry = self._ledger.live.claims.get(ClaimId(record.claim_id))
        end = None if entry is None else entry.host_side.end
        if entry is None or end is None or entry.home != self._ledger.me.name:
            raise StateError("dispute-none", "no ended run of a job of this centre has that id")
        job = self._ledger.live.job_of(entry.claim_id)
        if job is None or job.done:
            raise StateError(
                "dispute-late",
                "this centre has said its last word on the job: the time to dispute it is over",
            )
        if entry.dispute is not None:
            raise StateError("dispute-open", f"claim {record.claim_id} is disputed already")
        if record.core_s > end.core_s or record.gpu_s > end.gpu_s:
            raise InputError(
                "dispute-amount", f"the host states {end.core_s} core-s and {end.gpu_s} gpu-s only"
            )

    def _disputed(self, claim_id: Position) -> ClaimEntry:
        entry = self._ledger.live.claims.get(ClaimId(claim_id))
        if entry is None or entry.dispute is None:
            raise StateError("dispute-none", f"claim {claim_id} is not in dispute")
        return entry

    def _close_offers(self, turn: Turn) -> None:
        """Whoever leaves offers nothing more; guests that run are the host's to drain or stop."""
        for offer in list(self._ledger.live.offers.values()):
            if offer.host == self._ledger.me.name and not offer.closed:
                close = OfferClose(offer_id=offer.offer_id, reason="leaving")
                self._ledger.write(close, turn.now_ms)

    # Adoption

    def _now(self, now_ms: int) -> int:
        """The time that a record of ours would have now."""
        return int(hlc_ms(self._ledger.next_time(now_ms)))

    def review(self, turn: Turn) -> None:
        """Writes an Adopt if one is due."""
        governance, me = self._governance, self._ledger.me
        undecided = self._open_proposals()
        if not undecided:
            self._carried_since.clear()
            return
        now_ms, base = self._now(turn.now_ms), governance.versions()[-1]
        if me.name not in governance.electors(base, self._ledger.next_time(turn.now_ms)):
            return
        for proposal_id in undecided:
            found = progress(governance, proposal_id, now_ms)
            if found.state is not ProposalState.CARRIED:
                continue
            since_ms = self._carried_since.setdefault((proposal_id, base.number), turn.now_ms)
            patience_ms = 0 if proposal_id.centre == me.name else 2 * base.rules.heartbeat_ms
            if turn.now_ms < since_ms + patience_ms or awaits_witness(governance, base, now_ms):
                continue
            votes = tuple(sorted(ballot.vote_id for ballot in found.in_favour))
            adopt = Adopt(
                proposal_id=proposal_id,
                base_version=base.number,
                effective_round=base.start_after(now_ms),
                votes=votes,
            )
            self._ledger.write(adopt, turn.now_ms)
            turn.note(INFO, "adopted", f"proposal {proposal_id} has its votes: adopted")
            return

    def _open_proposals(self) -> list[Position]:
        governance = self._governance
        decided = {version.proposal_id for version in governance.versions()}
        return sorted(governance.proposals.keys() - decided - governance.withdrawn.keys())
