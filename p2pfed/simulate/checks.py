"""What can never break, checked while a simulated federation runs.

The numbers are those of docs/explanation/invariants.md. A breach raises `AssertionError` with the
seed, so that the run can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from p2pfed.core.accounting import balance
from p2pfed.core.entries import OfferEntry
from p2pfed.core.ids import CentreName, JobId
from p2pfed.core.lifecycle import ClaimState
from p2pfed.core.matching_fit import Amount, amount_of, capacity_of, covers
from p2pfed.node.identity import Federation
from p2pfed.node.node import Node
from p2pfed.simulate.scene import Centre, Scene

if TYPE_CHECKING:
    from p2pfed.core.ids import ViewDigest


class Checks:
    """The invariants of one world."""

    def __init__(self, scene: Scene, federation: Federation) -> None:
        self._scene = scene
        self._federation = federation
        self.acknowledged: list[JobId] = []
        self._matchings: dict[tuple[int, ViewDigest], object] = {}

    def _hold(self, condition: bool, what: str) -> None:
        if not condition:
            raise AssertionError(f"seed {self._scene.seed} at {self._scene.now_ms}: {what}")

    # While it runs

    def after_call(self, centre: Centre) -> None:
        """After a node has handled events: what it decided, against what all decided."""
        node = centre.node
        if node is None:
            return
        self._same_view_same_matching(node)
        for offer in node.ledger.live.offers.values():
            if offer.host == centre.name:
                self._not_over_allocated(node, offer)

    def _same_view_same_matching(self, node: Node) -> None:
        """Invariant 4."""
        digest, matching = node.rounds.last_digest, node.rounds.last_matching
        if digest is None or matching is None:
            return
        result = matching.placements, matching.reservations
        first = self._matchings.setdefault((node.rounds.last, digest), result)
        self._hold(first == result, f"{node.me.name} matched another way at an equal view")

    def _not_over_allocated(self, node: Node, offer: OfferEntry) -> None:
        """Invariant 1: what the host accepted, by its own word, fits what it offers."""
        live = node.ledger.live
        taken = Amount(0, 0, 0, 0)
        for claim_id in live.claims_by_offer.get(offer.offer_id, ()):
            entry, job = live.claims[claim_id], live.job_of(claim_id)
            held = entry.state in (ClaimState.ACCEPTED, ClaimState.LEASED, ClaimState.STARTED)
            if held and entry.host_side.accepted_ms and job is not None:
                amount = amount_of(job.job)
                taken = Amount(*(t + a for t, a in zip(taken, amount, strict=True)))
        total = capacity_of(offer.terms, offer.nodes)
        self._hold(covers(total, taken), f"{offer.offer_id} holds {taken} of {total}")

    # At the end

    def at_the_end(self) -> None:
        """When the faults are over and everything is quiet."""
        self._one_lease_at_a_time()
        nodes = [c.node for c in self._scene.centres.values() if c.node is not None]
        for node in nodes:
            self._nothing_lost(node)
            self._hold(not node.ledger.replica.forked(), f"{node.me.name} saw a fork")
            self._hold(node.ledger.view.state.inert_count == 0, "an honest record was inert")
        self._same_balances(nodes)

    def _one_lease_at_a_time(self) -> None:
        """Invariant 2: no native job of a job begins before the one before it is surely over."""
        for job_id, runs in sorted(self._scene.runs.items()):
            claims = [run.claim_id for run in runs]
            self._hold(len(set(claims)) == len(claims), f"{job_id} ran twice for one claim")
            ordered = sorted(runs, key=lambda run: (run.native.begins_ms, run.claim_id))
            for before, after in pairwise(ordered):
                over = before.native.ends_ms <= after.native.begins_ms
                self._hold(over, f"{job_id} ran at {before.host} and {after.host} at a time")

    def _nothing_lost(self, node: Node) -> None:
        """Invariant 3: every job that a user was told of is, or was, known everywhere."""
        for job_id in self.acknowledged:
            self._hold(node.ledger.live.passed(job_id), f"{node.me.name} does not know {job_id}")

    def _same_balances(self, nodes: Iterable[Node]) -> None:
        """Invariants 5 and 7: nodes at one view agree on every balance."""
        seen: dict[ViewDigest, dict[CentreName, int]] = {}
        for node in nodes:
            digest, cut_ms = node.rounds.last_digest, node.ledger.view.cut_ms
            if digest is None:
                continue
            state = node.ledger.view.state
            found = {c: balance(state.standing(c, cut_ms)) for c in self._federation.credit_lines}
            self._hold(seen.setdefault(digest, found) == found, "balances differ at an equal view")
