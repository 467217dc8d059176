"""The node: `handle(events, now) -> effects`, for one centre.

Theory of operation. Events come in one after another; each is handed to the part it belongs to, and
whatever it touched in the registers is then reviewed by our two roles: as host of claims on our
offers, as home of our own claims. All records that a call wrote are sealed into one block at its
end. The effects come back in the order that keeps the promise of design section 2.3: first what
must be durable, then what may leave.

A node is a pure state machine: it has no clock (time is an argument), no randomness (a generator
comes in), no I/O (it asks for effects). So a whole federation runs in one thread from one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from p2pfed.core.admission import Admission
from p2pfed.core.bearings import Bearings
from p2pfed.core.blocks import Block, peek_block_id
from p2pfed.core.ids import BlockId, CentreName, ClaimId, Head, JobId
from p2pfed.core.lifecycle import ClaimState
from p2pfed.core.records import Contact
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError
from p2pfed.node.admission import AdmissionPolicy, Mode
from p2pfed.node.company import Company
from p2pfed.node.control import Control
from p2pfed.node.cosigning import Cosigning
from p2pfed.node.council import Council
from p2pfed.node.deadlines import Deadlines
from p2pfed.node.desk import Desk
from p2pfed.node.effects import WARNING, AnswerTransfer, Effect, KeepSnapshot, Reply
from p2pfed.node.events import (
    AnswerRequest,
    BlockCentre,
    CancelJob,
    ChangeKey,
    ClockStepped,
    CloseOffer,
    DeclareEpoch,
    DialFailed,
    Event,
    FollowAgain,
    Govern,
    HandoverNamed,
    HoldJob,
    LinkBytes,
    LinkDown,
    LinkUp,
    NativeEnded,
    NativeNotFound,
    NativeQueued,
    NativeRefused,
    NativeRunning,
    OpenOffer,
    PayloadAsked,
    PayloadFailed,
    PayloadFetched,
    PolicyChanged,
    ResizeOffer,
    ResultAsked,
    ResultFailed,
    ResultFetched,
    SetMode,
    SiblingDone,
    SiblingSecured,
    StrayEnded,
    SubmitJob,
    Tick,
)
from p2pfed.node.gossip import Gossip
from p2pfed.node.history import History
from p2pfed.node.home import Home
from p2pfed.node.host import Host
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.ledger import Ledger
from p2pfed.node.offers import OfferEvent, Offers
from p2pfed.node.past import Past
from p2pfed.node.recovery import Memory, Recovery
from p2pfed.node.rounds import Rounds
from p2pfed.node.shelf import Shelf, stored
from p2pfed.node.snapshots import SNAPSHOT_EVERY, encode_snapshot
from p2pfed.node.standing import OwnStanding
from p2pfed.node.trust import Trust
from p2pfed.node.trusted_keys import TrustedKeys
from p2pfed.node.turn import Turn
from p2pfed.protocol.limits import PING_MS_MIN

if TYPE_CHECKING:
    from random import Random


class Node:
    """One centre.

    Args:
        me: who we are, with a value that signs.
        federation: members, keys and rules.
        policy: what we decide alone about guests.
        rng: chance for whom to contact and when; nothing replicated depends on it.
        shelf: where our admitted blocks are stored.
    """

    ledger_type: ClassVar[type[Ledger]] = Ledger
    gossip_type: ClassVar[type[Gossip]] = Gossip
    """What an exhaustive check exchanges; nothing else does."""

    def __init__(
        self,
        me: Identity,
        federation: Federation,
        policy: AdmissionPolicy,
        rng: Random,
        shelf: Shelf,
    ) -> None:
        self.federation = federation
        self.ledger = self.ledger_type(me, federation, shelf)
        self.trust = Trust(federation.rules.clock_error_ms)
        self.deadlines = Deadlines()
        self.rounds = Rounds(self.ledger)
        self.control = Control(self.ledger)
        self.offers = Offers(self.ledger, self.control)
        self.host = Host(self.ledger, self.rounds, self.deadlines, self.trust, policy, self.control)
        self.home = Home(self.ledger, self.host, self.deadlines, self.trust)
        self.company = Company(self.ledger)
        self.gossip = self.gossip_type(
            me.name, federation.id, self.company.addresses, rng, federation.rules
        )
        self.council = Council(self.ledger)
        self.standing = OwnStanding(self.ledger)
        self.recovery = Recovery(self.ledger, self.gossip, self.trust, self.company)
        self.trusted = TrustedKeys(self.ledger, self.company)
        self.desk = Desk(self.ledger, self.control, self.host, self.home, self.recovery)
        self.past = Past(self.ledger, self.gossip)
        self._rules = federation.rules
        self.cosigning = Cosigning(self.ledger)
        self.snapshot_every = SNAPSHOT_EVERY
        self._beat_ms = 0
        self._was_ready = False
        self.native_state: dict[ClaimId, str] = {}

    @property
    def me(self) -> Identity:
        """Who we are: our key and epoch may change while we run."""
        return self.ledger.me

    # Start

    def replay(self, data: bytes, *, side: bool = False) -> None:
        """Takes a stored block at start, in the order of storing; `side` as it was stored."""
        self.ledger.replay(data, side=side)

    def stand_on(self, bearings: Bearings, history: History) -> None:
        """Begins with a checkpoint; then come a snapshot above it, if any, and the blocks."""
        self.ledger.stand_on(bearings)
        self.cosigning.stand_on(bearings)
        self.past.begin(history)

    def start(
        self,
        memory: Memory,
        target: Head | None,
        now_ms: int,
        rows: Mapping[str, bytes] | None = None,
    ) -> list[Effect]:
        """After the last `replay`: begins to ask peers and, once it may, to act.

        Args:
            memory: what high-water file and store say together.
            target: the head that the high-water file names, if it does.
            now_ms: our clock.
            rows: the stored local rows whose key begins with `p2pfed.node.recovery.ROWS`.
        """
        turn = Turn(now_ms)
        self.ledger.touched.clear()
        self.ledger.news.clear()
        for centre, address in sorted(self.ledger.live.contacts.items()):
            self._announced(centre, address)
        self.control.restore(rows or {})
        self.offers.restore(rows or {})
        self.home.siblings.restore(rows or {})
        for feed in sorted({*self.ledger.replica.branched(), *self.ledger.live.convicted}):
            self.gossip.forked(feed)
        self._keep_company(turn)
        self.past.step(turn)
        self.recovery.begin(memory, target, rows or {}, turn)
        if self.control.mode is Mode.WITHDRAWN:
            self.host.withdraw(turn)
        return self._finish(turn)

    # Events

    def handle(self, events: Sequence[Event], now_ms: int) -> list[Effect]:
        """What these events lead to, at `now_ms` by our clock. Events may come in any order."""
        turn = Turn(now_ms)
        self.ledger.news.clear()
        for event in events:
            self._dispatch(event, turn)
            self._react(turn)
        return self._finish(turn)

    def wake_ms(self) -> int:
        """When the node wants a `Tick` at the latest."""
        times = (
            self.gossip.wake_ms(),
            self.deadlines.next_ms() if self.recovery.ready else None,
            self.ledger.replica.release_ms(),
            self.recovery.wake_ms(),
            self.rounds.due_ms(),
            self._beat_ms + self.ledger.rules.heartbeat_ms if self.recovery.ready else None,
        )
        return min(t for t in times if t is not None)

    def _dispatch(self, event: Event, turn: Turn) -> None:
        match event:
            case LinkUp() | LinkBytes() | LinkDown() | DialFailed():
                self._gossip_event(event, turn)
            case Tick():
                self._tick(turn)
            case ClockStepped():
                self.trust.watch.stepped(event.by_ms)
                turn.note(WARNING, "clock-stepped", f"the clock moved by {event.by_ms} ms")
            case (
                SubmitJob()
                | CancelJob()
                | OpenOffer()
                | ResizeOffer()
                | CloseOffer()
                | FollowAgain()
                | Govern()
                | ChangeKey()
            ):
                self._user_event(event, turn)
            case DeclareEpoch():
                self.recovery.declare_epoch(event, turn)
            case PayloadAsked() | HandoverNamed() | ResultAsked():
                self._transfer_event(event, turn)
            case PolicyChanged():
                self._policy_changed(event, turn)
            case StrayEnded():
                why = f"no claim stands for {event.name}"
                self.control.log(turn, "end stray", event.native_id, who="daemon", why=why)
            case SetMode() | BlockCentre() | AnswerRequest() | HoldJob() | SiblingDone():
                self.desk.take(event, turn)
            case _ if self.recovery.ready:
                self._work_event(event, turn)
            case _:
                pass  # What we asked for while we might still write; now it can't be written down.

    def _policy_changed(self, event: PolicyChanged, turn: Turn) -> None:
        """The new policy judges what waits for an answer, too."""
        if event.who:
            self.control.log(turn, "reload", "", who=event.who, why="")
        self.host.policy = event.policy
        self.ledger.touched.extend(sorted(self.host.asked))
        self.host.asked.clear()

    def _work_event(self, event: Event, turn: Turn) -> None:
        match event:
            case PayloadFetched():
                self.host.payload_fetched(event, turn)
            case PayloadFailed():
                self.host.payload_failed(event, turn)
            case ResultFetched():
                self.home.result_fetched(event, turn)
            case ResultFailed():
                self.home.result_failed(event, turn)
            case SiblingSecured():
                self.home.sibling_secured(event, turn)
            case (
                NativeQueued()
                | NativeRunning()
                | NativeEnded()
                | NativeNotFound()
                | NativeRefused()
            ):
                self._native_event(event, turn)

    def _gossip_event(self, event: LinkUp | LinkBytes | LinkDown | DialFailed, turn: Turn) -> None:
        now_ms = turn.now_ms
        match event:
            case LinkUp():
                frontier = self.ledger.replica.frontier()
                turn.effects += self.gossip.link_up(event, now_ms, frontier)
            case LinkDown():
                turn.effects += self.gossip.link_down(event, now_ms)
            case DialFailed():
                turn.effects += self.gossip.dial_failed(event, now_ms)
            case LinkBytes():
                self._link_bytes(event, turn)
        self.recovery.step(turn)

    def _link_bytes(self, event: LinkBytes, turn: Turn) -> None:
        now_ms = turn.now_ms
        heard = self.gossip.link_bytes(event, now_ms, self.ledger.replica)
        turn.effects += heard.effects
        for offset in heard.offsets:
            self.trust.watch.measured(
                offset.peer,
                offset_ms=offset.offset_ms,
                round_trip_ms=offset.round_trip_ms,
                now_ms=now_ms,
            )
        admitted: list[Block] = []
        unkept: list[BlockId] = []
        for number, data in enumerate(heard.blocks):
            try:
                if self.past.takes(data, event.link, turn):
                    continue
                admission = self.ledger.receive(data, now_ms)
            except InputError as error:
                turn.effects += self.gossip.misbehaved(event.link, error, now_ms)
                unkept += [peek_block_id(rest) for rest in heard.blocks[number:]]
                break
            admitted += admission.admitted
            unkept += _unkept(admission)
            if admission.unmet:
                turn.effects += self.gossip.lacks(admission.unmet, event.link, now_ms)
            self._forked(admission, turn)
        self._admitted(admitted, turn, event)
        self._fetch_again(unkept, turn)
        self.past.step(turn)

    def _fetch_again(self, unkept: Sequence[BlockId], turn: Turn) -> None:
        """What came and was not kept has not come: the true block of its place is still missing."""
        if unkept:
            turn.effects += self.gossip.dropped(unkept, turn.now_ms)

    def _forked(self, admission: Admission, turn: Turn) -> None:
        """Takes note of forks that came to light, and of a proof against ourselves."""
        for fork in admission.forks:
            self.gossip.forked(fork.feed)
            if fork.feed.centre == self.me.name:
                self.recovery.own_fork(turn)
        if self.me.feed in self.ledger.live.convicted:
            self.recovery.own_fork(turn)

    def _admitted(self, blocks: Sequence[Block], turn: Turn, event: LinkBytes | None) -> None:
        for block in blocks:
            for record in block.records:
                if isinstance(record, Contact):
                    self._announced(block.feed.centre, record.address)
        if blocks:
            link = None if event is None else event.link
            heads = [stored(b) for b in blocks if not self.ledger.replica.is_side(b)]
            turn.effects += self.gossip.admitted(heads, turn.now_ms, link)

    def _announced(self, centre: CentreName, address: str) -> None:
        """A centre says where it listens; our own administrator knows better, if he said so."""
        if centre != self.me.name and centre not in self.federation.pinned:
            self.gossip.set_address(centre, address)

    def _tick(self, turn: Turn) -> None:
        released = self.ledger.release(turn.now_ms)
        self._forked(released, turn)
        self._admitted(released.admitted, turn, None)
        self._fetch_again(_unkept(released), turn)
        turn.effects += self.gossip.tick(turn.now_ms, self.ledger.replica)
        self.recovery.step(turn)
        if self.rounds.due_ms() <= turn.now_ms:
            awaited = self.ledger.replica.awaited()
            turn.effects += self.gossip.still_lacks(awaited, turn.now_ms)
            self.rounds.run(turn, claim=self.recovery.ready)
            self.cosigning.after_round(turn, may_write=self.recovery.ready)
            self._keep_snapshot(turn)
            self._live_by(self.ledger.rules)
            self._keep_company(turn)
            self.standing.follow(turn)
            if self.recovery.ready:
                self.standing.bring_home(turn)
        if self.recovery.ready:
            self.ledger.touched.extend(self.deadlines.due(turn.now_ms))
            self.council.review(turn)

    def _keep_company(self, turn: Turn) -> None:
        """Follows who comes and goes."""
        if self.company.update():
            self.host.addresses.update(self.company.addresses)
            turn.effects += self.gossip.set_members(
                self.company.addresses, now_ms=turn.now_ms, former=self.company.former
            )

    def _live_by(self, rules: Rules) -> None:
        """Lets the rules of the newest round hold wherever a number of them is kept."""
        if rules is self._rules:
            return
        self._rules = rules
        live = self.ledger.live
        live.max_attempts = rules.max_attempts
        self.trust.watch.set_clock_error(rules.clock_error_ms)
        self.gossip.ping_ms = max(PING_MS_MIN, rules.heartbeat_ms)
        self.ledger.replica.set_max_skew(rules.max_skew_ms)

    def _keep_snapshot(self, turn: Turn) -> None:
        """After a round, now and then: what a start would otherwise fold again."""
        if self.ledger.unsaved < self.snapshot_every:
            return
        snapshot = self.ledger.snapshot()
        if snapshot is not None:
            turn.do(KeepSnapshot(data=encode_snapshot(snapshot)))

    def _user_event(
        self, event: SubmitJob | CancelJob | OfferEvent | Govern | ChangeKey, turn: Turn
    ) -> None:
        if not self.recovery.ready:
            turn.do(Reply(request=event.request, error=self.recovery.refuse()))
            return
        match event:
            case SubmitJob():
                self.home.submit(event, turn)
            case CancelJob():
                self.home.cancel(event, turn)
            case OpenOffer() | ResizeOffer() | CloseOffer() | FollowAgain():
                self.offers.take(event, turn)
            case ChangeKey():
                position = self.ledger.rotate(event.record, event.signer, turn.now_ms)
                turn.do(Reply(request=event.request, result=str(position)))
            case Govern():
                self.council.govern(event, turn)

    def _transfer_event(
        self, event: PayloadAsked | HandoverNamed | ResultAsked, turn: Turn
    ) -> None:
        if isinstance(event, ResultAsked):
            if event.claim_id.centre == self.me.name:
                self.home.checkpoint_asked(event, turn)
            else:
                self.host.result_asked(event, turn)
        elif not self.recovery.ready:
            error = self.recovery.refuse()
            turn.do(AnswerTransfer(transfer=event.transfer, error=error, retry=True))
        elif isinstance(event, PayloadAsked):
            self.home.payload_asked(event, turn)
        else:
            self.home.handover_named(event, turn)

    def _native_event(
        self,
        event: NativeQueued | NativeRunning | NativeEnded | NativeNotFound | NativeRefused,
        turn: Turn,
    ) -> None:
        match event:
            case NativeQueued():
                self.native_state[event.claim_id] = "queued"
            case NativeRunning():
                self.native_state[event.claim_id] = "running"
            case NativeEnded():
                self.host.native_ended(event, turn)
            case NativeNotFound():
                self.host.native_not_found(event, turn)
            case NativeRefused():
                self.host.native_refused(event, turn)
        if not isinstance(event, NativeQueued | NativeRunning):
            self.native_state.pop(event.claim_id, None)

    # What follows

    def _react(self, turn: Turn) -> None:
        """Reviews every claim that was touched, until nothing more follows."""
        if not self.recovery.ready:
            return
        if not self._was_ready:
            self._become_ready(turn)
        for feed in sorted(self.ledger.proofs):
            if feed not in self.ledger.live.convicted:
                self.ledger.write(self.ledger.proofs[feed], turn.now_ms)
        while self.ledger.touched:
            touched = self.ledger.touched.popleft()
            job = self.ledger.live.jobs.get(JobId(touched))
            if job is not None and touched.centre == self.me.name:
                self.home.review_job(job, turn)
            for claim_id in (ClaimId(touched),) if job is None else job.claims:
                entry = self.ledger.live.claims.get(claim_id)
                if entry is not None and self.host.is_ours(entry):
                    self.host.review(entry, turn)
                if entry is not None and self.home.is_ours(entry):
                    self.home.review(entry, turn)

    def _become_ready(self, turn: Turn) -> None:
        """Takes up, from the registers alone, everything that a former run left."""
        self._was_ready = True
        live = self.ledger.live
        if live.contacts.get(self.me.name) != self.me.address:
            self.ledger.write(Contact(address=self.me.address), turn.now_ms)
        self.ledger.touched.clear()
        # A crash may have come between a job's last receipt and the last word on it.
        own = (job for job in live.jobs.values() if job.job_id.centre == self.me.name)
        unsaid = [job.job_id for job in own if not job.done and live.judge(job).state.final]
        self.ledger.touched.extend(sorted(unsaid))
        # Nothing follows from a claim that is settled, and of those there are the most. What a
        # crash left of one in the spool is swept there.
        open_claims = (
            claim_id
            for claim_id, entry in live.claims.items()
            if entry.settlement is None or entry.state is not ClaimState.ENDED
        )
        # All that we hold is booked before anything is judged.
        for claim_id in sorted(open_claims):
            entry = live.claims[claim_id]
            if self.host.is_ours(entry):
                self.host.resume(entry, turn)
            if self.host.is_ours(entry) or self.home.is_ours(entry):
                self.ledger.touched.append(claim_id)
        self.control.apply(turn)
        self.home.siblings.resume(turn)

    def _finish(self, turn: Turn) -> list[Effect]:
        """Seals what the turn wrote, and puts the effects in the order that keeps every promise."""
        self._react(turn)
        self.trusted.follow(turn)
        beat_due_ms = self._beat_ms + self.ledger.rules.heartbeat_ms
        if self.recovery.ready and (self.ledger.unsealed or turn.now_ms >= beat_due_ms):
            self.ledger.seal(turn.now_ms)
            self._beat_ms = turn.now_ms
        durable = [*self.past.drain(), *self.ledger.drain()]
        own = [b for effect in durable for b in effect.blocks if b.feed == self.me.feed]
        pushes: list[Effect] = []
        for block in own:
            pushes += self.gossip.own_block(block, turn.now_ms)
        # A push follows what the turn says on the same link: the Hello of a link may be part of it.
        return [*durable, *turn.effects, *pushes, *(make() for make in turn.sealed)]


def _unkept(admission: Admission) -> list[BlockId]:
    """The blocks that had waited and were let go without being admitted."""
    return [*admission.dropped, *(refusal.block.block_id for refusal in admission.refused)]
