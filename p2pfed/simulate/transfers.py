"""Simulated bulk connections: payloads to hosts, results to homes, by the daemon's own protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pfed.core.ids import CentreName, ClaimId
from p2pfed.node.effects import (
    AnswerTransfer,
    FetchPayload,
    FetchResult,
    NameHandover,
    SendCheckpoint,
    SendPayload,
    SendResult,
)
from p2pfed.node.events import (
    Event,
    HandoverNamed,
    PayloadAsked,
    PayloadFailed,
    PayloadFetched,
    ResultAsked,
    ResultFailed,
    ResultFetched,
    TransferId,
)
from p2pfed.simulate.scene import Centre, Scene


@dataclass(slots=True)
class Transfer:
    """A bulk connection that a host or home opened, as its other end sees it."""

    claim_id: ClaimId
    asker: CentreName
    asked: CentreName
    kind: str


class Transfers:
    """All bulk connections of a world.

    Args:
        scene: the world.
        reaches: whether a connection between two centres would come about now.
    """

    def __init__(self, scene: Scene, reaches: Callable[[CentreName, CentreName], bool]) -> None:
        self._scene = scene
        self._reaches = reaches
        self._transfers: dict[TransferId, Transfer] = {}

    def crash(self, name: CentreName) -> None:
        """Breaks all connections that a centre has; the other end sees it and may ask again."""
        for transfer, told in list(self._transfers.items()):
            if name in (told.asker, told.asked):
                self._fail(transfer, self._scene.centres[told.asker].life, final=False)

    def ask(self, centre: Centre, effect: FetchPayload | FetchResult) -> None:
        """A centre goes for a payload or a result."""
        scene = self._scene
        if isinstance(effect, FetchPayload):
            if effect.claim_id in centre.disk.payloads:
                scene.later(centre, PayloadFetched(claim_id=effect.claim_id))
                return
            asked, kind = effect.home, "payload"
        else:
            asked, kind = effect.host, "result"
        transfer = TransferId(scene.new_id())
        self._transfers[transfer] = Transfer(effect.claim_id, centre.name, asked, kind)
        if kind == "payload":
            centre.fetches[effect.claim_id] = transfer
        there, life = scene.centres[asked], centre.life
        question: Event = (PayloadAsked if kind == "payload" else ResultAsked)(
            transfer=transfer, centre=centre.name, claim_id=effect.claim_id
        )

        def arrive() -> None:
            if there.node is None or not self._reaches(centre.name, asked):
                self._fail(transfer, life, final=False)
            else:
                scene.tell(asked, question)

        scene.soon(arrive)

    def part(self) -> None:
        """Breaks the connections between centres that don't reach each other any more."""
        for transfer, told in list(self._transfers.items()):
            if not self._reaches(told.asker, told.asked):
                self._fail(transfer, self._scene.centres[told.asker].life, final=False)

    def _fail(self, transfer: TransferId, life: int, *, final: bool) -> None:
        told = self._transfers.pop(transfer, None)
        if told is None or self._scene.centres[told.asker].life != life:
            return
        failed = PayloadFailed if told.kind == "payload" else ResultFailed
        self._scene.later(
            self._scene.centres[told.asker],
            failed(claim_id=told.claim_id, why="refused", final=final),
        )

    def perform(
        self,
        centre: Centre,
        effect: NameHandover | AnswerTransfer | SendPayload | SendResult | SendCheckpoint,
    ) -> None:
        """Does the next step of a transfer, as either end wants it."""
        if isinstance(effect, NameHandover):
            transfer = centre.fetches.get(effect.claim_id)
            told = None if transfer is None else self._transfers.get(transfer)
            if transfer is None or told is None:
                return
            named = HandoverNamed(
                transfer=transfer,
                centre=centre.name,
                claim_id=effect.claim_id,
                block_id=effect.block_id,
            )
            self._scene.later(self._scene.centres[told.asked], named)
            return
        told = self._transfers.get(effect.transfer)
        if told is None:
            return
        asker = self._scene.centres[told.asker]
        if isinstance(effect, AnswerTransfer):
            if effect.error is not None:
                self._fail(effect.transfer, asker.life, final=not effect.retry)
        elif isinstance(effect, SendPayload):
            del self._transfers[effect.transfer]
            asker.disk.payloads.add(told.claim_id)
            self._scene.later(asker, PayloadFetched(claim_id=told.claim_id))
        else:
            del self._transfers[effect.transfer]
            self._scene.later(asker, ResultFetched(claim_id=told.claim_id))
