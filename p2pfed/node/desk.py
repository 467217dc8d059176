"""Where a centre's own people give their orders; each is answered when it is durable.

Pausing, withdrawing and blocking need nobody, not even the right to write: the order holds from
this moment, and what follows from it in the ledger is written as soon as that may be.
"""

from __future__ import annotations

from p2pfed.errors import P2pfedError, StateError
from p2pfed.node.admission import Mode
from p2pfed.node.control import Control, Order
from p2pfed.node.effects import Reply
from p2pfed.node.events import AnswerRequest, BlockCentre, HoldJob, SetMode, SiblingDone
from p2pfed.node.home import Home
from p2pfed.node.host import Host
from p2pfed.node.ledger import Ledger
from p2pfed.node.recovery import Recovery
from p2pfed.node.turn import Turn

DeskEvent = SetMode | BlockCentre | AnswerRequest | HoldJob | SiblingDone


class Desk:
    """Takes orders and passes them on to those whom they concern."""

    def __init__(
        self, ledger: Ledger, control: Control, host: Host, home: Home, recovery: Recovery
    ) -> None:
        self._ledger = ledger
        self._control = control
        self._host = host
        self._home = home
        self._recovery = recovery

    def take(self, event: DeskEvent, turn: Turn) -> None:
        """Does what is ordered, or says why not."""
        try:
            result = self._do(event, turn)
        except P2pfedError as error:
            turn.do(Reply(request=event.request, error=error))
        else:
            turn.do(Reply(request=event.request, result=result))

    def _do(self, event: DeskEvent, turn: Turn) -> str:
        match event:
            case SetMode():
                self._set_mode(event, turn)
                return event.mode.value
            case BlockCentre():
                self._block(event, turn)
                return event.centre
            case SiblingDone():
                self._home.siblings.done(event.job_id)
                return str(event.job_id)
            case AnswerRequest() | HoldJob() if not self._recovery.ready:
                raise self._recovery.refuse()
            case AnswerRequest():
                self._host.answer(event, turn)
                return str(event.claim_id)
            case HoldJob():
                self._home.hold(event.job_id, held=event.held, now_ms=turn.now_ms)
                action = "hold" if event.held else "release"
                self._control.log(turn, action, str(event.job_id), who=event.who, why=event.reason)
                return str(event.job_id)

    def _set_mode(self, event: SetMode, turn: Turn) -> None:
        order = Order(who=event.who, reason=event.reason, at_ms=turn.now_ms)
        self._control.set_mode(event.mode, order, turn)
        if self._recovery.ready:
            self._control.apply(turn)
            live = self._ledger.live
            self._ledger.touched.extend(
                claim_id
                for claim_id in sorted(live.claims)
                if self._host.is_ours(live.claims[claim_id]) and not live.claims[claim_id].over
            )
        if event.mode is Mode.WITHDRAWN:
            self._host.withdraw(turn)

    def _block(self, event: BlockCentre, turn: Turn) -> None:
        known = self._ledger.live.governance.versions()[-1].known
        if event.centre not in known or event.centre == self._ledger.me.name:
            raise StateError(
                "centre-unknown",
                f"{event.centre} is no other centre of the federation",
                remedy="see: p2pfed members",
            )
        order = Order(who=event.who, reason=event.reason, at_ms=turn.now_ms)
        self._control.set_blocked(event.centre, order if event.blocked else None, turn, order)
