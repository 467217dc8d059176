"""What each claim charges its home: what is committed now, then what counts of what it consumed.

All of it follows from the claim's entry, the decisions of the members and the cut. Where only the
cut makes a difference (a deadline passes), the claim stands in `due` with that time.
"""

from __future__ import annotations

from heapq import heappush

from p2pfed.core.accounting import Accounts
from p2pfed.core.closing import disputed_in_time, settled_in_time
from p2pfed.core.constitution import Decision
from p2pfed.core.entries import ClaimEntry, JobEntry, outcome_of
from p2pfed.core.governance import Governance
from p2pfed.core.ids import CentreName, ClaimId, is_on_branch
from p2pfed.core.lifecycle import HOLDS_CAPACITY, ClaimState, HomePhase
from p2pfed.core.posting import claimed_amount
from p2pfed.core.records import CHARGED_OUTCOMES, Claim
from p2pfed.core.rules import ResourceClass, Rules
from p2pfed.core.units import day_of, hlc_ms


class Charges:
    """What claims charge, brought up to date claim by claim.

    Attributes:
        rules: those of the cut.
        cut_ms: the cut.
        due: a heap of (time, claim) at which a claim has to be looked at again.
    """

    def __init__(self, governance: Governance, accounts: Accounts, rules: Rules) -> None:
        self.rules = rules
        self.cut_ms = 0
        self.due: list[tuple[int, ClaimId]] = []
        self._governance = governance
        self._accounts = accounts
        self._by_claim: dict[ClaimId, int] = {}
        self._by_centre: dict[CentreName, int] = {}

    def committed(self, centre: CentreName) -> int:
        """Points of the claims that the centre has running or unsettled."""
        return self._by_centre.get(centre, 0)

    def committed_for(self, claim_id: ClaimId) -> int:
        """The part of its home's committed points that one claim has."""
        return self._by_claim.get(claim_id, 0)

    def holds(self, entry: ClaimEntry) -> bool:
        """Whether the claim holds a part of its offer at the cut.

        A lease on a branch that does not count is over when its time is: its home can't say there
        that it is lost, nor anywhere else, and a host that went down with it says nothing either.
        Whatever a home wrote, no lease is longer than the rules of its time allow.
        """
        if entry.state not in HOLDS_CAPACITY:
            return False
        if not is_on_branch(entry.claim_id) or entry.phase is not HomePhase.HANDED:
            return True
        rules = self._governance.version_at(entry.handover_ms).rules
        until_ms = min(entry.lease_until_ms, entry.handover_ms + rules.lease_max_ms)
        if self.cut_ms < until_ms:
            heappush(self.due, (until_ms, entry.claim_id))
        return self.cut_ms < until_ms

    def deadline_ms(self, entry: ClaimEntry) -> int:
        """Until when the usage of a claim that ended can be settled."""
        ended_ms = hlc_ms(entry.host_side.ended)
        return ended_ms + self._governance.version_at(ended_ms).rules.receipt_deadline_ms

    def refresh(self, entry: ClaimEntry, claim: Claim, posted: JobEntry, *, holds: bool) -> None:
        """Counts the claim anew; `holds` is what `holds` said of it."""
        job = posted.job
        resource = self.rules.resource_class(job.resource_class)
        bound = resource is not None and (holds or self._is_unsettled(entry))
        points = resource.points(claimed_amount(job, resource)) if resource and bound else 0
        self._commit(entry, points)
        side = entry.host_side
        if side.end is None or entry.handover is None:
            return
        ended_ms = hlc_ms(side.ended)
        # The rules of the time of the End: what is counted and forgotten is never judged again.
        rules = self._governance.version_at(ended_ms).rules
        resource = rules.resource_class(job.resource_class)
        if resource is None:
            return
        claimed = claimed_amount(job, resource)
        deadline_ms = ended_ms + rules.receipt_deadline_ms
        if not settled_in_time(entry, deadline_ms) and self.cut_ms < deadline_ms:
            heappush(self.due, (deadline_ms, entry.claim_id))
        if outcome_of(entry, posted) not in CHARGED_OUTCOMES:
            amount = None
        else:
            stated = resource.amount(core_s=side.end.core_s, gpu_s=side.end.gpu_s)
            amount = self._counted(entry, min(stated, claimed), resource, deadline_ms)
        self._accounts.set_usage(
            entry.claim_id,
            home=entry.home,
            host=claim.offer_id.centre,
            resource_class=resource.name,
            day=day_of(ended_ms),
            amount=amount,
        )

    def _is_unsettled(self, entry: ClaimEntry) -> bool:
        """Whether its usage may still be settled; after the deadline it counts as stated."""
        ended = entry.state is ClaimState.ENDED and entry.settlement is None
        return ended and self.cut_ms < self.deadline_ms(entry)

    def _counted(
        self, entry: ClaimEntry, bounded: int, resource: ResourceClass, deadline_ms: int
    ) -> int | None:
        """What counts at this cut of usage within the claim; None if it does not count (yet)."""
        if disputed_in_time(entry, deadline_ms):
            core_s, gpu_s = self.of_dispute(entry)
            return min(bounded, resource.amount(core_s=core_s, gpu_s=gpu_s))
        settlement = entry.settlement
        if settlement and settled_in_time(entry, deadline_ms):
            return min(bounded, resource.amount(core_s=settlement.core_s, gpu_s=settlement.gpu_s))
        return bounded if self.cut_ms >= deadline_ms else None

    def decision_on(self, claim_id: ClaimId) -> Decision | None:
        """What the members decided of a disputed claim, once it holds."""
        for version in self._governance.versions():
            decision = version.decision
            if decision and decision.claim_id == claim_id and version.start_ms <= self.cut_ms:
                return decision
        return None

    def of_dispute(self, entry: ClaimEntry) -> tuple[int, int]:
        """The amounts that count of a dispute: agreed, decided, else what the home states."""
        assert entry.dispute is not None
        agreed = entry.agreement()
        settle_until_ms = hlc_ms(entry.disputed) + self.rules.dispute_settle_ms
        if agreed is not None and hlc_ms(agreed[0]) <= settle_until_ms:
            return agreed[1:]
        decision = self.decision_on(entry.claim_id)
        if decision is not None:
            return decision.core_s, decision.gpu_s
        return entry.dispute.core_s, entry.dispute.gpu_s

    def _commit(self, entry: ClaimEntry, points: int) -> None:
        before = self._by_claim.pop(entry.claim_id, 0)
        if points:
            self._by_claim[entry.claim_id] = points
        self._by_centre[entry.home] = self._by_centre.get(entry.home, 0) + points - before
