"""What nodes compute, against each other and against a plain second opinion.

Invariants 4, 5 and 7: whoever stands at one view has one matching and one state; the balances of
the state are those that the blocks give when they are counted plainly (`naive`); what a round
places is allowed by what its host offers and by who was heard; and a node that takes all blocks in
another order, some of them twice, comes to the same state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from random import Random
from typing import Final

from p2pfed.core.ids import BlockId, CentreName, ClaimId, FeedKey, ViewDigest
from p2pfed.core.matching import Placement, Reservation
from p2pfed.core.records import Accept
from p2pfed.core.statecodec import dump_state, state_hash
from p2pfed.core.units import DAY_MS, HlcTime, hlc_cut, hlc_ms
from p2pfed.errors import InputError
from p2pfed.node.effects import Effect, StoreBlocks, StoredBlock
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.ledger import Ledger
from p2pfed.node.node import Node
from p2pfed.simulate.disk import Disk
from p2pfed.simulate.memo import Library
from p2pfed.simulate.scene import Centre, Scene
from p2pfed.simulate.watch.naive import Books

BALANCES_EVERY_MS: Final = 9_000
DAYS_LATER: Final = (0, 1, 6)
"""Balances are compared today and so many days later: what decays would else not show."""


_Result = tuple[tuple[Placement, ...], tuple[Reservation, ...]]


class Agreement:
    """Compares the nodes of a world."""

    def __init__(self, scene: Scene, federation: Federation, library: Library) -> None:
        self._scene = scene
        self._federation = federation
        self._library = library
        self._matchings: dict[tuple[int, ViewDigest], _Result] = {}
        self._round: dict[CentreName, int] = {}
        self._balanced_ms: dict[CentreName, int] = {}

    def after_call(self, centre: Centre, effects: Iterable[Effect]) -> None:
        """After a node has handled something: if it came to a new round, looks at that."""
        node = centre.node
        if node is None or not centre.honest or node.rounds.last == self._round.get(centre.name):
            return
        self._round[centre.name] = node.rounds.last
        digest, matching = node.rounds.last_digest, node.rounds.last_matching
        if digest is None or matching is None:
            return
        result = matching.placements, matching.reservations
        first = self._matchings.setdefault((node.rounds.last, digest), result)
        self._scene.hold(first == result, f"{node.me.name} matched another way at an equal view")
        if matching.placements:
            heard = self._heard(node)
            for placement in matching.placements:
                self._allowed(node, placement, heard)
        if self._scene.now_ms >= self._balanced_ms.get(centre.name, 0) + BALANCES_EVERY_MS:
            self._balanced_ms[centre.name] = self._scene.now_ms
            new = [
                b for effect in effects if isinstance(effect, StoreBlocks) for b in effect.blocks
            ]
            self._balances(centre, node, new)

    def accepted(self, node: Node, accept: Accept) -> None:
        """A host takes a claim: if it cites a view that somebody had, that gave the pair."""
        entry = node.ledger.live.claims[ClaimId(accept.claim_id)]
        claim = entry.claim
        assert claim is not None
        result = self._matchings.get((claim.round, ViewDigest(claim.view_digest)))
        if result is not None:
            pairs = {(p.job_id, p.offer_id) for p in result[0]}
            won = (claim.job_id, claim.offer_id) in pairs
            what = f"{node.me.name} accepts claim {accept.claim_id}, which its view did not give"
            self._scene.hold(won, what)

    # A round

    def _heard(self, node: Node) -> dict[CentreName, int]:
        """When each centre was last heard at the cut, by the times of its blocks."""
        frontier = node.ledger.replica.cut_frontier(_cut(node))
        heard: dict[CentreName, int] = defaultdict(int)
        for feed, head in frontier.items():
            time = node.ledger.replica.time_of(feed, head.seq_num)
            heard[feed.centre] = max(heard[feed.centre], hlc_ms(time) if time else 0)
        return heard

    def _allowed(self, node: Node, placement: Placement, heard: dict[CentreName, int]) -> None:
        """A placement needs a home and a host that live, and an offer that may take the job."""
        hold, cut_ms = self._scene.hold, node.ledger.view.cut_ms
        job_id, offer_id = placement.job_id, placement.offer_id
        what = f"{node.me.name} gives {job_id} to {offer_id}"
        for name in (job_id.centre, offer_id.centre):
            silent_ms = cut_ms - heard[name]
            lives = silent_ms < node.ledger.rules.offer_lease_ms
            hold(lives, f"{what} although {name} was not heard for {silent_ms} ms")
        registers = node.ledger.view.state.registers
        offer, entry = registers.offers[offer_id], registers.jobs[job_id]
        job = entry.job
        hold(not offer.closed and job_id.centre != offer_id.centre, f"{what}, which is not open")
        hold(not entry.cancelled and not entry.held, f"{what} although it is not to run")
        hold(job.walltime_s <= offer.walltime_max_s, f"{what}, which is too short for it")
        fits = job.nodes <= offer.nodes and job.cores_per_node <= offer.terms.cores_per_node
        hold(fits, f"{what}, which is too small for it")

    def _plain(self, node: Node) -> bool:
        """Whether all blocks are here, of one set of rules and members, no branches or epochs."""
        state = node.ledger.view.state
        one = len(state.governance.versions()) == 1 and not node.ledger.replica.forked()
        one = one and node.past.complete
        return one and all(feed.epoch == 0 for feed in node.ledger.replica.frontier())

    def _balances(self, centre: Centre, node: Node, new: Iterable[StoredBlock] = ()) -> None:
        """Invariant 7: the state's sums are those of the blocks up to its cut, `new` ones too."""
        state, cut = node.ledger.view.state, _cut(node)
        honest = all(other.honest for other in self._scene.centres.values())
        if not honest or not self._plain(node):
            return
        # What came after the round, in the same call, is not in its view yet.
        folded = state.registers.folded
        stored = [
            b
            for b in (*centre.disk.everything(), *new)
            if b.time <= cut and b.seq_num <= folded.get(b.feed, -1)
        ]
        books = Books(map(self._library.read, stored), state.rules)
        for name, line in self._federation.credit_lines.items():
            for later in DAYS_LATER:
                today = _day(node) + later
                found = state.accounts.standing(name, today, state.committed(name))
                told = books.sums(name, node.ledger.view.cut_ms, line, later=later)
                what = f"{centre.name} counts {tuple(found)} for {name}, {later} days on"
                self._scene.hold(tuple(found) == told, f"{what}; the blocks say {tuple(told)}")

    # At the end

    def at_the_end(self, members: Iterable[Centre]) -> None:
        """When all is quiet, at these honest centres."""
        states: dict[ViewDigest, bytes] = {}
        for centre in members:
            node = centre.node
            if node is None or node.rounds.last_digest is None:
                continue
            self._balances(centre, node)
            self._proven(centre, node)
            found = state_hash(dump_state(node.ledger.view.state))
            first = states.setdefault(node.rounds.last_digest, found)
            self._scene.hold(first == found, f"{centre.name}: another state at an equal view")

    def _proven(self, centre: Centre, node: Node) -> None:
        """Once anybody has two blocks of one place, everybody knows that their author forked."""
        at: dict[tuple[FeedKey, int], set[BlockId]] = defaultdict(set)
        for other in self._scene.honest():
            for stored in other.disk.everything():
                at[stored.feed, stored.seq_num].add(stored.block_id)
        forked = {feed for (feed, _), ids in at.items() if len(ids) > 1}
        for other in self._scene.honest():
            forked |= set() if other.node is None else other.node.ledger.proofs.keys()
        for feed in sorted(forked):
            convicted = feed in node.ledger.live.convicted
            self._scene.hold(convicted, f"{centre.name} has no proof that {feed.centre} forked")

    def merged(self, centre: Centre) -> None:
        """Invariant 5: the same blocks in any order, some of them twice, give the same state."""
        node = centre.node
        if node is None or node.ledger.replica.forked():
            return
        rng = Random(self._scene.seed)
        me = Identity(
            name=CentreName("onlooker"), signer=node.me.signer, kid=node.me.kid, address=""
        )
        fresh = Ledger(me, self._federation, Disk())
        blocks = [b.data for b in centre.disk.everything()]
        blocks += rng.sample(blocks, len(blocks) // 10)
        rng.shuffle(blocks)
        far_ms = self._scene.now_ms + 10**9
        for data in blocks:
            try:
                fresh.receive(data, far_ms)
            except InputError as error:
                self._scene.hold(False, f"{centre.name}'s own block is refused: {error}")
        missing = node.ledger.replica.frontier() != fresh.replica.frontier()
        self._scene.hold(not missing, f"{centre.name}'s blocks in another order are not the same")
        fresh.view.advance(node.ledger.view.cut_ms)
        found = state_hash(dump_state(fresh.view.state))
        held = state_hash(dump_state(node.ledger.view.state))
        self._scene.hold(found == held, f"{centre.name}'s blocks in another order: another state")


def _cut(node: Node) -> HlcTime:
    return hlc_cut(node.ledger.view.cut_ms)


def _day(node: Node) -> int:
    return node.ledger.view.cut_ms // DAY_MS
