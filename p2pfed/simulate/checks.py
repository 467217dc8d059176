"""What can never break, held against a simulated federation while it runs.

The numbers in `p2pfed.simulate.watch` are those of docs/explanation/invariants.md. A breach raises
`AssertionError` with the seed, so that the run can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from p2pfed.core.entries import OfferEntry
from p2pfed.core.ids import JobId
from p2pfed.core.lifecycle import ClaimState
from p2pfed.core.matching_fit import Amount, amount_of, capacity_of, covers
from p2pfed.core.records import (
    Accept,
    Checkpoint,
    Claim,
    Close,
    Contact,
    Done,
    End,
    Handover,
    Lost,
    Receipt,
    Release,
    Start,
    StateDigests,
)
from p2pfed.node.effects import Effect, Reply, StoreBlocks, StoredBlock, SubmitNative
from p2pfed.node.identity import Federation
from p2pfed.node.node import Node
from p2pfed.simulate.memo import Library
from p2pfed.simulate.scene import Centre, Scene
from p2pfed.simulate.watch.agreement import Agreement
from p2pfed.simulate.watch.patience import Patience
from p2pfed.simulate.watch.promises import Promises
from p2pfed.simulate.watch.truth import Truth
from p2pfed.simulate.watch.written import Written

_OWED_TO_NOBODY: Final = frozenset(
    {Contact, Accept, Claim, Close, Start, End, Receipt, Release, Done, Checkpoint, StateDigests}
)
"""Types of records that no user was told of, and that a centre may say in another way again."""


class Checks:
    """Everything that one world is watched for."""

    def __init__(self, scene: Scene, federation: Federation) -> None:
        self._scene = scene
        self._federation = federation
        self.library = Library()
        self._written = Written(scene, self.library)
        self._truth = Truth(scene)
        self._promises = Promises(scene, self.library)
        self._patience = Patience(scene)
        self.agreement = Agreement(scene, federation, self.library)

    @property
    def acknowledged(self) -> list[JobId]:
        """The jobs that users were told are posted."""
        return self._promises.acknowledged

    # While it runs

    def booted(self, centre: Centre) -> None:
        """A daemon has read its disk."""
        self._written.booted(centre)
        self._patience.begin(centre)

    def resumed(self, centre: Centre) -> None:
        """A daemon goes on that had to wait."""
        self._patience.begin(centre)

    def after_call(self, centre: Centre, effects: Sequence[Effect]) -> None:
        """A node has handled events; nothing of what it wants is done yet."""
        self.agreement.after_call(centre, effects)
        self._patience.after_call(centre)
        node = centre.node
        if node is None or not centre.honest:
            return
        for offer in node.ledger.live.offers.values():
            if offer.host == centre.name:
                self._not_over_allocated(node, offer)

    def before_effect(self, centre: Centre, effect: Effect) -> None:
        """A node wants this done now."""
        self._written.before_effect(centre, effect)

    def to_be_stored(self, centre: Centre, effect: StoreBlocks) -> None:
        """Blocks are about to go to a disk."""
        self._written.to_be_stored(centre, effect)
        for stored in effect.blocks:
            if centre.honest and stored.feed.centre == centre.name:
                self._own_block(centre, stored)

    def _own_block(self, centre: Centre, stored: StoredBlock) -> None:
        """What a centre says in a block that it stores: its own, or one that it takes back."""
        block = self.library.read(stored)
        if centre.node is None or not centre.node.recovery.ready:
            return
        for record in block.records:
            if isinstance(record, Accept):
                self.agreement.accepted(centre.node, record)
            if isinstance(record, Start | Handover | Lost):
                what = f"{centre.name} says {type(record).__name__} by a clock that was set"
                self._scene.hold(not self._knows_wrong(centre), what)

    def _knows_wrong(self, centre: Centre) -> bool:
        """Whether the clock was set wrong, and it can tell: all the others are right."""
        others = [other for other in self._scene.centres.values() if other is not centre]
        limit_ms = self._federation.rules.clock_error_ms // 2
        right = all(abs(self._scene.offset_ms(other)) < limit_ms for other in others)
        return centre.clock_told_wrong and right

    def bound_by(self, blocks: Iterable[StoredBlock]) -> bool:
        """Whether anything in these blocks was said to a user, or is a decision."""
        records = [type(r) for stored in blocks for r in self.library.read(stored).records]
        return not _OWED_TO_NOBODY.issuperset(records)

    def unsaid(self, blocks: Iterable[StoredBlock]) -> None:
        """These blocks are lost, and nobody else has them."""
        self._written.unsaid(blocks)

    def asked_to_wake(self, centre: Centre, wake_ms: int) -> None:
        """A node wants a tick at that time."""
        self._patience.asked_to_wake(centre, wake_ms)

    def submitted(self, centre: Centre, effect: SubmitNative) -> None:
        """A batch system has a job more."""
        self._truth.submitted(centre, effect)

    def asked(self, centre: Centre, request: int, what: str) -> None:
        """A user asks for something."""
        self._promises.asked(centre, request, what)

    def crashed(self, centre: Centre) -> None:
        """A daemon dies."""
        self._promises.crashed(centre)

    def told(self, centre: Centre, reply: Reply) -> None:
        """A user got an answer that is no error."""
        self._promises.told(centre, reply)

    def unanswered(self, what: str) -> int:
        """How many users got no answer."""
        return self._promises.unanswered(what)

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
        # An offer may shrink below what it holds already.
        total = capacity_of(offer.terms, max(offer.nodes, offer.terms.nodes))
        self._scene.hold(covers(total, taken), f"{offer.offer_id} holds {taken} of {total}")

    # At the end

    def at_the_end(self, members: Sequence[Centre] | None = None) -> None:
        """When the faults are over and everything is quiet.

        Args:
            members: the honest centres that are members now; by default all that run.
        """
        honest = [centre for centre in self._scene.honest() if centre.node is not None]
        members = honest if members is None else members
        self._truth.at_the_end()
        self._promises.at_the_end(members)
        self.agreement.at_the_end(members)
        if all(centre.honest for centre in self._scene.centres.values()):
            for centre in members:
                self._no_trouble(centre)

    def _no_trouble(self, centre: Centre) -> None:
        node = centre.node
        assert node is not None
        for job_id in self.acknowledged:
            self._scene.hold(node.ledger.live.passed(job_id), f"{centre.name} misses {job_id}")
        self._scene.hold(not node.ledger.replica.forked(), f"{centre.name} saw a fork")
        inert = node.ledger.view.state.inert_count
        self._scene.hold(
            inert == 0 or centre.kind is not Node,
            f"{centre.name}: {inert} records of honest centres are inert",
        )
