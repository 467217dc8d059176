"""A whole federation in one thread, from one seed: real nodes in a simulated world.

Theory of operation. The world owns the only clock and the only generator. Everything that happens
is an entry of one queue, ordered by time and then by number, so the same seed gives the same run.
The nodes are the daemon's own (`p2pfed.node`), signatures and wire bytes included; what surrounds
them is simulated: links that keep order but delay every piece by chance, disks that keep exactly
what was performed before a crash, batch systems whose jobs run on while their daemon is down, and
bulk connections for payloads and results.

A crash falls between two effects: what stood before it in the list is done, what stands after it
never happens. So a rule about the order of effects that is broken shows as a lost promise.

`World.check` holds what can never break (docs/explanation/reliability.md); it runs after every
step that could break it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.ids import CentreName, ClaimId, FederationId, FeedKey, Head, JobId, PublicKey
from p2pfed.core.keys import VerifyKeys, key_id
from p2pfed.core.records import Job, Offer, Outcome
from p2pfed.core.rules import Rules
from p2pfed.errors import P2pfedError
from p2pfed.node.effects import (
    AnswerTransfer,
    CancelNative,
    CloseLink,
    Dial,
    Effect,
    FetchPayload,
    FetchResult,
    ForgetClaim,
    ForgetPayload,
    NameHandover,
    Note,
    Reply,
    Send,
    SendPayload,
    SendResult,
    SendStored,
    StoreBlocks,
    StoredBlock,
    SubmitNative,
    WatchNative,
)
from p2pfed.node.events import (
    AdmissionPolicy,
    CancelJob,
    DialFailed,
    Event,
    HandoverNamed,
    LinkBytes,
    LinkDown,
    LinkId,
    LinkUp,
    NativeEnded,
    NativeNotFound,
    NativeRunning,
    OpenOffer,
    PayloadAsked,
    PayloadFailed,
    PayloadFetched,
    RequestId,
    ResultAsked,
    ResultFailed,
    ResultFetched,
    SubmitJob,
    Tick,
    TransferId,
)
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.node import Node
from p2pfed.node.recovery import Memory
from p2pfed.protocol.framing import frame_blocks

START_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How unkind the world is. Rates are per mille, times in milliseconds."""

    delay_ms: tuple[int, int] = (1, 40)
    crash_per_mille: int = 0
    cut_per_mille: int = 0
    down_ms: tuple[int, int] = (200, 8_000)
    clock_offset_ms: int = 0


@dataclass(slots=True)
class Native:
    """A job in a simulated batch system: it lives whether or not its daemon does."""

    job: Job
    begins_ms: int
    ends_ms: int
    outcome: Outcome = Outcome.COMPLETED
    reported: bool = False


@dataclass(slots=True)
class Disk:
    """What survives a crash."""

    blocks: list[StoredBlock] = field(default_factory=list)
    local: dict[str, bytes] = field(default_factory=dict)
    mark: Head | None = None
    natives: dict[str, Native] = field(default_factory=dict)
    payloads: set[ClaimId] = field(default_factory=set)


@dataclass(slots=True)
class Centre:
    """One simulated centre."""

    name: CentreName
    key: Ed25519PrivateKey
    clock_offset_ms: int
    disk: Disk = field(default_factory=Disk)
    node: Node | None = None
    life: int = 0
    wake_ms: int = -1
    fetches: dict[ClaimId, TransferId] = field(default_factory=dict)
    replies: dict[int, str | P2pfedError] = field(default_factory=dict)


@dataclass(slots=True)
class Link:
    """One connection: each end has its own id for it, each direction keeps its order."""

    ends: tuple[tuple[CentreName, LinkId], tuple[CentreName, LinkId]]
    free_ms: list[int] = field(default_factory=lambda: [0, 0])
    open: bool = True


@dataclass(slots=True)
class Transfer:
    """A bulk connection that a host or home opened, as its other end sees it."""

    claim_id: ClaimId
    asker: CentreName
    asked: CentreName
    kind: str


