"""What one member, or the auditor, makes of a ledger in which feeds have branches.

While no feed is forked, what somebody saw of it is told by how far it saw (`knowledge`), and one
common state serves all. Once one is, it matters which branches somebody had, and what counts of
them follows from that (`p2pfed.core.branches`). So a member is then followed as its own daemon was:
a replica and a view, which learn what the member's acks name, with all that rests under it.

Following a member costs one pass over the ledger; it is done only for homes whose claims have to be
judged after a fork came to light, and for the auditor, who saw everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, Protocol

from p2pfed.core.blocks import Block
from p2pfed.core.branches import Prove, Verdict
from p2pfed.core.ids import FederationId, FeedKey, ViewDigest
from p2pfed.core.keys import VerifyKeys
from p2pfed.core.newcomers import Newcomers
from p2pfed.core.records import ForkProof
from p2pfed.core.replica import Replica, view_digest
from p2pfed.core.state import State
from p2pfed.core.units import HlcTime, hlc_cut
from p2pfed.core.view import View
from p2pfed.core.waiting import BlockRef, block_ref, block_refs
from p2pfed.errors import InputError

_END_OF_TIME_MS: Final = 1 << 48


class Shelf(Protocol):
    """Reads admitted blocks again, by their exact place."""

    def get(self, ref: BlockRef) -> Block | None:
        """The block, None if it was not admitted."""


class Onlooker:
    """A replica and a view of what somebody had.

    Args:
        federation, keys: as for `Replica`.
        shelf: reads blocks again.
        fresh: makes an empty state.
        prove: judges fork proofs.
    """

    def __init__(
        self,
        federation: FederationId,
        keys: VerifyKeys,
        shelf: Shelf,
        fresh: Callable[[], State],
        prove: Prove,
    ) -> None:
        self._replica = Replica(federation, keys, max_skew_ms=0)
        self._newcomers = Newcomers(fresh().governance, self._replica.keyring)
        self._shelf = shelf
        self._prove = prove
        self._refs: list[tuple[HlcTime, BlockRef]] = []
        self._convicted: dict[FeedKey, None] = {}
        self._view = View(fresh, self._history, prove)

    def _history(self, limit: HlcTime) -> Iterator[Block]:
        for time, ref in sorted(self._refs):
            block = self._shelf.get(ref) if time <= limit else None
            if block is not None:
                yield block

    @property
    def state(self) -> State:
        """The state at the last cut."""
        return self._view.state

    @property
    def verdict(self) -> Verdict:
        """What counts of forked feeds at the last cut."""
        return self._view.verdict

    def learn(self, refs: Iterable[BlockRef]) -> None:
        """Takes these blocks in, and all that rests under them, as far as they were admitted."""
        found: dict[BlockRef, HlcTime] = {}
        stack = list(refs)
        while stack:
            ref = stack.pop()
            block = None if ref in found or self._replica.holds(ref) else self._shelf.get(ref)
            if block is not None:
                found[ref] = block.time
                stack += block_refs(block)
        left = sorted(found, key=lambda ref: (found[ref], ref))
        before = -1
        while left and len(left) != before:
            before = len(left)
            for ref in left:
                block = self._shelf.get(ref)
                if block is not None and not self._replica.holds(ref):
                    self._take(block)
            # A block beside its feed is let in once one that names it waits, and so on down a
            # branch: what was kept out comes again from the top.
            left = [ref for ref in reversed(left) if not self._replica.holds(ref)]

    def _take(self, block: Block) -> None:
        for admitted in self._replica.admit(block, _END_OF_TIME_MS).admitted:
            self._newcomers.take(admitted)
            self._refs.append((admitted.time, block_ref(admitted)))
            self._view.add(admitted)
            for record in admitted.records:
                if isinstance(record, ForkProof):
                    with suppress(InputError):
                        self._convicted[self._prove(record)[0]] = None

    def advance(self, cut_ms: int) -> ViewDigest:
        """Brings the view to the cut; returns its digest."""
        self._view.watch([*self._replica.branched(), *self._convicted], {})
        self._view.advance(cut_ms)
        frontier = self._replica.cut_frontier(hlc_cut(cut_ms))
        return view_digest(frontier, self._view.verdict)
