"""What this centre's own people ordered, and who ordered it: it holds whatever peers say or lack.

Theory of operation. An order is one word about everything (`Mode`), about one peer (a block) or
about one claim (an approval). Orders are local rows, stored in one transaction with the records
that follow from them, so they survive a restart and never wait for a peer. Each decision, a
person's or the policy's, is written down in a row of its own, with who and why.

The effect of an order is a record like any other. While no guests are wanted, own offers are made
empty (paused: they come back in their size) or closed (drained, withdrawn); `Host` closes and ends
claims as the mode says. Orders are taken before the node may write, too: what follows from them is
then written as soon as it may.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from p2pfed.core.entries import OfferEntry
from p2pfed.core.ids import CentreName, ClaimId, OfferId, parse_position
from p2pfed.core.records import OfferClose, OfferUpdate
from p2pfed.node.admission import Mode
from p2pfed.node.effects import INFO
from p2pfed.node.ledger import Ledger
from p2pfed.node.turn import Turn

ROW: Final = "node/control"
"""The local row that holds the orders in force."""
DECISIONS: Final = "decision/"
"""Prefix of the rows that hold decisions, by time; nothing reads them back but people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Who said so, why, and since when by our clock."""

    who: str = ""
    reason: str = ""
    at_ms: int = 0


class Control:
    """The orders in force."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.mode = Mode.OPEN
        self.order = Order()
        self.blocked: dict[CentreName, Order] = {}
        self.approved: dict[ClaimId, Order] = {}
        self._sizes: dict[OfferId, int] = {}
        self._count = 0

    @property
    def open(self) -> bool:
        """True if guests are wanted."""
        return self.mode is Mode.OPEN

    # Rows

    def restore(self, rows: Mapping[str, bytes]) -> None:
        """Takes up the orders that a former run left in its rows."""
        if not rows.get(ROW):
            return
        kept = json.loads(rows[ROW])
        self.mode = Mode(kept["mode"])
        self.order = Order(**kept["order"])
        self.blocked = {CentreName(c): Order(**order) for c, order in kept["blocked"].items()}
        self.approved = {
            ClaimId(parse_position(claim)): Order(**order)
            for claim, order in kept["approved"].items()
        }
        self._sizes = {
            OfferId(parse_position(offer)): nodes for offer, nodes in kept["sizes"].items()
        }

    def _keep(self) -> None:
        row = {
            "mode": self.mode.value,
            "order": _plain(self.order),
            "blocked": {centre: _plain(order) for centre, order in sorted(self.blocked.items())},
            "approved": {str(c): _plain(order) for c, order in sorted(self.approved.items())},
            "sizes": {str(offer): nodes for offer, nodes in sorted(self._sizes.items())},
        }
        self._ledger.keep(ROW, json.dumps(row, sort_keys=True).encode())

    def log(self, turn: Turn, action: str, subject: str, *, who: str, why: str) -> None:
        """Writes a decision down: who decided what about whom, and why."""
        self._count += 1
        row = {"at_ms": turn.now_ms, "action": action, "subject": subject, "who": who, "why": why}
        key = f"{DECISIONS}{turn.now_ms:014}-{self._count:06}"
        self._ledger.keep(key, json.dumps(row, sort_keys=True).encode())
        text = " ".join(part for part in (f"{who}:", action, subject) if part)
        turn.note(INFO, "decision", f"{text} ({why})" if why else text)

    # Orders

    def set_mode(self, mode: Mode, order: Order, turn: Turn) -> None:
        """Opens, pauses, drains or withdraws; `apply` writes what follows."""
        self.mode, self.order = mode, order
        self.log(turn, _ACTIONS[mode], "", who=order.who, why=order.reason)
        self._keep()

    def set_blocked(self, centre: CentreName, order: Order | None, turn: Turn, who: Order) -> None:
        """Blocks a peer, or with None lets its jobs come again."""
        if order is None:
            self.blocked.pop(centre, None)
        else:
            self.blocked[centre] = order
        action = "unblock" if order is None else "block"
        self.log(turn, action, centre, who=who.who, why=who.reason)
        self._keep()

    def approve(self, claim_id: ClaimId, order: Order) -> None:
        """A person let a claim come."""
        self.approved[claim_id] = order
        self._keep()

    def forget(self, claim_id: ClaimId) -> None:
        """The claim was answered: nobody needs the approval any more."""
        if self.approved.pop(claim_id, None) is not None:
            self._keep()

    # What follows for our offers

    def apply(self, turn: Turn) -> None:
        """Makes our offers follow the mode; may be called at any time."""
        offers = self._ledger.live.offers
        mine = [o for o in offers.values() if o.host == self._ledger.me.name and not o.closed]
        match self.mode:
            case Mode.OPEN:
                self._restore_sizes(turn)
            case Mode.PAUSED:
                for offer in mine:
                    if offer.nodes:
                        self._sizes[offer.offer_id] = offer.nodes
                        self._resize(offer, 0, turn)
                        self._keep()
            case Mode.DRAINING | Mode.WITHDRAWN:
                for offer in mine:
                    close = OfferClose(offer_id=offer.offer_id, reason=self.order.reason)
                    self._ledger.write(close, turn.now_ms)

    def _restore_sizes(self, turn: Turn) -> None:
        if not self._sizes:
            return
        for offer_id, nodes in sorted(self._sizes.items()):
            offer = self._ledger.live.offers.get(offer_id)
            if offer is not None and not offer.closed and not offer.nodes:
                self._resize(offer, nodes, turn)
        self._sizes.clear()
        self._keep()

    def _resize(self, offer: OfferEntry, nodes: int, turn: Turn) -> None:
        update = OfferUpdate(
            offer_id=offer.offer_id,
            nodes=nodes,
            walltime_max_s=offer.walltime_max_s,
            until_ms=offer.until_ms,
        )
        self._ledger.write(update, turn.now_ms)


_ACTIONS: Final = {
    Mode.OPEN: "resume",
    Mode.PAUSED: "pause",
    Mode.DRAINING: "withdraw --drain",
    Mode.WITHDRAWN: "withdraw --now",
}


def _plain(order: Order) -> dict[str, str | int]:
    return {"who": order.who, "reason": order.reason, "at_ms": order.at_ms}
