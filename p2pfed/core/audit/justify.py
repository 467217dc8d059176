"""Is every claim a match? The matching is computed again at the view that each claim cites.

A claim cites a round and a view digest. What its home can have known stands in the acks of its feed
up to the claim's block; cut at the round, that is the view that it must cite. Three things can be
wrong, each named with what the matching gives the job at the view that the home had:

- the view is not the home's: the digest is of something that it did not see, or no longer (it had
  acked more when it claimed), or the round was over long ago, or had not come;
- the view is right, and the matching at it does not give this pair;
- the claim names another version of the rules than that in force.

Rounds are judged once nothing can cite them rightly any more: `stale_ms` after their cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from p2pfed.core.audit.findings import Finding, Findings, Severity
from p2pfed.core.audit.knowledge import Knowledge, Known, frontier_of
from p2pfed.core.audit.onlooker import Onlooker
from p2pfed.core.audit.views import Views
from p2pfed.core.blocks import Block
from p2pfed.core.governance import Governance
from p2pfed.core.ids import CentreName, FeedKey, Frontier, JobId, OfferId, Position, ViewDigest
from p2pfed.core.matching import Matching, match
from p2pfed.core.matching_explain import explain
from p2pfed.core.records import Claim
from p2pfed.core.replica import Replica, view_digest
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.units import hlc_cut, hlc_ms
from p2pfed.core.waiting import BlockRef, block_ref

CODES_SHOWN: Final = 3
"""Reasons that are told why nothing fitted a job."""


class Citation(NamedTuple):
    """A claim, and what its home knew when it wrote it, and before."""

    block: BlockRef
    position: Position
    claim: Claim
    time_ms: int
    known: Known
    earlier: tuple[Known, ...]

    @property
    def home(self) -> FeedKey:
        """The feed that it stands in."""
        return FeedKey(self.position.centre, self.position.epoch)


@dataclass(slots=True)
class ClaimTally:
    """How many claims of a home were justified, and how many not, by reason."""

    justified: int = 0
    unjustified: int = 0
    stale_view: int = 0
    false_view: int = 0


class _Matched(NamedTuple):
    """The matching at one view, by job, and what it was computed from."""

    state: State
    round: int
    cut_ms: int
    matching: Matching
    offers: dict[JobId, OfferId]


def stale_after_ms(rules: Rules) -> int:
    """How long after its cut a round can still be cited: a newer one is surely due by then."""
    return rules.settle_ms + 2 * rules.round_ms + rules.clock_error_ms


class Justifier:
    """Collects claims, and judges them round by round.

    Args:
        replica: all admitted blocks, of later times too.
        findings: where to name what is not justified.
        governance: the decisions that the common state has folded: they say when rounds are.
        forked: whether a fork has come to light.
        onlooker: follows a home exactly, once one has.
    """

    def __init__(
        self,
        replica: Replica,
        findings: Findings,
        governance: Callable[[], Governance],
        forked: Callable[[], bool],
        onlooker: Callable[[], Onlooker],
    ) -> None:
        self._replica = replica
        self._findings = findings
        self._governance = governance
        self._forked = forked
        self._onlooker = onlooker
        self._onlookers: dict[FeedKey, Onlooker] = {}
        self._by_round: dict[int, list[Citation]] = {}
        self.tallies: dict[CentreName, ClaimTally] = {}

    def collect(self, block: Block, knowledge: Knowledge) -> None:
        """Takes the claims of a block, whose acks `knowledge` holds already."""
        claims = [(n, r) for n, r in enumerate(block.records) if type(r) is Claim]
        if not claims:
            return
        known, earlier = knowledge.at(block.feed), tuple(knowledge.earlier(block.feed))
        time_ms = hlc_ms(block.time)
        for index, claim in claims:
            citation = Citation(
                block_ref(block), block.position(index), claim, time_ms, known, earlier
            )
            self._by_round.setdefault(self._judged_round(claim, time_ms), []).append(citation)

    def _judged_round(self, claim: Claim, time_ms: int) -> int:
        """The round that the claim cites, or the newest at its time if it can't cite that."""
        version = self._governance().version_at(time_ms)
        if time_ms - stale_after_ms(version.rules) <= self._cut_ms(claim.round) <= time_ms:
            return claim.round
        return version.round_at(time_ms - version.rules.settle_ms)

    def next_round(self) -> tuple[int, int] | None:
        """The cut and number of the first round that claims wait to be judged at."""
        number = min(self._by_round, default=None)
        return None if number is None else (self._cut_ms(number), number)

    def _cut_ms(self, number: int) -> int:
        return self._governance().version_in(number).cut_ms(number)

    def judge(
        self,
        number: int,
        views: Views,
        common: State,
        folded: Known,
        advance: Callable[[int], None],
    ) -> None:
        """Judges the claims of a round.

        Args:
            number: the round.
            views: states of homes that saw less.
            common: the common state, not yet beyond the round's cut.
            folded: what the common state holds.
            advance: brings it to the cut.
        """
        citations = self._by_round.pop(number, [])
        cut_ms = self._cut_ms(number)
        everything = self._replica.cut_frontier(hlc_cut(cut_ms))
        by_home: dict[FeedKey, list[Citation]] = {}
        for citation in citations:
            by_home.setdefault(citation.home, []).append(citation)
        if self._forked():
            advance(cut_ms)
            for home, cited in sorted(by_home.items()):
                self._judge_apart(home, cited, number, cut_ms)
            return
        alike: list[tuple[list[Citation], Frontier]] = []
        for home, cited in sorted(by_home.items()):
            # All claims of a home in a round are judged by what it knew at the first of them.
            frontier = frontier_of(self._replica, cited[0].known, everything)
            if frontier == everything:
                views.rejoin(home)
                alike.append((cited, frontier))
                continue
            state = views.state_at(home, frontier, cut_ms, common, folded)
            found = _matched(state, number, cut_ms)
            self._judge_home(cited, view_digest(frontier), found)
        advance(cut_ms)
        if alike:
            found = _matched(common, number, cut_ms)
            for cited, frontier in alike:
                self._judge_home(cited, view_digest(frontier), found)

    def _judge_apart(self, home: FeedKey, cited: list[Citation], number: int, cut_ms: int) -> None:
        """Judges a home's claims by what exactly it had, branches included."""
        follower = self._onlookers.get(home)
        if follower is None:
            follower = self._onlookers[home] = self._onlooker()
        follower.learn([cited[0].block])
        digest = follower.advance(cut_ms)
        self._judge_home(cited, digest, _matched(follower.state, number, cut_ms))

    def _judge_home(self, cited: Iterable[Citation], digest: ViewDigest, found: _Matched) -> None:
        for citation in cited:
            tally = self.tallies.setdefault(citation.position.centre, ClaimTally())
            claim = citation.claim
            if claim.round != found.round:
                self._name_round(citation, found, tally)
            elif claim.rules_version != found.state.version.rules_version:
                tally.unjustified += 1
                inforce = found.state.version.rules_version
                text = f"it cites rules version {claim.rules_version}, {inforce} is in force"
                self._name("claim-rules-version", citation, found, text)
            elif claim.view_digest != digest:
                self._name_view(citation, found, tally)
            elif found.offers.get(JobId(claim.job_id)) != claim.offer_id:
                tally.unjustified += 1
                text = f"the matching of round {claim.round} at its view does not give this pair"
                self._name("claim-unjustified", citation, found, text)
            else:
                tally.justified += 1

    def _name_round(self, citation: Citation, found: _Matched, tally: ClaimTally) -> None:
        claim = citation.claim
        if self._cut_ms(claim.round) > citation.time_ms:
            tally.false_view += 1
            text = f"it cites round {claim.round}, whose cut lies after the claim"
            self._name("claim-round-ahead", citation, found, text)
            return
        tally.stale_view += 1
        text = f"it cites round {claim.round}, when round {found.round} was due"
        self._name("claim-view-stale", citation, found, text)

    def _name_view(self, citation: Citation, found: _Matched, tally: ClaimTally) -> None:
        everything = self._replica.cut_frontier(hlc_cut(found.cut_ms))
        for known in citation.earlier:
            view = frontier_of(self._replica, known, everything)
            if view_digest(view) == citation.claim.view_digest:
                tally.stale_view += 1
                text = "it cites a view that its home knew before it had acked more"
                self._name("claim-view-stale", citation, found, text)
                return
        tally.false_view += 1
        text = "the view digest that it cites is not of what its home had acked"
        self._name("claim-view-false", citation, found, text)

    def _name(self, code: str, citation: Citation, found: _Matched, text: str) -> None:
        claim = citation.claim
        due = _due(JobId(claim.job_id), OfferId(claim.offer_id), found)
        self._findings.add(
            Finding(
                Severity.WARNING,
                code,
                str(citation.position),
                f"{text}; {due}",
                citation.position.centre,
                JobId(claim.job_id),
                citation.time_ms,
            )
        )


def _matched(state: State, number: int, cut_ms: int) -> _Matched:
    matching = match(state.match_input(number, cut_ms))
    offers = {p.job_id: p.offer_id for p in matching.placements}
    return _Matched(state, number, cut_ms, matching, offers)


def _due(job_id: JobId, offer_id: OfferId, found: _Matched) -> str:
    """What the matching gave the job."""
    given = found.offers.get(job_id)
    if given == offer_id:
        return f"round {found.round} gives {job_id} the same offer {offer_id}"
    if given is not None:
        return f"round {found.round} gives {job_id} the offer {given}, not {offer_id}"
    told = explain(found.state.match_input(found.round, found.cut_ms), found.matching, job_id)
    if told is None:
        return f"{job_id} does not wait in round {found.round}"
    codes = {verdict.offer_id: verdict.codes for verdict in told.offers}.get(offer_id, ())
    why = ", ".join((*told.codes, *codes)[:CODES_SHOWN]) or "others came first"
    return f"round {found.round} gives {job_id} nothing ({offer_id}: {why})"
