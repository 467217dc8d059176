"""What a simulated federation is made of: time, chance, centres, their disks and native jobs."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.ids import BlockId, CentreName, ClaimId, FeedKey, Head, JobId, Place, PublicKey
from p2pfed.core.records import Job, Outcome
from p2pfed.errors import P2pfedError
from p2pfed.node.effects import StoredBlock
from p2pfed.node.events import Event, TransferId
from p2pfed.node.node import Node
from p2pfed.simulate.disk import NO_BLOCK_YET

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
    look: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Run:
    """A native job that was really submitted, in the world's time."""

    claim_id: ClaimId
    host: CentreName
    native: Native
    limit_ms: int


@dataclass(slots=True)
class Disk:
    """What survives a crash."""

    blocks: list[StoredBlock] = field(default_factory=list)
    local: dict[str, bytes] = field(default_factory=dict)
    mark: Head | None = NO_BLOCK_YET
    natives: dict[str, Native] = field(default_factory=dict)
    payloads: set[ClaimId] = field(default_factory=set)

    snapshot: bytes | None = None

    # What a node reads back.

    def index(self) -> Iterable[Place]:
        """Where each block stands, in the order in which they were stored."""
        return [
            Place(number, b.feed, b.seq_num, b.block_id, b.time, b.side)
            for number, b in enumerate(self.blocks)
        ]

    def data(self, admission: int) -> bytes:
        """The bytes of the block with this number."""
        return self.blocks[admission].data

    def block_id(self, feed: FeedKey, seq_num: int) -> BlockId | None:
        """The id of the block at this place of the feed, None if there is none."""
        found = (b for b in self.blocks if (b.feed, b.seq_num, b.side) == (feed, seq_num, False))
        return next((b.block_id for b in found), None)

    def has_branches(self) -> bool:
        """Whether a block stands beside its feed."""
        return any(block.side for block in self.blocks)

    def block(self, feed: FeedKey, seq_num: int) -> bytes | None:
        """The block at this place of the feed, None if there is none."""
        found = (b for b in self.blocks if (b.feed, b.seq_num, b.side) == (feed, seq_num, False))
        return next((b.data for b in found), None)

    def stored(self) -> Iterable[bytes]:
        """All blocks, in the order in which they were stored."""
        return [block.data for block in self.blocks]


@dataclass(slots=True)
class Centre:
    """One simulated centre."""

    name: CentreName
    key: Ed25519PrivateKey
    public_key: PublicKey
    clock_offset_ms: int
    disk: Disk = field(default_factory=Disk)
    node: Node | None = None
    life: int = 0
    wake_ms: int = -1
    trusted: dict[CentreName, PublicKey] = field(default_factory=dict)
    fetches: dict[ClaimId, TransferId] = field(default_factory=dict)
    replies: dict[int, str | P2pfedError] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """True if the daemon runs and may write."""
        return self.node is not None and self.node.recovery.ready


class Scene:
    """Time and chance of one world, its centres, and what all its parts need of each other.

    Args:
        seed: everything random follows from it.
        faults: how unkind the world is; may be exchanged while it runs.
    """

    def __init__(self, seed: int, faults: Faults) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.faults = faults
        self.now_ms = START_MS
        self.centres: dict[CentreName, Centre] = {}
        self.runs: dict[JobId, list[Run]] = {}
        self.trace = hashlib.sha256()
        self.listener: Callable[[str], None] | None = None
        self.deliver: Callable[[CentreName, tuple[Event, ...]], None] = _nobody
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._ids = 0

    def at(self, when_ms: int, action: Callable[[], None]) -> None:
        """Does something at a time of the world's clock."""
        self._count += 1
        heapq.heappush(self._queue, (max(when_ms, self.now_ms), self._count, action))

    def soon(self, action: Callable[[], None]) -> None:
        """Does something after a random delay of the network."""
        self.at(self.now_ms + self.delay_ms(), action)

    def delay_ms(self) -> int:
        """A delay of the network."""
        return self.rng.randint(*self.faults.delay_ms)

    def happens(self, per_mille: int) -> bool:
        """True as often as that."""
        return self.rng.randrange(1000) < per_mille

    def step(self, end_ms: int) -> bool:
        """Does what comes next, if it comes by then; False if nothing does."""
        if not self._queue or self._queue[0][0] > end_ms:
            self.now_ms = end_ms
            return False
        self.now_ms, _, action = heapq.heappop(self._queue)
        action()
        return True

    def new_id(self) -> int:
        """A number that was not used before."""
        self._ids += 1
        return self._ids

    def clock(self, centre: Centre) -> int:
        """What the centre's clock shows."""
        return self.now_ms + centre.clock_offset_ms

    def log(self, *words: object) -> None:
        """Adds a line to the trace, whose hash tells whether two runs were the same."""
        line = f"{self.now_ms} {' '.join(map(str, words))}"
        self.trace.update(f"{line}\n".encode())
        if self.listener is not None:
            self.listener(line)

    def tell(self, name: CentreName, *events: Event) -> None:
        """Hands events to a node; one that is down never hears of them."""
        if self.centres[name].node is not None:
            self.deliver(name, events)

    def later(self, centre: Centre, event: Event) -> None:
        """Tells this life of a centre something after a delay."""
        life = centre.life

        def arrive() -> None:
            if centre.life == life:
                self.tell(centre.name, event)

        self.soon(arrive)


def _nobody(name: CentreName, events: tuple[Event, ...]) -> None:
    raise AssertionError(f"{name} is told {events} in a world without nodes")
