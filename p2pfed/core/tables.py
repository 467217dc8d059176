"""The tables that the registers keep, shared between two folds of the same blocks.

A node folds the same blocks twice: at once, and up to a round's cut. `share_with` gives both folds
a common start: they share every entry until one of them writes it, who leaves the other a copy. So
what is long over is held once. What is over can be forgotten by each fold on its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple, TypeVar

from p2pfed.core.entries import ClaimEntry, JobEntry, OfferEntry
from p2pfed.core.ids import CentreName, ClaimId, FeedKey, JobId, OfferId, Position

_Key = TypeVar("_Key", OfferId, JobId, ClaimId)
_Entry = TypeVar("_Entry", OfferEntry, JobEntry, ClaimEntry)


class Forgotten(NamedTuple):
    """A job that is closed, and its claims."""

    job: JobEntry
    claims: tuple[ClaimEntry, ...]


class Tables:
    """Offers, jobs and claims by id, and what little else centres say.

    Attributes:
        claims_by_offer: the claims on each offer that has any, in the order of folding.
        folded: the last block of each feed that was folded.
    """

    def __init__(self) -> None:
        self.offers: dict[OfferId, OfferEntry] = {}
        self.jobs: dict[JobId, JobEntry] = {}
        self.claims: dict[ClaimId, ClaimEntry] = {}
        self.claims_by_offer: dict[OfferId, dict[ClaimId, None]] = {}
        self.contacts: dict[CentreName, str] = {}
        self.folded: dict[FeedKey, int] = {}
        self._early: dict[ClaimId, None] = {}
        self._twin: Tables | None = None
        self._is_fork = False

    def restore(
        self,
        offers: Iterable[OfferEntry],
        jobs: Iterable[JobEntry],
        claims: Iterable[ClaimEntry],
    ) -> None:
        """Fills empty tables with entries, by id; which claims a job and an offer have follows."""
        self.offers.update((entry.offer_id, entry) for entry in offers)
        self.jobs.update((entry.job_id, entry) for entry in jobs)
        for entry in claims:
            self.claims[entry.claim_id] = entry
            if entry.claim is None:
                self._early[entry.claim_id] = None
                continue
            job = self.jobs[JobId(entry.claim.job_id)]
            job.claims = (*job.claims, entry.claim_id)
            offer_id = OfferId(entry.claim.offer_id)
            self.claims_by_offer.setdefault(offer_id, {})[entry.claim_id] = None

    # Sharing

    def share_with(self, fork: Tables) -> None:
        """Fills empty tables with the same contents; may be called once."""
        assert self._twin is None, "tables are shared once"
        fork.offers.update(self.offers)
        fork.jobs.update(self.jobs)
        fork.claims.update(self.claims)
        fork.claims_by_offer = {offer: dict(held) for offer, held in self.claims_by_offer.items()}
        fork.contacts = dict(self.contacts)
        fork.folded, fork._early = dict(self.folded), dict(self._early)
        entries: list[Iterable[OfferEntry | JobEntry | ClaimEntry]]
        entries = [self.offers.values(), self.jobs.values(), self.claims.values()]
        for entry in chain.from_iterable(entries):
            entry.shared = True
        fork._twin, fork._is_fork, self._twin = self, True, fork

    def leave(self) -> None:
        """Ends the sharing: the other fold goes on alone, this one is given up."""
        if self._twin is not None:
            twin, self._twin = self._twin, None
            twin.leave()

    def _part(
        self, own: dict[_Key, _Entry], others: dict[_Key, _Entry], key: _Key, entry: _Entry
    ) -> _Entry:
        """Ends the sharing of an entry that is about to be written; returns which one to write.

        The original stays with the fork, whose reader may hold on to it while it writes.
        """
        copy = entry.copy()
        entry.shared = False
        if self._is_fork:
            others[key] = copy
            return entry
        own[key] = copy
        return copy

    def _offer(self, offer_id: OfferId) -> OfferEntry | None:
        """The entry, ours to write."""
        entry = self.offers.get(offer_id)
        if entry is not None and entry.shared and self._twin is not None:
            return self._part(self.offers, self._twin.offers, offer_id, entry)
        return entry

    def _job(self, job_id: JobId) -> JobEntry | None:
        """The entry, ours to write."""
        entry = self.jobs.get(job_id)
        if entry is not None and entry.shared and self._twin is not None:
            return self._part(self.jobs, self._twin.jobs, job_id, entry)
        return entry

    def _claim(self, claim_id: ClaimId) -> ClaimEntry | None:
        """The entry, ours to write."""
        entry = self.claims.get(claim_id)
        if entry is not None and entry.shared and self._twin is not None:
            return self._part(self.claims, self._twin.claims, claim_id, entry)
        return entry

    # How far

    def note_folded(self, feed: FeedKey, seq_num: int) -> None:
        """Notes how far a feed is folded; what was said early of no claim of it counts no more."""
        self.folded[feed] = max(seq_num, self.folded.get(feed, 0))
        for claim_id in [c for c in self._early if self.passed(c)]:
            del self._early[claim_id]
            if self.claims[claim_id].claim is None:
                self.claims.pop(claim_id).shared = False

    def passed(self, position: Position) -> bool:
        """Whether the block that a record at this position stands in is folded."""
        return position.seq_num <= self.folded.get(FeedKey(position.centre, position.epoch), -1)

    # Forgetting

    def forget_job(self, job_id: JobId) -> Forgotten | None:
        """Removes a job that is done and its claims, none of which can change any more."""
        job = self.jobs.pop(job_id, None)
        if job is None:
            return None
        job.shared = False
        claims = []
        for claim_id in job.claims:
            entry = self.claims.pop(claim_id)
            entry.shared = False
            claims.append(entry)
            if entry.claim is not None:
                offer_id = OfferId(entry.claim.offer_id)
                held = self.claims_by_offer[offer_id]
                del held[claim_id]
                if not held:
                    del self.claims_by_offer[offer_id]
        return Forgotten(job, tuple(claims))

    def recall_job(self, past: Forgotten) -> None:
        """Puts a job that was forgotten back where people look for it."""
        self.jobs[past.job.job_id] = past.job
        for entry in past.claims:
            self.claims[entry.claim_id] = entry
            if entry.claim is not None:
                offer_id = OfferId(entry.claim.offer_id)
                self.claims_by_offer.setdefault(offer_id, {})[entry.claim_id] = None

    def forget_offer(self, offer_id: OfferId) -> None:
        """Removes an offer that was closed long ago."""
        entry = self.offers.pop(offer_id, None)
        if entry is not None:
            entry.shared = False  # it is the other fold's alone now