class World:
    """A federation from a seed.

    Args:
        seed: everything random follows from it.
        centres: how many.
        rules: the federation's rules.
        faults: how unkind the world is.
    """

    def __init__(self, seed: int, centres: int, rules: Rules, faults: Faults | None = None) -> None:
        self.rng = Random(seed)
        self.seed = seed
        self.rules = rules
        self.faults = faults or Faults()
        self.now_ms = START_MS
        self.trace = hashlib.sha256()
        self.runs: dict[JobId, list[tuple[int, int, ClaimId]]] = {}
        self.steps = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._ids = 0
        self._links: dict[tuple[CentreName, LinkId], Link] = {}
        self._transfers: dict[TransferId, Transfer] = {}
        names = [CentreName(f"c{i:03d}") for i in range(centres)]
        self.centres = {
            name: Centre(
                name,
                Ed25519PrivateKey.from_private_bytes(self.rng.randbytes(32)),
                self.rng.randint(-self.faults.clock_offset_ms, self.faults.clock_offset_ms),
            )
            for name in names
        }
        publics = {n: PublicKey(c.key.public_key().public_bytes_raw()) for n, c in self._items()}
        self.federation = Federation(
            id=FederationId(hashlib.sha256(b"simulated").digest()),
            keys=VerifyKeys(sorted(publics.items())),
            rules=rules,
            rules_version=1,
            credit_lines=dict.fromkeys(names, 100_000),
            addresses={name: f"{name}:1" for name in names},
        )
        for name in names:
            self.boot(name)

    def _items(self) -> list[tuple[CentreName, Centre]]:
        return sorted(self.centres.items())

    # Time

    def at(self, when_ms: int, action: Callable[[], None]) -> None:
        """Does something at a time of the world's clock."""
        self._count += 1
        heapq.heappush(self._queue, (max(when_ms, self.now_ms), self._count, action))

    def soon(self, action: Callable[[], None]) -> None:
        """Does something after a random delay of the network."""
        self.at(self.now_ms + self.rng.randint(*self.faults.delay_ms), action)

    def run(self, for_ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Lets time pass; returns True as soon as `until` holds, False when the time is over."""
        end_ms = self.now_ms + for_ms
        while self._queue and self._queue[0][0] <= end_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
            self.steps += 1
            if until is not None and until():
                return True
        self.now_ms = end_ms
        return until is not None and until()

    def clock(self, centre: Centre) -> int:
        """What the centre's clock shows."""
        return self.now_ms + centre.clock_offset_ms

    # Life and death

    def boot(self, name: CentreName) -> None:
        """Starts the centre's daemon from its disk."""
        centre = self.centres[name]
        public = PublicKey(centre.key.public_key().public_bytes_raw())
        me = Identity(
            name=name, signer=centre.key, kid=key_id(public), address=f"{name}:1", epoch=0
        )
        node = Node(me, self.federation, AdmissionPolicy(), Random(self.rng.getrandbits(64)))
        for block in centre.disk.blocks:
            node.replay(block.data)
        centre.node, centre.life, centre.wake_ms = node, centre.life + 1, -1
        centre.fetches.clear()
        head, mark = node.ledger.head, centre.disk.mark
        memory, target = judge(head, mark)
        self._perform(centre, node.start(memory, target, self.clock(centre)))

    def crash(self, name: CentreName) -> None:
        """Kills the daemon at once; it comes back after a while."""
        centre = self.centres[name]
        if centre.node is None:
            return
        centre.node = None
        centre.life += 1
        self._log("crash", name)
        for link in list(self._links.values()):
            if link.open and any(end[0] == name for end in link.ends):
                self._cut(link)
        self.at(self.now_ms + self.rng.randint(*self.faults.down_ms), lambda: self.boot(name))

    def _log(self, *words: object) -> None:
        self.trace.update(f"{self.now_ms} {' '.join(map(str, words))}\n".encode())

    # Events and effects

    def tell(self, name: CentreName, *events: Event) -> None:
        """Hands events to a node that is up; a node that is down never hears of them."""
        centre = self.centres[name]
        if centre.node is not None:
            self._perform(centre, centre.node.handle(events, self.clock(centre)))

    def _perform(self, centre: Centre, effects: list[Effect]) -> None:
        crash = self.rng.randrange(1000) < self.faults.crash_per_mille and bool(effects)
        done = self.rng.randrange(len(effects) + 1) if crash else len(effects)
        for effect in effects[:done]:
            self._log(centre.name, type(effect).__name__)
            self._perform_one(centre, effect)
        if crash:
            self.crash(centre.name)
        elif centre.node is not None:
            self._arm(centre)

    def _arm(self, centre: Centre) -> None:
        node, life = centre.node, centre.life
        if node is None:
            return
        wake_ms = node.wake_ms() - centre.clock_offset_ms
        if centre.wake_ms == wake_ms:
            return
        centre.wake_ms = wake_ms

        def wake() -> None:
            if centre.life == life and centre.wake_ms == wake_ms:
                centre.wake_ms = -1
                self.tell(centre.name, Tick())

        self.at(wake_ms, wake)

    def _perform_one(self, centre: Centre, effect: Effect) -> None:
        match effect:
            case StoreBlocks():
                self._store(centre, effect)
            case Send():
                self._send(centre.name, effect.link, effect.data)
            case SendStored():
                self._send_stored(centre, effect)
            case CloseLink():
                link = self._links.get((centre.name, effect.link))
                if link is not None and link.open:
                    self._cut(link)
            case Dial():
                self.soon(lambda: self._connect(centre.name, effect.centre, centre.life))
            case Reply():
                centre.replies[effect.request] = effect.error or effect.result
            case SubmitNative() | WatchNative() | CancelNative() | ForgetClaim():
                self._batch(centre, effect)
            case FetchPayload() | FetchResult():
                self._ask(centre, effect)
            case NameHandover() | AnswerTransfer() | SendPayload() | SendResult():
                self._bulk(centre, effect)
            case ForgetPayload() | Note():
                pass

    def _store(self, centre: Centre, effect: StoreBlocks) -> None:
        centre.disk.blocks += effect.blocks
        centre.disk.local.update(effect.local)
        for block in effect.blocks:
            self._log(block.feed.centre, block.seq_num, block.block_id.hex())
        if effect.own_head is not None:
            if self.rng.randrange(1000) < self.faults.crash_per_mille:
                return  # as if power failed between the commit and the high-water file
            centre.disk.mark = effect.own_head[1]

    # Links

    def _new_id(self) -> int:
        self._ids += 1
        return self._ids

    def _connect(self, dialler: CentreName, listener: CentreName, life: int) -> None:
        here, there = self.centres[dialler], self.centres[listener]
        if here.node is None or here.life != life:
            return
        if there.node is None:
            self.tell(dialler, DialFailed(centre=listener, why="down"))
            return
        link = Link(((dialler, LinkId(self._new_id())), (listener, LinkId(self._new_id()))))
        self._links.update(dict.fromkeys(link.ends, link))
        for (name, link_id), other, outbound in (
            (link.ends[0], listener, True),
            (link.ends[1], dialler, False),
        ):
            self.tell(name, LinkUp(link=link_id, centre=other, outbound=outbound))

    def _send(self, name: CentreName, link_id: LinkId, data: bytes) -> None:
        link = self._links.get((name, link_id))
        if link is None or not link.open:
            return
        if self.rng.randrange(1000) < self.faults.cut_per_mille:
            self._cut(link)
            return
        side = 0 if link.ends[0] == (name, link_id) else 1
        other, other_id = link.ends[1 - side]
        arrive_ms = max(link.free_ms[side], self.now_ms + self.rng.randint(*self.faults.delay_ms))
        link.free_ms[side] = arrive_ms
        cut = self.rng.randrange(len(data) + 1)
        for piece in (data[:cut], data[cut:]):
            if piece:
                self.at(arrive_ms, self._arrival(link, other, other_id, piece))

    def _arrival(
        self, link: Link, name: CentreName, link_id: LinkId, data: bytes
    ) -> Callable[[], None]:
        def arrive() -> None:
            if link.open:
                self.tell(name, LinkBytes(link=link_id, data=data))

        return arrive

    def _send_stored(self, centre: Centre, effect: SendStored) -> None:
        blocks = [
            b.data
            for b in sorted(centre.disk.blocks, key=lambda b: b.seq_num)
            if b.feed == effect.feed and effect.from_seq <= b.seq_num <= effect.to_seq
        ]
        self._send(centre.name, effect.link, frame_blocks(blocks))

    def _cut(self, link: Link) -> None:
        link.open = False
        for name, link_id in link.ends:
            self._links.pop((name, link_id), None)
            self.at(self.now_ms, self._down(name, link_id, self.centres[name].life))

    def _down(self, name: CentreName, link_id: LinkId, life: int) -> Callable[[], None]:
        def down() -> None:
            if self.centres[name].life == life:
                self.tell(name, LinkDown(link=link_id))

        return down

    # Bulk connections

    def _ask(self, centre: Centre, effect: FetchPayload | FetchResult) -> None:
        if isinstance(effect, FetchPayload):
            if effect.claim_id in centre.disk.payloads:
                self._later(centre, PayloadFetched(claim_id=effect.claim_id))
                return
            asked, kind = effect.home, "payload"
        else:
            asked, kind = effect.host, "result"
        transfer = TransferId(self._new_id())
        self._transfers[transfer] = Transfer(effect.claim_id, centre.name, asked, kind)
        if kind == "payload":
            centre.fetches[effect.claim_id] = transfer
        there, life = self.centres[asked], centre.life

        def arrive() -> None:
            if there.node is None:
                self._fail(transfer, life, final=False)
            elif kind == "payload":
                self.tell(
                    asked,
                    PayloadAsked(transfer=transfer, centre=centre.name, claim_id=effect.claim_id),
                )
            else:
                self.tell(
                    asked,
                    ResultAsked(transfer=transfer, centre=centre.name, claim_id=effect.claim_id),
                )

        self.soon(arrive)

    def _later(self, centre: Centre, event: Event) -> None:
        life = centre.life

        def arrive() -> None:
            if centre.life == life:
                self.tell(centre.name, event)

        self.soon(arrive)

    def _fail(self, transfer: TransferId, life: int, *, final: bool) -> None:
        told = self._transfers.pop(transfer, None)
        if told is None or self.centres[told.asker].life != life:
            return
        failed = PayloadFailed if told.kind == "payload" else ResultFailed
        self._later(
            self.centres[told.asker], failed(claim_id=told.claim_id, why="refused", final=final)
        )

    def _bulk(
        self, centre: Centre, effect: NameHandover | AnswerTransfer | SendPayload | SendResult
    ) -> None:
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
            self._later(self.centres[told.asked], named)
            return
        told = self._transfers.get(effect.transfer)
        if told is None:
            return
        asker = self.centres[told.asker]
        if isinstance(effect, AnswerTransfer):
            if effect.error is not None:
                self._fail(effect.transfer, asker.life, final=not effect.retry)
        elif isinstance(effect, SendPayload):
            del self._transfers[effect.transfer]
            asker.disk.payloads.add(told.claim_id)
            self._later(asker, PayloadFetched(claim_id=told.claim_id))
        else:
            del self._transfers[effect.transfer]
            self._later(asker, ResultFetched(claim_id=told.claim_id))

    # Batch systems

    def _batch(
        self, centre: Centre, effect: SubmitNative | WatchNative | CancelNative | ForgetClaim
    ) -> None:
        natives = centre.disk.natives
        match effect:
            case ForgetClaim():
                centre.disk.payloads.discard(effect.claim_id)
            case SubmitNative():
                if effect.native_name not in natives:
                    begins_ms = self.now_ms + self.rng.randint(0, 500)
                    runs_ms = self.rng.randint(200, effect.job.walltime_s * 1000)
                    native = Native(effect.job, begins_ms, begins_ms + runs_ms)
                    natives[effect.native_name] = native
                    assert effect.claim_id in centre.disk.payloads, "started without its payload"
                    self._note_run(effect.claim_id, native, centre, effect.kill_at_ms)
                self._watch(centre, effect.claim_id, effect.native_name)
            case WatchNative():
                if effect.native_name in natives:
                    self._watch(centre, effect.claim_id, effect.native_name)
                else:
                    self._later(centre, NativeNotFound(claim_id=effect.claim_id))
            case CancelNative():
                native_ = natives.get(effect.native_name)
                if native_ is not None and native_.ends_ms > self.now_ms:
                    native_.ends_ms = self.now_ms + 10
                    native_.outcome = Outcome.CANCELLED

    def _note_run(self, claim_id: ClaimId, native: Native, centre: Centre, kill_at_ms: int) -> None:
        node = centre.node
        assert node is not None
        job = node.ledger.live.job_of(claim_id)
        assert job is not None
        limit_ms = kill_at_ms - centre.clock_offset_ms
        assert native.ends_ms <= limit_ms, "a native job would outlive its lease"
        self.runs.setdefault(job.job_id, []).append((native.begins_ms, limit_ms, claim_id))

    def _watch(self, centre: Centre, claim_id: ClaimId, name: str) -> None:
        native, life = centre.disk.natives[name], centre.life

        def look() -> None:
            if centre.life != life:
                return
            if self.now_ms < native.ends_ms:
                self.at(native.ends_ms, look)
                return
            offset = centre.clock_offset_ms
            elapsed_s = -(-(native.ends_ms - native.begins_ms) // 1000)
            cores = native.job.nodes * native.job.cores_per_node
            self.tell(
                centre.name,
                NativeEnded(
                    claim_id=claim_id,
                    outcome=native.outcome,
                    started_ms=native.begins_ms + offset,
                    ended_ms=native.ends_ms + offset,
                    core_s=max(0, elapsed_s) * cores,
                    result_digest=hashlib.sha256(name.encode()).digest(),
                    result_bytes=100,
                ),
            )

        running = NativeRunning(claim_id=claim_id, started_ms=native.begins_ms)
        self._later(centre, running)
        self.at(native.ends_ms, look)

    # Users and administrators

    def open_offer(self, name: CentreName, offer: Offer) -> int:
        """Opens an offer; the answer comes in `Centre.replies` under the number returned."""
        request = self._new_id()
        self.tell(name, OpenOffer(request=RequestId(request), offer=offer))
        return request

    def submit(self, name: CentreName, job: Job) -> int:
        """Posts a job; the answer comes as for `open_offer`."""
        request = self._new_id()
        self.tell(name, SubmitJob(request=RequestId(request), job=job))
        return request

    def cancel(self, name: CentreName, job_id: JobId) -> int:
        """Cancels a job; the answer comes as for `open_offer`."""
        request = self._new_id()
        self.tell(name, CancelJob(request=RequestId(request), job_id=job_id))
        return request


def judge(head: Head | None, mark: Head | None) -> tuple[Memory, Head | None]:
    """What a disk says of itself: the table of design section 3, as `p2pfed.store` reads it."""
    if mark is None:
        return (Memory.SURE if head is None or head.seq_num == 0 else Memory.UNSURE), None
    seq_num = -1 if head is None else head.seq_num
    if mark.seq_num > seq_num:
        return Memory.BEHIND, mark
    return (Memory.SURE if seq_num - mark.seq_num <= 1 else Memory.UNSURE), None


def own_feed(name: CentreName) -> FeedKey:
    """The feed of a simulated centre."""
    return FeedKey(name, 0)
