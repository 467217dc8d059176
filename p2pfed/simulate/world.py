"""A whole federation in one thread, from one seed: real nodes in a simulated world.

Theory of operation. The world owns the only clock and the only generator. Everything that happens
is an entry of one queue, ordered by time and then by number, so the same seed gives the same run.
The nodes are the daemon's own (`p2pfed.node`), signatures and wire bytes included; what surrounds
them is simulated: links that keep order but delay every piece by chance, disks that keep exactly
what was performed before a crash, batch systems whose jobs run on while their daemon is down, and
bulk connections for payloads and results.

A crash falls between two effects: what stood before it in the list is done, what stands after it
never happens. So a rule about the order of effects that is broken shows as a lost promise.

`p2pfed.simulate.checks` holds what can never break, and runs after every call of a node.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.charter import Card, Charter, draft_charter, sign_charter
from p2pfed.core.ids import CentreName, JobId, PublicKey
from p2pfed.core.keys import key_id
from p2pfed.core.records import Job, Offer
from p2pfed.core.rules import Rules
from p2pfed.node.admission import AdmissionPolicy
from p2pfed.node.effects import (
    AnswerTransfer,
    CancelNative,
    CheckpointCosigned,
    CloseLink,
    Dial,
    Effect,
    FetchPayload,
    FetchResult,
    ForgetClaim,
    ForgetPayload,
    ForgetResult,
    HistoryConfirmed,
    KeepSnapshot,
    NameHandover,
    Note,
    Reply,
    Send,
    SendCheckpoint,
    SendNamed,
    SendPayload,
    SendResult,
    SendStored,
    StoreBlocks,
    SubmitNative,
    TrustKeys,
    WatchNative,
)
from p2pfed.node.events import (
    CancelJob,
    Event,
    OpenOffer,
    RequestId,
    SubmitJob,
    Tick,
)
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.node import Node
from p2pfed.node.recovery import ROWS
from p2pfed.node.starting import begin
from p2pfed.simulate.batch import Batch
from p2pfed.simulate.checks import Checks
from p2pfed.simulate.memo import RememberingKeys
from p2pfed.simulate.network import Network
from p2pfed.simulate.scene import MIDNIGHT_MS, Centre, Faults, Scene
from p2pfed.simulate.transfers import Transfers
from p2pfed.store.highwater import Mark, begun

SNAPSHOT_EVERY: Final = 60
"""Blocks and records between two snapshots: so few that many starts begin with one."""
_CREDIT_LINE: Final = 100_000


class World(Scene):
    """A federation from a seed.

    Args:
        seed: everything random follows from it.
        centres: how many.
        rules: the federation's rules.
        faults: how unkind the world is.
        near_midnight: a day of the accounts ends soon after the beginning.
    """

    def __init__(
        self,
        seed: int,
        centres: int,
        rules: Rules,
        faults: Faults | None = None,
        *,
        near_midnight: bool = False,
    ) -> None:
        super().__init__(seed, faults or Faults())
        if near_midnight:
            self.begin_at(MIDNIGHT_MS - self.rng.randint(5_000, 40_000))
        self.deliver = self._deliver
        self.network = Network(self)
        self._transfers = Transfers(self, self.network.reaches)
        self.network.parted = self._transfers.part
        self._batch = Batch(self)
        names = [CentreName(f"c{i:03d}") for i in range(centres)]
        for name in names:
            self.centres[name] = self._make_centre(name)
        self.charter = self._found(rules)
        self.federation = Federation(
            id=self.charter.federation_id,
            keys=RememberingKeys((name, self.centres[name].public_key) for name in names),
            rules=rules,
            rules_version=1,
            credit_lines=dict.fromkeys(names, _CREDIT_LINE),
            addresses={name: f"{name}:1" for name in names},
        )
        self.checks = Checks(self, self.federation)
        for name in names:
            self.boot(name)

    def _found(self, rules: Rules) -> Charter:
        """The charter that all centres signed, so that their ledger can be audited as any other."""
        cards = [
            Card(name=name, public_key=c.public_key, address=f"{name}:1", credit_line=_CREDIT_LINE)
            for name, c in self.centres.items()
        ]
        charter = draft_charter(cards, rules, "simulated", self.start_ms)
        for name, centre in self.centres.items():
            charter = sign_charter(charter, name, centre.key)
        return charter

    def _make_centre(self, name: CentreName) -> Centre:
        key = Ed25519PrivateKey.from_private_bytes(self.rng.randbytes(32))
        limit_ms = self.faults.clock_offset_ms
        public_key = PublicKey(key.public_key().public_bytes_raw())
        centre = Centre(name, key, public_key, self.rng.randint(-limit_ms, limit_ms))
        centre.disk.mark = begun(name, public_key)
        return centre

    def join(self, name: CentreName) -> Centre:
        """Starts the daemon of one that is no founder; it writes nothing before it is voted in."""
        centre = self.centres[name] = self._make_centre(name)
        self.boot(name)
        return centre

    def card_of(self, name: CentreName) -> Card:
        """The card that a newcomer gives to the members."""
        centre = self.centres[name]
        return Card(
            name=name,
            public_key=centre.public_key,
            address=f"{name}:1",
            credit_line=_CREDIT_LINE,
        )

    def run(self, for_ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Lets time pass; returns True as soon as `until` holds, else whether it holds at last."""
        end_ms = self.now_ms + for_ms
        while self.step(end_ms):
            if until is not None and until():
                return True
        return until is not None and until()

    def all_up(self) -> bool:
        """True if every centre's daemon runs and may write."""
        return all(centre.up for centre in self.centres.values())

    # Life and death

    def boot(self, name: CentreName) -> None:
        """Starts the centre's daemon from its disk, as `p2pfed.shell.daemon` does."""
        centre = self.centres[name]
        if centre.node is not None:
            return
        me = Identity(
            name=name,
            signer=centre.key,
            kid=key_id(centre.public_key),
            address=f"{name}:1",
            epoch=centre.disk.epoch(name),
        )
        rng = Random(self.rng.getrandbits(64))

        def make_node() -> Node:
            return centre.kind(me, self.federation, AdmissionPolicy(), rng, centre.disk)

        node, _ = begin(make_node, centre.disk, centre.disk.snapshot, centre.disk.base)
        node.snapshot_every = SNAPSHOT_EVERY
        centre.node, centre.life, centre.wake_ms = node, centre.life + 1, -1
        centre.fetches.clear()
        centre.clock_told_wrong = False
        memory, target = centre.disk.judge(
            me.feed, node.ledger.head, begun(name, centre.public_key)
        )
        self.log("boot", name, memory.value)
        self.checks.booted(centre)
        rows = {k: v for k, v in sorted(centre.disk.local.items()) if k.startswith(ROWS)}
        self._perform(centre, node.start(memory, target, self.clock(centre), rows))

    def crash(self, name: CentreName, *, down_ms: int | None = None) -> None:
        """Kills the daemon and cuts the power at once; it comes back after a while."""
        centre = self.centres[name]
        if centre.node is None:
            return
        centre.node = None
        centre.life += 1
        self.checks.crashed(centre)
        centre.disk.lose_power()
        centre.held_up.clear()
        centre.held_events.clear()
        self.log("crash", name)
        self.network.crash(name)
        self._transfers.crash(name)
        wait_ms = self.rng.randint(*self.faults.down_ms) if down_ms is None else down_ms
        self.at(self.now_ms + wait_ms, lambda: self.boot(name))

    # Events and effects

    def _deliver(self, name: CentreName, events: tuple[Event, ...]) -> None:
        centre = self.centres[name]
        if centre.node is None:
            return
        if centre.held_up:
            centre.held_events += events
            return
        try:
            effects = centre.node.handle(events, self.clock(centre))
        except AssertionError:
            if centre.honest:
                raise
            self.crash(name)  # its owner did this to it
            return
        self._perform(centre, effects)

    def _perform(self, centre: Centre, effects: list[Effect]) -> None:
        self.checks.after_call(centre, effects)
        crash = bool(effects) and self.happens(self.faults.crash_per_mille)
        done = self.rng.randrange(len(effects) + 1) if crash else len(effects)
        for number, effect in enumerate(effects[:done]):
            if isinstance(effect, StoreBlocks) and centre.disk.full:
                # As the daemon does: it waits for the disk, and everything else waits for it.
                centre.held_up = effects[number:]
                self.log(centre.name, "disk full")
                return
            self.log(centre.name, type(effect).__name__)
            self.checks.before_effect(centre, effect)
            if not self._perform_one(centre, effect):
                return
        if crash:
            self.crash(centre.name)
        elif centre.node is not None:
            self._arm(centre, centre.node)

    def free_disk(self, centre: Centre) -> None:
        """The centre's disk takes writes again; what waited for it goes on."""
        centre.disk.full = False
        self.checks.resumed(centre)
        effects, centre.held_up = centre.held_up, []
        events, centre.held_events = centre.held_events, []
        if effects:
            self._perform(centre, effects)
        if events:
            self.tell(centre.name, *events)

    def _arm(self, centre: Centre, node: Node) -> None:
        life, wake_ms = centre.life, node.wake_ms() - self.offset_ms(centre)
        self.checks.asked_to_wake(centre, wake_ms)
        if centre.wake_ms == wake_ms:
            return
        centre.wake_ms = wake_ms

        def wake() -> None:
            if centre.life == life and centre.wake_ms == wake_ms:
                centre.wake_ms = -1
                self.tell(centre.name, Tick())

        self.at(wake_ms, wake)

    def _perform_one(self, centre: Centre, effect: Effect) -> bool:
        """Does one thing; False if the centre's power failed in the midst of it."""
        match effect:
            case KeepSnapshot():
                centre.disk.snapshot = effect.data
            case CheckpointCosigned():
                centre.disk.bearings = effect.bearings
            case HistoryConfirmed():
                centre.disk.base = None
            case StoreBlocks():
                return self._store(centre, effect)
            case Send() | SendStored() | SendNamed() | CloseLink() | Dial():
                self.network.perform(centre, effect)
            case Reply():
                self._answer(centre, effect)
            case SubmitNative():
                self._batch.perform(centre, effect)
                self.checks.submitted(centre, effect)
            case WatchNative() | CancelNative() | ForgetClaim() | ForgetPayload() | ForgetResult():
                self._batch.perform(centre, effect)
            case FetchPayload() | FetchResult():
                self._transfers.ask(centre, effect)
            case NameHandover() | AnswerTransfer() | SendPayload() | SendResult():
                self._transfers.perform(centre, effect)
            case SendCheckpoint():
                self._transfers.perform(centre, effect)
            case TrustKeys():
                centre.trusted = dict(effect.keys)
            case Note():
                pass
        return True

    def _store(self, centre: Centre, effect: StoreBlocks) -> bool:
        self.checks.to_be_stored(centre, effect)
        centre.disk.append(effect.blocks, effect.local, history=effect.history)
        for stored in effect.blocks:
            if stored.feed.centre == centre.name:
                block = self.checks.library.read(stored)
                said = map(_in_words, block.records)
                self.log(centre.name, f"writes {stored.seq_num}:", *said, block.block_id.hex()[:8])
        if effect.own_head is not None:
            if self.happens(self.faults.crash_per_mille):
                self.crash(centre.name)  # between the ledger's commit and the mark
                return False
            centre.disk.write_mark(Mark(*effect.own_head))
        return True

    def _answer(self, centre: Centre, reply: Reply) -> None:
        centre.replies[reply.request] = reply.error or reply.result
        if reply.error is None:
            self.checks.told(centre, reply)

    def forget_native(self, centre: Centre, name: str) -> None:
        """A batch system loses a job that waits there."""
        self._batch.forget(centre, name)

    def fail_native(self, centre: Centre, name: str) -> None:
        """A batch system's node fails under a job that runs there."""
        self._batch.fail(centre, name)

    @property
    def elapsed_ms(self) -> int:
        """How long the world has existed, by its own clock."""
        return self.now_ms - self.start_ms

    # Users and administrators

    def open_offer(self, name: CentreName, offer: Offer) -> int:
        """Opens an offer; the answer comes in `Centre.replies` under the number returned."""
        request = self.new_id()
        self.checks.asked(self.centres[name], request, "offer")
        self.centres[name].granted[request] = offer
        self.tell(name, OpenOffer(request=RequestId(request), offer=offer))
        return request

    def submit(self, name: CentreName, job: Job) -> int:
        """Posts a job; the answer comes as for `open_offer`."""
        request = self.new_id()
        self.checks.asked(self.centres[name], request, "submit")
        self.tell(name, SubmitJob(request=RequestId(request), job=job))
        return request

    def unanswered_submissions(self) -> int:
        """How many submissions never got an answer: their centre crashed before it."""
        return self.checks.unanswered("submit")

    def cancel(self, name: CentreName, job_id: JobId) -> int:
        """Cancels a job; the answer comes as for `open_offer`."""
        request = self.new_id()
        self.checks.asked(self.centres[name], request, "cancel")
        self.tell(name, CancelJob(request=RequestId(request), job_id=job_id))
        return request


def _in_words(record: object) -> str:
    """A record for a reader of the trace: its type, and what it is about."""
    about = getattr(record, "claim_id", None) or getattr(record, "job_id", None)
    return type(record).__name__ if about is None else f"{type(record).__name__}({about})"
