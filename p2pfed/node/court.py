"""May a claim come? Judged by our own books, our own match, and our policy, in this order.

Our books hold what we promised by our own word alone: accepts and starts. In every case a claim
must fit what they leave. With an equal view digest the pair must be in our own matching; with
another view it is accepted if it does no harm: the offer is open, the constraints hold, and no job
of our own matching wants the capacity. That priority lasts until `claim_wait_ms`; then it is first
come, first served. The ruling is a value: `p2pfed.node.host` writes what follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from p2pfed.core.accounting import balance
from p2pfed.core.entries import ClaimEntry, JobEntry, OfferEntry
from p2pfed.core.ids import ClaimId, OfferId
from p2pfed.core.lifecycle import ClaimState, HostPhase, claim_until, may_accept
from p2pfed.core.matching_fit import CAPACITY_CODES, Amount, amount_of, capacity_of, covers, fits
from p2pfed.core.records import Claim
from p2pfed.core.rules import Rules
from p2pfed.core.seen import offer_state, running_of, shape_of
from p2pfed.core.units import hlc_ms
from p2pfed.node.admission import DEFAULT, AdmissionPolicy, AdmissionRule, Decision, Mode
from p2pfed.node.control import Control
from p2pfed.node.ledger import Ledger
from p2pfed.node.rounds import Match, Rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """Accept (nothing is set), close for a reason, or look again at a time.

    `rule` is what the policy said, where it was asked; with `ask` a person has to answer until
    `look_again_ms`.
    """

    close: str | None = None
    look_again_ms: int | None = None
    rule: AdmissionRule = DEFAULT
    ask: bool = False


ACCEPT = Ruling()


class Court:
    """Rules on claims on our offers, and keeps the books that it rules by."""

    def __init__(self, ledger: Ledger, rounds: Rounds, control: Control) -> None:
        self._ledger = ledger
        self._control = control
        self._rounds = rounds
        self._holding: dict[OfferId, set[ClaimId]] = {}

    @property
    def _rules(self) -> Rules:
        return self._ledger.rules

    def book(self, entry: ClaimEntry) -> None:
        """Keeps our own books: what of an offer we promised, by our own word alone."""
        if entry.claim is None:
            return
        phase, state = entry.host_side.phase, entry.state
        holds = phase is HostPhase.STARTED or (
            phase is HostPhase.ACCEPTED and state in (ClaimState.ACCEPTED, ClaimState.LEASED)
        )
        held = self._holding.setdefault(OfferId(entry.claim.offer_id), set())
        (held.add if holds else held.discard)(entry.claim_id)

    def rule(
        self, entry: ClaimEntry, claim: Claim, job: JobEntry, policy: AdmissionPolicy, now_ms: int
    ) -> Ruling:
        """What to do about a claim that nobody has answered yet."""
        rule = policy.judge(entry.home, job.job, now_ms)
        ruling = self._rule(entry, claim, job, rule, now_ms, paused=policy.paused)
        asks = rule.decision is Decision.ASK and entry.claim_id not in self._control.approved
        if ruling == ACCEPT and asks:
            last_ms = claim.claim_until_ms - self._rules.clock_error_ms
            return Ruling(look_again_ms=max(now_ms + 1, last_ms), rule=rule, ask=True)
        return replace(ruling, rule=rule)

    def _rule(
        self,
        entry: ClaimEntry,
        claim: Claim,
        job: JobEntry,
        rule: AdmissionRule,
        now_ms: int,
        *,
        paused: bool,
    ) -> Ruling:
        offer = self._ledger.live.offers.get(OfferId(claim.offer_id))
        if self._may_be_next(claim) and may_accept(now_ms, claim.claim_until_ms, self._rules):
            return self._later(claim, self._rounds.due_ms(), now_ms)
        reason = self._refusal(entry, claim, job, offer, now_ms)
        reason = reason or self._unwanted(entry, rule, paused=paused)
        if reason == "expired" and rule.decision is Decision.ASK:
            reason = "unanswered"
        if reason is not None or offer is None:
            return Ruling(close=reason or "offer-closed")
        match self._rounds.judge(claim):
            case Match.NOT_YET:
                return self._later(claim, self._rounds.due_ms(), now_ms)
            case Match.NOT_OURS:
                return Ruling(close="unjustified")
            case verdict:
                if self._is_full(offer, entry, amount_of(job.job)):
                    return Ruling(close="no-capacity")
                if verdict is Match.OURS:
                    return ACCEPT
                return self._rule_other_view(entry, claim, job, offer, now_ms)

    def _may_be_next(self, claim: Claim) -> bool:
        """True if other rules than ours may hold in its round, to which we have not come."""
        ours = self._ledger.view.state.version.rules_version
        return claim.rules_version != ours and claim.round > self._rounds.last

    def _later(self, claim: Claim, when_ms: int, now_ms: int) -> Ruling:
        """Looks again then, or when the claim is over if that comes first."""
        last_ms = claim.claim_until_ms - self._rules.clock_error_ms
        return Ruling(look_again_ms=max(now_ms + 1, min(when_ms, last_ms)))

    def _refusal(
        self,
        entry: ClaimEntry,
        claim: Claim,
        job: JobEntry,
        offer: OfferEntry | None,
        now_ms: int,
    ) -> str | None:
        """Why the claim is closed whatever the view says; None if nothing speaks against it."""
        others = [c for c in job.claims if c != entry.claim_id]
        if offer is None or offer.closed or claim.offer_id.epoch != self._ledger.me.epoch:
            return "offer-closed"
        if job.cancelled:
            return "cancelled"
        if not may_accept(now_ms, claim.claim_until_ms, self._rules):
            return "expired"
        if claim.rules_version != self._ledger.view.state.version.rules_version:
            return "rules-version"
        if self._oversteps(entry, claim, offer):
            return "unjustified"
        if any(not self._ledger.live.claims[c].over for c in others):
            return "unjustified"
        if job.job.walltime_s > self._rules.walltime_max_s:
            return "constraint"
        return None

    def _unwanted(self, entry: ClaimEntry, rule: AdmissionRule, *, paused: bool) -> str | None:
        """Why our own people or our policy do not want the claim."""
        if self._control.mode is Mode.PAUSED or (paused and self._control.open):
            return "paused"
        if not self._control.open:
            return "withdrawn"
        if entry.home in self._control.blocked or rule.decision is Decision.DECLINE:
            return "policy"
        return None

    def _oversteps(self, entry: ClaimEntry, claim: Claim, offer: OfferEntry) -> bool:
        """True if the home may not claim at all, or claims for longer than the rules allow.

        An accept would hold our capacity for as long as the claim says.
        """
        wait_ms = claim.claim_until_ms - hlc_ms(entry.claimed)
        longest_ms = claim_until(0, self._rules, may_ask=offer.terms.may_ask)
        return wait_ms > longest_ms or entry.home in self._ledger.live.suspended

    def _rule_other_view(
        self, entry: ClaimEntry, claim: Claim, job: JobEntry, offer: OfferEntry, now_ms: int
    ) -> Ruling:
        """A claim from another view may come if it fits and takes nothing from our own match.

        Else it waits its turn: a match's priority lasts `claim_wait_ms`.
        """
        if self._breaks_terms(entry, claim, job, offer, now_ms):
            return Ruling(close="unjustified")
        free = self._free(offer)
        for wanted in self._rounds.wanted(offer.offer_id, now_ms):
            other = self._ledger.live.jobs.get(wanted)
            if other is not None and wanted != job.job_id and not self._has_place(other):
                free = _less(free, amount_of(other.job))
        if covers(free, amount_of(job.job)):
            return ACCEPT
        return self._later(claim, now_ms + self._rules.round_ms, now_ms)

    def _breaks_terms(
        self, entry: ClaimEntry, claim: Claim, job: JobEntry, offer: OfferEntry, now_ms: int
    ) -> bool:
        """True if the pair breaks a constraint that waiting would not mend.

        Judged at the claim's own round, as its home did, but at none that is long over; without
        what the claim itself commits, and with what our own accepts hold.
        """
        state = self._ledger.view.state
        oldest_ms = entry.changed_ms - self._rules.claim_wait_ms
        cut_ms = min(now_ms, max(self._rounds.cut_ms(claim.round), oldest_ms))
        standing = state.standing(entry.home, self._ledger.view.cut_ms)
        home_balance = balance(standing, -state.charges.committed_for(entry.claim_id))
        used = state.class_used(job.job_id) or job.job.work_class
        verdict = self._ledger.live.judge(job)
        shape = shape_of(job.job_id, job.job, used, verdict, self._rules)
        live, held = self._ledger.live, {}
        for claim_id in sorted(self._holding.get(offer.offer_id, ())):
            other = live.job_of(claim_id)
            if other is not None:
                held[claim_id] = running_of(live.claims[claim_id], other.job, self._rules)
        codes = fits(shape, offer_state(offer, held), cut_ms, home_balance, self._rules)
        return any(code not in CAPACITY_CODES for code in codes)

    def _has_place(self, job: JobEntry) -> bool:
        """True if our own books already hold a claim of the job, or it needs none any more."""
        verdict = self._ledger.live.judge(job)
        if verdict.state.final or job.cancelled:
            return True
        if verdict.live is None:
            return False
        return self._ledger.live.claims[verdict.live].host_side.phase is not HostPhase.SILENT

    def _is_full(self, offer: OfferEntry, entry: ClaimEntry, need: Amount) -> bool:
        """True if our accepts to date leave no room, in all or for this home."""
        most = offer.terms.per_centre_cores
        jobs = [
            self._ledger.live.job_of(claim_id)
            for claim_id in sorted(self._holding.get(offer.offer_id, ()))
            if claim_id.centre == entry.home
        ]
        held = sum(amount_of(job.job).cores for job in jobs if job is not None)
        return (bool(most) and held + need.cores > most) or not covers(self._free(offer), need)

    def _free(self, offer: OfferEntry) -> Amount:
        """What our own accepts to date leave of an offer."""
        free = capacity_of(offer.terms, offer.nodes)
        for claim_id in sorted(self._holding.get(offer.offer_id, ())):
            job = self._ledger.live.job_of(claim_id)
            if job is not None:
                free = _less(free, amount_of(job.job))
        return free


def _less(free: Amount, taken: Amount) -> Amount:
    return Amount(*(f - t for f, t in zip(free, taken, strict=True)))
