"""Our own offers: opened, resized and closed, by people or as the batch system goes.

A person's word stands: an offer that someone closed by hand stays closed, under its name, until
someone opens it again. That is kept in a local row, so that it survives a restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from p2pfed.core.ids import OfferId
from p2pfed.core.records import OfferClose, OfferUpdate
from p2pfed.errors import InputError, P2pfedError, StateError
from p2pfed.node.control import Control
from p2pfed.node.effects import Reply
from p2pfed.node.events import CloseOffer, FollowAgain, OpenOffer, ResizeOffer
from p2pfed.node.ledger import Ledger
from p2pfed.node.shelf import unsendable
from p2pfed.node.standing import require_member
from p2pfed.node.turn import Turn

ROW: Final = "node/offers-closed-by-hand"
"""The local row with the names of offers that are not opened again by themselves."""

OfferEvent = OpenOffer | ResizeOffer | CloseOffer | FollowAgain


class Offers:
    """What we do with our own offers."""

    def __init__(self, ledger: Ledger, control: Control) -> None:
        self._ledger = ledger
        self._control = control
        self.closed_by_hand: set[str] = set()

    def restore(self, rows: Mapping[str, bytes]) -> None:
        """Takes up what a former run left in its row."""
        self.closed_by_hand = set(json.loads(rows.get(ROW) or b"[]"))

    def take(self, event: OfferEvent, turn: Turn) -> None:
        """Does what is asked, or says why not."""
        try:
            result = self._do(event, turn)
        except P2pfedError as error:
            turn.do(Reply(request=event.request, error=error))
        else:
            turn.do(Reply(request=event.request, result=result))

    def _do(self, event: OfferEvent, turn: Turn) -> str:
        match event:
            case OpenOffer():
                return self._open(event, turn)
            case ResizeOffer():
                return self._resize(event, turn)
            case CloseOffer():
                return self._close(event, turn)
            case FollowAgain():
                self._require_guests_wanted()
                self.closed_by_hand.discard(event.name)
                self._keep()
                return event.name

    def _open(self, event: OpenOffer, turn: Turn) -> str:
        require_member(self._ledger, turn.now_ms)
        self._require_guests_wanted()
        if self._ledger.rules.resource_class(event.offer.resource_class) is None:
            names = ", ".join(c.name for c in self._ledger.rules.resource_classes)
            raise InputError(
                "offer-resource-class-unknown",
                f"the federation has no resource class {event.offer.resource_class!r}",
                remedy=f"use one of {names}",
            )
        refusal = unsendable(event.offer)
        if refusal is not None:
            raise refusal
        return str(self._ledger.write(event.offer, turn.now_ms))

    def _require_guests_wanted(self) -> None:
        if not self._control.open:
            raise StateError(
                "control-closed",
                f"this centre takes no guests: it is {self._control.mode.value}",
                remedy="see p2pfed status; p2pfed resume",
            )

    def _resize(self, event: ResizeOffer, turn: Turn) -> str:
        self._require_guests_wanted()
        offer = self._ledger.live.offers.get(event.offer_id)
        if offer is None or offer.host != self._ledger.me.name or offer.closed:
            raise _unknown(event.offer_id)
        update = OfferUpdate(
            offer_id=event.offer_id,
            nodes=event.nodes,
            walltime_max_s=event.walltime_max_s,
            until_ms=event.until_ms,
        )
        self._ledger.write(update, turn.now_ms)
        return str(event.offer_id)

    def _close(self, event: CloseOffer, turn: Turn) -> str:
        offers = self._ledger.live.offers
        own = [o for o in offers.values() if o.host == self._ledger.me.name and not o.closed]
        chosen = [o for o in own if event.offer_id in (None, o.offer_id)]
        if event.offer_id is not None and not chosen:
            raise _unknown(event.offer_id)
        for offer in chosen:
            close = OfferClose(offer_id=offer.offer_id, reason=event.reason)
            self._ledger.write(close, turn.now_ms)
        if event.stay_closed:
            self.closed_by_hand.update(event.stay_closed)
            self._keep()
        return " ".join(str(o.offer_id) for o in chosen)

    def _keep(self) -> None:
        self._ledger.keep(ROW, json.dumps(sorted(self.closed_by_hand)).encode())


def _unknown(offer_id: OfferId) -> StateError:
    return StateError(
        "offer-unknown", f"no open offer {offer_id} of this centre", remedy="see: p2pfed offer list"
    )
