"""What can happen next in a modelled federation.

Every move is one thing that the world does to one centre, or time going by. What a centre does
about it is the real node's doing (`p2pfed.simulate.model.centre`). Nothing has to happen: a block
that is never heard, a look that is never taken and a native job that never begins are all among the
ways, so a lost message, a partition and a slow machine need no moves of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from p2pfed.core.ids import ClaimId, Head, JobId, Position
from p2pfed.core.records import Outcome
from p2pfed.node.effects import (
    AnswerTransfer,
    Effect,
    FetchPayload,
    ForgetClaim,
    NameHandover,
    SendPayload,
    StoreBlocks,
    SubmitNative,
)
from p2pfed.node.events import (
    CancelJob,
    ClockStepped,
    HandoverNamed,
    NativeEnded,
    NativeNotFound,
    PayloadAsked,
    PayloadFailed,
    PayloadFetched,
    RequestId,
)
from p2pfed.simulate.model.centre import Centres, Local
from p2pfed.simulate.model.facts import Facts
from p2pfed.simulate.model.laws import Laws
from p2pfed.simulate.model.node import Answer, Boot, ClaimIt, Input, Learn, Look, Mend
from p2pfed.simulate.model.situation import (
    JOB,
    OFFER,
    START_MS,
    STEP_MS,
    Faults,
    Fetch,
    Native,
    Phase,
    Setting,
    Situation,
    Way,
    fetch_by,
    fetch_of,
    transfer_id,
)

STEPPED_MS = 3 * STEP_MS
"""By how much a clock steps that somebody sets."""


class Move(NamedTuple):
    """What happened, in words, and what is then. `breach` says what was broken by it."""

    words: str
    after: Situation
    breach: str = ""


class Moves:
    """All moves of one setting."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.names = setting.names
        self.centres = Centres(self.names, setting.rules)
        self.laws = Laws(setting, self.centres)

    def start(self) -> Situation:
        """Everybody runs, knows of the others, and has posted its job or offer."""
        homes = range(self.setting.homes)
        posted = {i: [JOB] if i in homes else [OFFER] for i in range(len(self.names))}
        count = len(self.names)
        start = Situation(
            step=0,
            centres=tuple(self.centres.found(posted, START_MS)),
            offsets_ms=self.setting.offsets_ms or (0,) * count,
            dead=(False,) * count,
            faults=self.setting.faults,
        )
        # Somebody claims first; let it be the first home, at once, for the first host.
        return next(self.claim(start, 0, self.facts(start, 0))).after

    def of(self, now: Situation) -> Iterator[Move]:
        """Everything that can happen next."""
        for who in range(len(self.names)):
            if now.dead[who]:
                continue
            facts = self.facts(now, who)
            if facts.up:
                yield from self._hear(now, who, facts)
                yield from self.look(now, who)
                yield from self.claim(now, who, facts)
            else:
                yield from self.boot(now, who)
            yield from self._faults(now, who, facts)
        for fetch in now.fetches:
            yield from self.transfer(now, fetch)
        yield from self._batch(now)
        if now.step < self.setting.steps:
            yield self.tick(now)

    def facts(self, now: Situation, who: int) -> Facts:
        """What the centre itself would say."""
        return self.centres.facts(now.centres[who])

    def local(self, now: Situation, who: int) -> Local:
        """All that the centre is."""
        return self.centres.locals[now.centres[who]]

    def clock(self, now: Situation, who: int) -> int:
        """What the centre's clock shows."""
        return START_MS + now.step * STEP_MS + now.offsets_ms[who]

    # Time

    def tick(self, now: Situation) -> Move:
        """A second goes by; batch systems end what has run out of time."""
        after = now._replace(step=now.step + 1)
        natives = list(now.natives)
        for at, native in enumerate(natives):
            due = self._batch_clock(after, native.host) >= native.kill_at_ms
            if native.phase is Phase.RUNS and due and self.setting.environment.enforced_end:
                natives[at] = native._replace(phase=Phase.OVER)
        return Move(f"it is second {after.step}", after._replace(natives=tuple(natives)))

    def _batch_clock(self, now: Situation, who: int) -> int:
        """The clock of the machines behind a centre: nobody sets it."""
        return START_MS + now.step * STEP_MS + self._right(who)

    # What a centre is told

    def look(self, now: Situation, who: int) -> Iterator[Move]:
        """A centre looks at the times of its claims."""
        for move in self.call(now, who, Look(), f"{self.names[who]} looks at its clock"):
            if move.after != now:
                yield move

    def _hear(self, now: Situation, who: int, facts: Facts) -> Iterator[Move]:
        for other in range(len(self.names)):
            if other != who and self.facts(now, other).up:
                yield from self.hear(now, who, other, facts)

    def hear(self, now: Situation, who: int, other: int, facts: Facts) -> Iterator[Move]:
        """One centre learns what another knows, and what it holds of its feed."""
        mine, theirs = self.local(now, who).feeds, self.local(now, other).feeds
        name, peer = self.names[who], self.names[other]
        if not facts.ready:
            newest = self.centres.blocks[theirs[who][-1]] if theirs[who] else None
            head = None if newest is None else Head(newest.seq_num, newest.block_id)
            words = f"{peer} tells {name} which blocks of {name} it holds"
            for move in self.call(now, who, Answer(self.names[other], head), words):
                if move.after != now:
                    yield move
        both = zip(mine, theirs, strict=True)
        lacks = [known[len(held) :] for held, known in both if len(known) > len(held)]
        if self.setting.one_by_one:
            for blocks in lacks:
                yield from self._learn(now, who, blocks[:1], peer)
        elif lacks:
            all_blocks = sorted((n for feed in lacks for n in feed), key=self.centres.order)
            yield from self._learn(now, who, tuple(all_blocks), peer)

    def _learn(
        self, now: Situation, who: int, blocks: tuple[int, ...], peer: str
    ) -> Iterator[Move]:
        said = ", ".join(
            f"{type(record).__name__} of {block.header.centre}"
            for block in (self.centres.blocks[n] for n in blocks)
            for record in block.records
        )
        yield from self.call(now, who, Learn(blocks), f"{self.names[who]} hears {peer}: {said}")

    def claim(
        self, now: Situation, who: int, facts: Facts, *, limit: int | None = None
    ) -> Iterator[Move]:
        """A round gives a waiting job any open offer; up to `limit` claims, as the setting says."""
        if facts.ready and facts.claims < (limit or self.setting.attempts):
            for job_id in facts.waiting:
                for offer_id in facts.offers:
                    words = f"{self.names[who]} claims {offer_id.centre} for {job_id}"
                    yield from self.call(now, who, ClaimIt(job_id, offer_id), words)

    def boot(self, now: Situation, who: int) -> Iterator[Move]:
        """A daemon that is down starts again."""
        yield from self.call(now, who, Boot(), f"{self.names[who]} starts again")

    # Payloads

    def transfer(self, now: Situation, fetch: Fetch) -> Iterator[Move]:
        """The next step of a fetch."""
        claim_id = fetch.claim_id
        home, host = self.laws.home_of(claim_id), fetch.host
        transfer, centre = transfer_id(claim_id), self.names[host]
        if fetch.way in (Way.ASKED, Way.NAMED) and self.facts(now, home).up:
            asked = PayloadAsked(transfer=transfer, centre=centre, claim_id=claim_id)
            words = f"{self.names[home]} hears {centre} ask for the payload of {claim_id}"
            if fetch.way is Way.NAMED and fetch.named is not None:
                words = f"{self.names[home]} hears {centre} name the lease of {claim_id}"
                named = HandoverNamed(
                    transfer=transfer, centre=centre, claim_id=claim_id, block_id=fetch.named
                )
                yield from self.call(now, home, named, words)
                return
            waits = fetch._replace(way=Way.NAMED if fetch.named else Way.WAITS)
            yield from self.call(self._fetch(now, waits), home, asked, words)
        elif self.facts(now, host).up and fetch.way is Way.COMES:
            words = f"the payload of {claim_id} arrives at {centre}"
            here = self._spool(self._no_fetch(now, claim_id), host, claim_id, here=True)
            yield from self.call(here, host, PayloadFetched(claim_id=claim_id), words)
        elif self.facts(now, host).up and fetch.way in (Way.BROKEN, Way.REFUSED):
            final = fetch.way is Way.REFUSED
            failed = PayloadFailed(claim_id=claim_id, why=fetch.way.value, final=final)
            words = f"{centre} learns that its fetch of {claim_id} failed"
            yield from self.call(self._no_fetch(now, claim_id), host, failed, words)

    def _spool(self, now: Situation, who: int, claim_id: ClaimId, *, here: bool) -> Situation:
        number = self.centres.with_payload(who, now.centres[who], claim_id, here=here)
        return now._replace(centres=_put(now.centres, who, number))

    def _fetch(self, now: Situation, fetch: Fetch) -> Situation:
        others = [f for f in now.fetches if f.claim_id != fetch.claim_id]
        return now._replace(fetches=tuple(sorted([*others, fetch], key=lambda f: f.claim_id)))

    def _no_fetch(self, now: Situation, claim_id: ClaimId) -> Situation:
        return now._replace(fetches=tuple(f for f in now.fetches if f.claim_id != claim_id))

    # Batch systems

    def _batch(self, now: Situation) -> Iterator[Move]:
        for native in now.natives:
            if native.phase is Phase.SENT or (
                native.phase in (Phase.OVER, Phase.BARRED) and not self.setting.environment.marker
            ):
                yield from self.begin(now, native)
            if native.phase is Phase.RUNS:
                yield self.end(now, native)
            if native.phase is Phase.OVER:
                yield from self.report(now, native)
        for who in range(self.setting.homes, len(self.names)):
            for claim_id in self.facts(now, who).started:
                yield from self.miss(now, who, claim_id)

    def begin(self, now: Situation, native: Native) -> Iterator[Move]:
        """The wrapper begins if it may, and if it is the first."""
        rules = self.setting.environment
        late = self._batch_clock(now, native.host) > native.begin_before_ms
        if (late and rules.begin_before) or (native.runs and rules.marker) or native.runs > 1:
            return
        begun = native._replace(phase=Phase.RUNS, runs=native.runs + 1)
        breach = f"the script of {native.claim_id} began twice" if native.runs else ""
        words = f"the native job of {native.claim_id} begins at {self.names[native.host]}"
        yield Move(words, _native(now, begun), breach)

    def settle(self, now: Situation, native: Native) -> Iterator[Move]:
        """What becomes of a native job at once where nothing fails."""
        match native.phase:
            case Phase.SENT:
                yield from self.begin(now, native)
            case Phase.RUNS:
                yield self.end(now, native)
            case Phase.OVER:
                yield from self.report(now, native)
            case Phase.BARRED:
                pass

    def end(self, now: Situation, native: Native) -> Move:
        """A native job ends by itself."""
        over = native._replace(phase=Phase.OVER)
        return Move(f"the native job of {native.claim_id} ends", _native(now, over))

    def report(self, now: Situation, native: Native) -> Iterator[Move]:
        """The batch system shows the job terminal."""
        host = self.facts(now, native.host)
        if host.ready and native.claim_id in host.started:
            clock_ms = self.clock(now, native.host)
            ended = NativeEnded(
                claim_id=native.claim_id,
                outcome=Outcome.PREEMPTED,
                started_ms=clock_ms,
                ended_ms=clock_ms,
                core_s=0,
            )
            words = f"{self.names[native.host]} sees that {native.claim_id} is over"
            yield from self.call(now, native.host, ended, words)

    def miss(self, now: Situation, who: int, claim_id: ClaimId) -> Iterator[Move]:
        """The batch system does not know the job; the daemon takes its start marker."""
        native = next((n for n in now.natives if n.claim_id == claim_id), None)
        asked = self.facts(now, who).ready
        if not asked or (native is not None and native.phase not in (Phase.SENT, Phase.BARRED)):
            return
        known = native or Native(claim_id, who, Phase.BARRED)
        if self.setting.environment.not_found_bars or native is None:
            known = known._replace(phase=Phase.BARRED)
        words = f"the batch system of {self.names[who]} does not know {claim_id}"
        yield from self.call(_native(now, known), who, NativeNotFound(claim_id=claim_id), words)

    # Faults

    def _faults(self, now: Situation, who: int, facts: Facts) -> Iterator[Move]:
        name, left = self.names[who], now.faults
        if facts.up and left.crashes:
            spent = now._replace(faults=left._replace(crashes=left.crashes - 1))
            yield Move(f"{name} crashes", self._crash(spent, who, self.local(now, who)))
        if facts.up and left.deaths:
            spent = now._replace(faults=left._replace(deaths=left.deaths - 1))
            dead = self._crash(spent, who, self.local(now, who))
            gone = tuple(d or i == who for i, d in enumerate(dead.dead))
            yield Move(f"{name} dies for good", dead._replace(dead=gone))
        if facts.up and left.restores:
            spent = now._replace(faults=left._replace(restores=left.restores - 1))
            yield from self._restore(spent, who, keep_mark=True)
        if facts.up and left.marks_lost:
            spent = now._replace(faults=left._replace(marks_lost=left.marks_lost - 1))
            yield from self._restore(spent, who, keep_mark=False)
        if facts.up:
            yield from self._set_clock(now, who, left)
        if facts.ready and left.cancels and who < self.setting.homes and not facts.cancelled:
            spent = now._replace(faults=left._replace(cancels=left.cancels - 1))
            job_id = JobId(Position(name, 0, 0, 0))
            cancel = CancelJob(request=RequestId(1), job_id=job_id)
            yield from self.call(spent, who, cancel, f"a user of {name} cancels the job")

    def _crash(self, now: Situation, who: int, disk: Local) -> Situation:
        if not self.setting.environment.synced:
            disk = self._without_newest(who, disk)
        centres = list(now.centres)
        centres[who] = self.centres.keep_down(who, disk)
        fetches = []
        for fetch in now.fetches:
            if self.laws.home_of(fetch.claim_id) == who and fetch.way is not Way.REFUSED:
                fetch = fetch._replace(way=Way.BROKEN)
            if fetch.host != who:
                fetches.append(fetch)
        return now._replace(centres=tuple(centres), fetches=tuple(fetches))

    def _without_newest(self, who: int, disk: Local) -> Local:
        """A disk that was never synced: the newest block is gone, and the mark with it."""
        own = disk.feeds[who]
        if len(own) < 2:
            return disk
        before = self.centres.blocks[own[-2]]
        feeds = tuple(own[:-1] if i == who else feed for i, feed in enumerate(disk.feeds))
        return disk._replace(feeds=feeds, mark=Head(before.seq_num, before.block_id))

    def _restore(self, now: Situation, who: int, *, keep_mark: bool) -> Iterator[Move]:
        disk = self.local(now, who)
        own = disk.feeds[who]
        for kept in range(1, len(own) + (not keep_mark)):
            feeds = tuple(own[:kept] if i == who else f for i, f in enumerate(disk.feeds))
            mark = disk.mark if keep_mark else None
            backup = disk._replace(feeds=feeds, mark=mark, rows=(), payloads=frozenset())
            words = f"{self.names[who]} is restored to its first {kept} of {len(own)} blocks" + (
                "" if keep_mark else ", without its high-water file"
            )
            yield Move(words, self._crash(now, who, backup))

    def _set_clock(self, now: Situation, who: int, left: Faults) -> Iterator[Move]:
        name, right_ms = self.names[who], self._right(who)
        yield from self.mend(now, who)
        if left.clock_steps and now.offsets_ms[who] == right_ms:
            for by_ms in (-STEPPED_MS, STEPPED_MS):
                stepped = now._replace(
                    offsets_ms=_put(now.offsets_ms, who, right_ms + by_ms),
                    faults=left._replace(clock_steps=left.clock_steps - 1),
                )
                words = f"the clock of {name} is set by {by_ms // 1000} s"
                yield from self.call(stepped, who, ClockStepped(by_ms=by_ms), words)

    def mend(self, now: Situation, who: int) -> Iterator[Move]:
        """A clock that was set wrong is set right, and peers confirm it."""
        if now.offsets_ms[who] != self._right(who):
            mended = now._replace(offsets_ms=_put(now.offsets_ms, who, self._right(who)))
            words = f"the clock of {self.names[who]} is set right"
            yield from self.call(mended, who, Mend(), words)

    def _right(self, who: int) -> int:
        offsets = self.setting.offsets_ms
        return offsets[who] if offsets else 0

    # Performing

    def call(self, now: Situation, who: int, given: Input, words: str) -> Iterator[Move]:
        """What comes of telling a centre something: all of it, or what stands before a crash."""
        before = now.centres[who]
        number, effects = self.centres.call(who, before, given, self.clock(now, who))
        breach = self.laws.forks(now, who, number)
        full = now._replace(centres=_put(now.centres, who, number))
        for effect in effects:
            breach = breach or self.laws.broken_by(now, who, effect)
            full = self._perform(full, who, effect)
        yield Move(words, full, breach)
        if now.faults.crashes and len(effects) > 1:
            yield from self._torn(now, who, before, effects, words)

    def _torn(
        self, now: Situation, who: int, before: int, effects: tuple[Effect, ...], words: str
    ) -> Iterator[Move]:
        left = now.faults
        spent = now._replace(faults=left._replace(crashes=left.crashes - 1))
        disk = self.centres.locals[before]
        for done, effect in enumerate(effects[:-1], 1):
            spent = self._perform(spent, who, effect)
            if isinstance(effect, StoreBlocks):
                disk = self.centres.store(disk, effect)
            undone = type(effects[done]).__name__
            yield Move(f"{words}, and crashes before {undone}", self._crash(spent, who, disk))

    def _perform(self, now: Situation, who: int, effect: Effect) -> Situation:
        match effect:
            case FetchPayload():
                here = effect.claim_id in self.local(now, who).payloads
                if fetch_of(now, effect.claim_id) is None:
                    way = Way.COMES if here else Way.ASKED
                    return self._fetch(now, Fetch(effect.claim_id, who, way))
            case NameHandover():
                fetch = fetch_of(now, effect.claim_id)
                if fetch is not None and fetch.way in (Way.ASKED, Way.WAITS):
                    way = Way.NAMED if fetch.way is Way.WAITS else Way.ASKED
                    return self._fetch(now, fetch._replace(way=way, named=effect.block_id))
            case AnswerTransfer():
                fetch = fetch_by(now, effect.transfer)
                if fetch is not None and effect.error is not None:
                    way = Way.BROKEN if effect.retry else Way.REFUSED
                    return self._fetch(now, Fetch(fetch.claim_id, fetch.host, way))
            case SendPayload():
                fetch = fetch_by(now, effect.transfer)
                if fetch is not None:
                    return self._fetch(now, Fetch(fetch.claim_id, fetch.host, Way.COMES))
            case SubmitNative():
                if all(n.claim_id != effect.claim_id for n in now.natives):
                    sent = Native(
                        effect.claim_id,
                        who,
                        Phase.SENT,
                        effect.begin_before_ms,
                        effect.kill_at_ms,
                    )
                    return _native(now, sent)
            case ForgetClaim():
                return self._spool(now, who, effect.claim_id, here=False)
            case _:
                pass
        return now


def _put(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])


def _native(now: Situation, native: Native) -> Situation:
    others = [n for n in now.natives if n.claim_id != native.claim_id]
    return now._replace(natives=tuple(sorted([*others, native], key=lambda n: n.claim_id)))
