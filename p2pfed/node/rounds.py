"""The rounds: at each, the same matching everywhere; what it gives to our jobs we claim.

At `r × round_ms + settle_ms` the view advances to the cut at `r × round_ms` and is matched. As
home, we claim the matches of our own jobs that are still free by what we know *now* (a job claimed
in the round before may not be in the cut yet). As host, we remember what the round gave to our
offers: a claim that cites the same view must be in it, and a claim from another view must leave
room for it. Rounds that were missed are skipped: the newest alone matters.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import Final

from p2pfed.core.governance import Governance
from p2pfed.core.ids import JobId, OfferId, ViewDigest
from p2pfed.core.lifecycle import JobState, claim_until
from p2pfed.core.matching import Matcher, Matching
from p2pfed.core.records import Claim
from p2pfed.core.rules import Rules
from p2pfed.node.effects import WARNING
from p2pfed.node.ledger import Ledger
from p2pfed.node.turn import Turn

ROUNDS_KEPT: Final = 64
"""Rounds whose result a host remembers to judge claims by; an older one counts as another view."""


class Match(Enum):
    """What our own rounds say of a claim."""

    OURS = "the same view gave this pair"
    NOT_OURS = "the same view did not give this pair"
    OTHER_VIEW = "we did not see that view"
    NOT_YET = "we have not come to that round"


@dataclass(frozen=True, slots=True)
class _Round:
    digest: ViewDigest
    computed_ms: int
    pairs: frozenset[tuple[JobId, OfferId]]


class Rounds:
    """Computes rounds, claims what they give to us, remembers what they gave away of ours."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._matcher = Matcher()
        self._kept: OrderedDict[int, _Round] = OrderedDict()
        self.last: int = -1
        self.last_digest: ViewDigest | None = None
        self.last_matching: Matching | None = None
        self._last_cut_ms = -1

    @property
    def _rules(self) -> Rules:
        return self._ledger.rules

    @property
    def _governance(self) -> Governance:
        return self._ledger.view.state.governance

    def cut_ms(self, number: int) -> int:
        """The cut of a round, by the version that holds in it."""
        return self._governance.version_in(number).cut_ms(number)

    def number_at(self, now_ms: int) -> int:
        """The newest round whose time has come at `now_ms`."""
        cut_ms = now_ms - self._rules.settle_ms
        return self._governance.version_at(cut_ms).round_at(cut_ms)

    def due_ms(self) -> int:
        """When the next round is computed."""
        return self.cut_ms(self._next()) + self._rules.settle_ms

    def _next(self) -> int:
        """The next round at the earliest: none before the last, nor before where the view stands.

        After a start with a clock that was set back, the view is ahead of the clock's rounds.
        """
        stands_ms = max(self._ledger.view.cut_ms, self._last_cut_ms + 1)
        number = self._governance.version_at(stands_ms).round_at(stands_ms)
        return number if self.cut_ms(number) >= stands_ms else number + 1

    def run(self, turn: Turn, *, claim: bool) -> None:
        """Computes the newest round; claims what it gives us unless `claim` is False."""
        number = self.number_at(turn.now_ms)
        if number < self._next():
            return
        cut_ms = self.cut_ms(number)
        view = self._ledger.view
        for position, why in view.advance(cut_ms):
            turn.note(WARNING, "record-inert", f"record {position} counts for nothing: {why}")
        if view.resting:
            turn.note(WARNING, "round-skipped", "what counts of a fork changed again too soon")
            return
        self._ledger.forget()
        digest = self._ledger.digest(cut_ms)
        self._last_cut_ms = cut_ms
        matching = self._matcher.match(view.state.match_input(number, cut_ms))
        self.last, self.last_digest, self.last_matching = number, digest, matching
        me = self._ledger.me.name
        pairs = frozenset(
            (p.job_id, p.offer_id) for p in matching.placements if p.offer_id.centre == me
        )
        self._kept[number] = _Round(digest, turn.now_ms, pairs)
        while len(self._kept) > ROUNDS_KEPT:
            self._kept.popitem(last=False)
        if claim:
            for placement in matching.placements:
                if placement.job_id.centre == me:
                    self._claim(placement.job_id, placement.offer_id, digest, turn)

    def _claim(self, job_id: JobId, offer_id: OfferId, digest: ViewDigest, turn: Turn) -> None:
        live = self._ledger.live
        verdict = live.judge(live.jobs[job_id])
        offer = live.offers.get(offer_id)
        waits = verdict.state is JobState.QUEUED and not live.jobs[job_id].held
        if not waits or offer is None or offer.closed:
            return
        self._ledger.write(
            Claim(
                job_id=job_id,
                offer_id=offer_id,
                attempt=verdict.attempts + 1,
                round=self.last,
                rules_version=self._ledger.view.state.version.rules_version,
                view_digest=digest,
                claim_until_ms=claim_until(turn.now_ms, self._rules, may_ask=offer.terms.may_ask),
            ),
            turn.now_ms,
        )

    # As host

    def judge(self, claim: Claim) -> Match:
        """Whether our own round at the view that the claim cites gave this pair."""
        kept = self._kept.get(claim.round)
        if kept is None:
            return Match.NOT_YET if claim.round > self.last else Match.OTHER_VIEW
        if kept.digest != claim.view_digest:
            return Match.OTHER_VIEW
        pair = JobId(claim.job_id), OfferId(claim.offer_id)
        return Match.OURS if pair in kept.pairs else Match.NOT_OURS

    def wanted(self, offer_id: OfferId, now_ms: int) -> tuple[JobId, ...]:
        """Jobs that our newest rounds gave to the offer and that may still come, ascending.

        The priority of a match lasts `claim_wait_ms` from the moment we computed it.
        """
        jobs: set[JobId] = set()
        for kept in reversed(self._kept.values()):
            if now_ms - kept.computed_ms >= self._rules.claim_wait_ms:
                break
            jobs.update(job_id for job_id, offer in kept.pairs if offer == offer_id)
        return tuple(sorted(jobs))
