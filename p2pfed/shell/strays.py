"""Ends jobs of guests that no claim stands for: begun beside a job, or forgotten with a lost disk.

A loop asks the batch system every `LOOK_S` and compares with the ledger. Where strays can only be
left over from a former life of the daemon, it ends when a look found none. A stray is ended when it
is seen a second time, so that nothing that happens between two questions can look like one; after
`withdraw --now` at first sight, and every `WITHDRAWN_S`. Each is logged and stands among the
decisions.

It waits until the ledger is whole: one that came out of a backup does not know what it began.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import trio

from p2pfed.core.ids import ClaimId
from p2pfed.core.lifecycle import HostPhase
from p2pfed.errors import ExecutorError
from p2pfed.execute.strays import Stray, StrayFinder
from p2pfed.node.admission import Mode
from p2pfed.node.events import StrayEnded
from p2pfed.shell.brain import Brain

log = logging.getLogger("p2pfed.strays")

LOOK_S: Final = 5.0
WITHDRAWN_S: Final = 0.5


class Strays:
    """Looks for strays of one daemon, and ends them.

    Args:
        finder: looks for them; None: strays are left alone.
        brain: whose ledger tells what is ours.
        folder: where a claim lies.
        natives: how many jobs of guests are not known to be over.
    """

    def __init__(
        self,
        finder: StrayFinder | None,
        brain: Brain,
        folder: Callable[[ClaimId], Path],
        natives: Callable[[], int],
    ) -> None:
        self._finder = finder
        self._brain = brain
        self._node = brain.node
        self._folder = folder
        self._natives = natives
        self._seen: set[Stray] = set()
        self._clean_for_ms = 0

    @property
    def guests(self) -> int:
        """Jobs of guests that are not known to be over, strays among them.

        After a withdrawal at least 1 until a look that began after the last guest's end found none.
        """
        alive = self._natives() + len(self._seen)
        sure = self._finder is None or self._clean_for_ms == self._node.control.order.at_ms
        return alive or int(self._withdrawn and not sure)

    @property
    def _withdrawn(self) -> bool:
        return self._node.control.mode is Mode.WITHDRAWN and self._node.recovery.ready

    async def run(self) -> None:
        """Works until cancelled, or until nothing can come up any more."""
        await self._brain.ready.wait()
        while self._finder is not None:
            if self._node.recovery.ready:
                try:
                    await self._look(self._finder)
                except ExecutorError as error:
                    log.debug("can't look for strays now: %s", error)
                else:
                    if self._finder.at_start_only and not self._seen:
                        self._finder = None
                        return
            await trio.sleep(self._pause_s)

    @property
    def _pause_s(self) -> float:
        restless = self._withdrawn and self.guests
        return WITHDRAWN_S if restless else LOOK_S

    async def _look(self, finder: StrayFinder) -> None:
        order_ms, quiet = self._node.control.order.at_ms, not self._natives()
        sieve = await trio.to_thread.run_sync(finder.look)
        own = {name: self._folder(claim_id) for name, claim_id in self._own()}
        found = set(await trio.to_thread.run_sync(sieve, own))
        due = found if self._withdrawn else found & self._seen
        for stray in sorted(due):
            await self._end(finder, stray)
        self._seen = found
        if quiet and not found:
            self._clean_for_ms = order_ms

    def _own(self) -> Iterable[tuple[str, ClaimId]]:
        """The native names of what we started and did not end, with their claims."""
        me = self._node.me.name
        for entry in self._node.ledger.live.claims.values():
            ours = entry.claim is not None and entry.claim.offer_id.centre == me
            if ours and entry.host_side.phase is HostPhase.STARTED:
                yield entry.host_side.native_name, entry.claim_id

    async def _end(self, finder: StrayFinder, stray: Stray) -> None:
        try:
            await trio.to_thread.run_sync(finder.end, stray)
        except ExecutorError as error:
            log.warning("can't end the stray job %s of a guest: %s", stray.job_id, error)
            return
        log.warning("ended job %s (%.64s), which no claim stands for", stray.job_id, stray.name)
        event = StrayEnded(native_id=stray.job_id, name=stray.name[:64])
        await self._brain.events.send(event)
