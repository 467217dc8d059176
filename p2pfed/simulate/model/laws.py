"""What must not be: the invariants, as a modelled federation shows them."""

from __future__ import annotations

from p2pfed.core.ids import ClaimId, Head, JobId
from p2pfed.core.records import Accept, Close, Handover, Record, Release
from p2pfed.node.effects import Effect, SendPayload, StoreBlocks
from p2pfed.simulate.model.centre import Centres
from p2pfed.simulate.model.facts import Facts
from p2pfed.simulate.model.situation import (
    START_MS,
    STEP_MS,
    Phase,
    Setting,
    Situation,
    Way,
    fetch_by,
    fetch_of,
)


class Laws:
    """Judges situations, and what centres do in them."""

    def __init__(self, setting: Setting, centres: Centres) -> None:
        self._centres = centres
        self._names = setting.names
        self._clocks_hold = not setting.faults.clock_steps

    def _facts(self, now: Situation, who: int) -> Facts:
        return self._centres.facts(now.centres[who])

    def home_of(self, claim_id: ClaimId) -> int:
        """The centre that wrote the claim."""
        return self._names.index(claim_id.centre)

    def broken_by(self, before: Situation, who: int, effect: Effect) -> str:
        """What an effect breaks, in words; empty if it may be."""
        match effect:
            case SendPayload():
                fetch = fetch_by(before, effect.transfer)
                if fetch is not None and not self._said(before, fetch.host, Handover, fetch[0]):
                    return f"the payload of {fetch[0]} left before its host knew the lease"
            case StoreBlocks(own_head=(_, head)):
                return self._broken_by_block(before, who, head)
            case _:
                pass
        return ""

    def _broken_by_block(self, before: Situation, who: int, head: Head) -> str:
        for record in self._centres.block(head.block_id).records:
            if isinstance(record, Handover):
                claim_id = ClaimId(record.claim_id)
                asked = claim_id in self._facts(before, who).asked
                fetch = fetch_of(before, claim_id)
                if not asked and (fetch is None or fetch.way is Way.ASKED):
                    return f"{claim_id} was handed over and nobody had asked"
                if self._anybody_said(before, Close, claim_id, "expired"):
                    return f"{claim_id} was handed over after its host had let it expire"
            elif isinstance(record, Accept):
                claim_id = ClaimId(record.claim_id)
                if self._anybody_said(before, Release, claim_id, "expired"):
                    return f"{claim_id} was accepted after its home had let it expire"
        return ""

    def _anybody_said(
        self, now: Situation, kind: type[Close | Release], claim_id: ClaimId, reason: str
    ) -> bool:
        """Whether a side has given up already; one whose clock was set may do so too early."""
        return self._clocks_hold and any(
            isinstance(record, kind) and record.claim_id == claim_id and record.reason == reason
            for number in now.centres
            for feed in self._centres.locals[number].feeds
            for block in feed
            for record in self._centres.blocks[block].records
        )

    def _said(self, now: Situation, who: int, kind: type[Record], claim_id: ClaimId) -> bool:
        """True if a centre holds such a record of the claim."""
        return any(
            type(record) is kind and getattr(record, "claim_id", None) == claim_id
            for feed in self._centres.locals[now.centres[who]].feeds
            for block in feed
            for record in self._centres.blocks[block].records
        )

    def forks(self, now: Situation, who: int, number: int) -> str:
        """Invariant 8: what a centre is about to be must not contradict what others hold of it."""
        own = self._centres.locals[number].feeds[who]
        for other in range(len(self._names)):
            known = self._centres.locals[now.centres[other]].feeds[who]
            if known[: len(own)] != own[: len(known)]:
                name, witness = self._names[who], self._names[other]
                return f"{name} forked its feed: {witness} holds another block"
        return ""

    def breach(self, now: Situation) -> str:
        """Invariants 1 and 2 in this situation; empty if they hold."""
        running = [n for n in now.natives if n.phase is Phase.RUNS]
        for native in running:
            home = self._facts(now, self.home_of(native.claim_id))
            host = self._facts(now, native.host)
            if home.ready and native.claim_id in home.free:
                return f"{native.claim_id} runs, and its home may give the job away"
            careful = self._clock(now, native.host) < host.careful_until_ms
            if host.ready and not careful and native.claim_id not in host.held:
                return f"{native.claim_id} runs, and its host counts its room as free"
        for who, name in enumerate(self._names):
            if len(self._facts(now, who).held) > 1:
                return f"{name} promised its room twice"
        if len({_job_of(n.claim_id) for n in running}) < len(running):
            return "a job runs in two places"
        if len({n.host for n in running}) < len(running):
            return "two jobs run in room for one"
        return ""

    def _clock(self, now: Situation, who: int) -> int:
        return START_MS + now.step * STEP_MS + now.offsets_ms[who]

    def may_be_whole(self, now: Situation, who: int) -> bool:
        """True if a centre can get back all that ever left it: only then must it write again."""
        disk = self._centres.locals[now.centres[who]]
        if disk.mark is None:
            return not any(now.dead)
        known = (self._centres.locals[number].feeds[who] for number in now.centres)
        return disk.mark.seq_num < max(map(len, known))


def _job_of(claim_id: ClaimId) -> JobId:
    """The one job of the claim's home."""
    return JobId(claim_id._replace(seq_num=0, record_index=0))
