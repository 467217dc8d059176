"""Nothing is held for longer than the times of design section 6 allow, and nobody spins or hoards.

Each honest centre that is whole, and whose clock is right, has to act on what is over within a
grace: release a claim that nobody answered, close an accept that nobody came for, declare a lease
lost, say that a native job ended, settle it.
"""

from __future__ import annotations

from typing import Final

from p2pfed.core.entries import ClaimEntry
from p2pfed.core.ids import CentreName, ClaimId
from p2pfed.core.lifecycle import ClaimState, HostPhase, begin_before
from p2pfed.core.limits import PENDING_BLOCKS_MAX
from p2pfed.core.rules import Rules
from p2pfed.node.node import Node
from p2pfed.simulate.scene import Centre, Scene

GRACE_MS: Final = 2_500
LOOK_EVERY_MS: Final = 700
WAKES_AT_ONCE_MAX: Final = 50


class Patience:
    """Looks at each node about once a second."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._whole_since_ms: dict[CentreName, int] = {}
        self._looked_ms: dict[CentreName, int] = {}
        self._wakes: dict[CentreName, tuple[int, int]] = {}

    def begin(self, centre: Centre) -> None:
        """A daemon starts, or goes on that had to wait: patience begins anew."""
        self._whole_since_ms.pop(centre.name, None)

    def asked_to_wake(self, centre: Centre, wake_ms: int) -> None:
        """A node that asks again and again for a time that has come would keep a daemon busy."""
        now_ms = self._scene.now_ms
        before_ms, count = self._wakes.get(centre.name, (-1, 0))
        count = count + 1 if wake_ms <= now_ms == before_ms else 0
        self._wakes[centre.name] = now_ms, count
        self._scene.hold(count < WAKES_AT_ONCE_MAX, f"{centre.name} asks to be woken at once, ever")

    def after_call(self, centre: Centre) -> None:
        """After a node has handled something."""
        node, world_ms = centre.node, self._scene.now_ms
        if node is None or not centre.honest:
            return
        now_ms = self._scene.clock(centre)
        if not node.recovery.ready or not node.trust.clock(now_ms) or node.trust.careful(now_ms):
            self._whole_since_ms.pop(centre.name, None)
            return
        since_ms = self._whole_since_ms.setdefault(centre.name, world_ms)
        if world_ms < max(since_ms + GRACE_MS, self._looked_ms.get(centre.name, 0) + LOOK_EVERY_MS):
            return
        self._looked_ms[centre.name] = world_ms
        self._bounded(node)
        for claim_id, entry in node.ledger.live.claims.items():
            if entry.claim is None:
                continue
            if claim_id.centre == centre.name and claim_id.epoch == node.me.epoch:
                self._home(node, entry, now_ms - GRACE_MS)
            if entry.claim.offer_id.centre == centre.name:
                self._host(centre, node, entry, now_ms - GRACE_MS)

    def _late(self, node: Node, claim_id: ClaimId, what: str) -> None:
        self._scene.hold(False, f"{node.me.name} holds claim {claim_id} for too long: {what}")

    def _home(self, node: Node, entry: ClaimEntry, now_ms: int) -> None:
        claim, rules = entry.claim, node.ledger.rules
        assert claim is not None
        if entry.state is ClaimState.CLAIMED and now_ms > claim.claim_until_ms:
            self._late(node, entry.claim_id, "nobody answered, and it is not released")
        longest_ms = claim.claim_until_ms + rules.accept_wait_ms
        accept_until_ms = min(entry.host_side.accept_until_ms, longest_ms)
        if entry.state is ClaimState.ACCEPTED and now_ms > accept_until_ms:
            self._late(node, entry.claim_id, "nobody came for it, and it is not released")
        leased = entry.state in (ClaimState.LEASED, ClaimState.STARTED)
        if leased and now_ms > entry.lease_until_ms:
            self._late(node, entry.claim_id, "its lease is over, and it is not lost")
        until_ms = (entry.host_side.ended >> 16) + _settling_ms(rules)
        if entry.state is ClaimState.ENDED and entry.settlement is None and now_ms > until_ms:
            self._late(node, entry.claim_id, "it ended, and is not settled")

    def _host(self, centre: Centre, node: Node, entry: ClaimEntry, now_ms: int) -> None:
        side, job = entry.host_side, node.ledger.live.job_of(entry.claim_id)
        if job is None:
            return
        if entry.state is ClaimState.ACCEPTED and now_ms > side.accept_until_ms:
            self._late(node, entry.claim_id, "nobody came with its lease, and it is not closed")
        begin_ms = begin_before(entry.lease_until_ms, job.job.walltime_s, node.ledger.rules)
        if entry.state is ClaimState.LEASED and now_ms > begin_ms:
            self._late(node, entry.claim_id, "it can't begin any more, and is not closed")
        native = centre.disk.natives.get(side.native_name)
        over = native is not None and native.ends_ms + GRACE_MS < self._scene.now_ms
        if side.phase is HostPhase.STARTED and over:
            self._late(node, entry.claim_id, "its native job is over, and it has no End")

    def _bounded(self, node: Node) -> None:
        waiting, _ = node.ledger.replica.waiting()
        self._scene.hold(waiting <= PENDING_BLOCKS_MAX, f"{node.me.name}: {waiting} blocks wait")
        links = len(node.gossip.peer_status())
        self._scene.hold(links <= len(self._scene.centres), f"{node.me.name}: {links} links")


def _settling_ms(rules: Rules) -> int:
    """How long a home may try to fetch a result before it settles without."""
    return rules.receipt_deadline_ms // 2
