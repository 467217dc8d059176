"""By which keys the transport knows the centres that we talk to.

A key counts at once when the block that states it is here, not only from the round that a decision
takes effect in: a newcomer has to fetch the ledger first, and whoever changed its key is to be
recognised by the new one. Open connections stay. Former members are recognised, too, so that one
that was away when it was removed is told so instead of knocking at a closed door for ever.
"""

from __future__ import annotations

from p2pfed.core.ids import CentreName, PublicKey
from p2pfed.core.units import HLC_MAX, HlcTime
from p2pfed.node.company import Company
from p2pfed.node.effects import TrustKeys
from p2pfed.node.ledger import Ledger
from p2pfed.node.turn import Turn


class TrustedKeys:
    """Tells the transport whenever our company, or the key of one of it, is another than before."""

    def __init__(self, ledger: Ledger, company: Company) -> None:
        self._ledger = ledger
        self._company = company
        self._seen: object = None
        self._told: tuple[tuple[CentreName, PublicKey], ...] | None = None

    def follow(self, turn: Turn) -> None:
        """Looks whether there is anything to tell."""
        if not self._ledger.keys_changed and self._seen is self._company.addresses:
            return
        self._ledger.keys_changed, self._seen = False, self._company.addresses
        names = sorted(self._company.addresses.keys() | self._company.former)
        keys = tuple((name, self._key(name)) for name in names)
        if keys != self._told:
            self._told = keys
            turn.do(TrustKeys(keys=keys))

    def _key(self, name: CentreName) -> PublicKey:
        """The key that the centre's next block is signed with."""
        governance = self._ledger.live.governance
        newest = governance.versions()[-1]
        known = newest.known[name]
        member = governance.present(newest, HlcTime(HLC_MAX)).get(name, known)
        return self._ledger.replica.keyring.newest(member.feed) or member.public_key
