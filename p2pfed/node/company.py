"""Whom we talk to: the members, and those who were members while something between us is open.

Members come and go by versions, so this follows from the live registers. A newcomer is company as
soon as its admission is adopted, before it takes effect, so that it can take the ledger in. Whoever
left or was removed stays company until every claim of its jobs and on its offers is settled: its
leases run on, and their ends must reach us.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pfed.core.entries import ClaimEntry
from p2pfed.core.ids import CentreName
from p2pfed.core.lifecycle import ClaimState
from p2pfed.core.units import HLC_MAX, HlcTime
from p2pfed.node.ledger import Ledger


class Company:
    """The other centres that we keep links to, and where they listen.

    Attributes:
        addresses: by centre; our own is not among them.
        former: centres whose feeds belong to the ledger, but who are no company any more.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        me, given = ledger.me.name, ledger.federation.addresses
        self.addresses: dict[CentreName, str] = {c: a for c, a in given.items() if c != me}
        self.former: frozenset[CentreName] = frozenset()

    def members(self) -> set[CentreName]:
        """The members by all that is known here, versions that have not begun included."""
        governance = self._ledger.live.governance
        return set(governance.present(governance.versions()[-1], HlcTime(HLC_MAX)))

    def update(self) -> bool:
        """Looks again; True if there is other company now, or under other addresses."""
        live = self._ledger.live
        version = live.governance.versions()[-1]
        members = self.members()
        # Whoever is removed must hear of it before it is shut out.
        kept = members | set(self._ledger.view.state.members)
        gone = version.known.keys() - kept
        if gone:
            kept |= gone & self._bound(live.claims.values())
        kept.discard(self._ledger.me.name)
        found = {c: self._address(c, version.known[c].address) for c in sorted(kept)}
        former = frozenset(gone - kept)
        changed = (found, former) != (self.addresses, self.former)
        self.addresses, self.former = found, former
        return changed

    def _address(self, centre: CentreName, on_card: str) -> str:
        """What our administrator says, else what the centre says, else what we were founded on."""
        federation = self._ledger.federation
        given = federation.addresses.get(centre)
        if given is not None and centre in federation.pinned:
            return given
        return self._ledger.live.contacts.get(centre) or given or on_card

    def _bound(self, claims: Iterable[ClaimEntry]) -> set[CentreName]:
        """Homes and hosts of what is not settled yet."""
        found = set()
        for entry in claims:
            if entry.claim is not None and is_open(entry):
                found |= {entry.home, entry.claim.offer_id.centre}
        return found


def is_open(entry: ClaimEntry) -> bool:
    """Whether something may still have to be said of a claim."""
    return not entry.over or (entry.state is ClaimState.ENDED and entry.settlement is None)
